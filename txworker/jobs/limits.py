"""What a job may use: as it was asked for, as the worker has it by default, and at most."""

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
"""What a request calls them."""


@dataclass(frozen=True)
class Limits:
    """What a job may use at most; 0: not said. CPU in seconds."""

    max_output_bytes: int = 0
    max_memory_bytes: int = 0
    max_cpu_seconds: float = 0.0
    max_open_files: int = 0
    max_processes: int = 0


@lru_cache(maxsize=256)  # most orders say nothing
def effective(asked: Limits, default: Limits, ceiling: Limits) -> Limits:
    """
    The limits a job gets: those it asked for, else the default, else the ceiling.

    Raises:
        InvalidRequest: it asked for more than the ceiling.
    """
    chosen = {}
    for field in fields(Limits):
        name = field.name
        wanted, most = getattr(asked, name), getattr(ceiling, name)
        if most and wanted > most:
            raise InvalidRequest(
                f"limits.{WIRE_NAMES[name]}", wanted, f"is more than this worker allows (jobs.ceilings.{name} = {most})"
            )
        chosen[name] = wanted or getattr(default, name) or most
    return Limits(**chosen)
