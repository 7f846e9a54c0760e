"""Limits of a job: requested by the client, the worker's defaults, and the worker's ceilings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

from txworker.jobs.errors import InvalidRequest

WIRE_NAMES = {
    "max_output_bytes": "maxOutputBytes",
    "max_memory_bytes": "maxMemoryBytes",
    "max_cpu_seconds": "maxCPU",
    "max_open_files": "maxOpenFiles",
    "max_processes": "maxProcesses",
}
"""The names of the fields in the message Limits."""


@dataclass(frozen=True)
class Limits:
    """
    What a job may use; 0: not set. All but the output are limits of setrlimit(2).

    max_output_bytes: of the output file, and as much of that of a separate stderr; more is discarded.
    max_memory_bytes: address space of each process (RLIMIT_AS).
    max_cpu_seconds: CPU time of each process (RLIMIT_CPU).
    max_open_files: descriptors of each process (RLIMIT_NOFILE).
    max_processes: processes of the job's user, not of the job alone; not enforced for root (RLIMIT_NPROC).
    """

    max_output_bytes: int = 0
    max_memory_bytes: int = 0
    max_cpu_seconds: float = 0.0
    max_open_files: int = 0
    max_processes: int = 0


@lru_cache(maxsize=256)  # most jobs set no limits
def effective(requested: Limits, default: Limits, ceiling: Limits) -> Limits:
    """
    The limits that a job runs with: for each the requested value, else the default, else the ceiling.

    Raises:
        InvalidRequest: a requested value is above the ceiling.
    """
    chosen = {}
    for field in fields(Limits):
        name = field.name
        wanted, most = getattr(requested, name), getattr(ceiling, name)
        if most and wanted > most:
            raise InvalidRequest(
                f"limits.{WIRE_NAMES[name]}", wanted, f"is more than this worker allows (jobs.ceilings.{name} = {most})"
            )
        chosen[name] = wanted or getattr(default, name) or most
    return Limits(**chosen)
