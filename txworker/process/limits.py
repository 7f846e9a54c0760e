"""Limits as the kernel knows them (setrlimit(2))."""

from __future__ import annotations

import math
import resource

from txworker.jobs import Limits

CPU_PATIENCE_SECONDS = 5
"""Between SIGXCPU, at the limit, and KILL."""


def kernel_limits(limits: Limits) -> tuple[tuple[str, int, int, int], ...]:
    """
    Each limit that was said as (name, RLIMIT_ number, soft, hard), never above what this process may have itself.

    Memory is address space, per process; processes count for the whole user, and do not bind root.
    """
    cpu = math.ceil(limits.max_cpu_seconds)
    said = (
        ("limits.maxMemoryBytes", resource.RLIMIT_AS, limits.max_memory_bytes, limits.max_memory_bytes),
        ("limits.maxCPU", resource.RLIMIT_CPU, cpu, cpu + CPU_PATIENCE_SECONDS),
        ("limits.maxOpenFiles", resource.RLIMIT_NOFILE, limits.max_open_files, limits.max_open_files),
        ("limits.maxProcesses", resource.RLIMIT_NPROC, limits.max_processes, limits.max_processes),
    )
    return tuple(
        (name, number, _at_most(soft, number), _at_most(hard, number)) for name, number, soft, hard in said if soft
    )


def _at_most(value: int, number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
