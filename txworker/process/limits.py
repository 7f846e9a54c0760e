"""A job's limits as the kernel has them (setrlimit(2))."""

from __future__ import annotations

import math
import resource

from txworker.jobs import Limits

CPU_GRACE_SECONDS = 5
"""From SIGXCPU, which the kernel sends at the limit, to KILL."""


def kernel_limits(limits: Limits) -> tuple[tuple[str, int, int, int], ...]:
    """
    Each limit that is set, as (field name, RLIMIT_ number, soft, hard), at most the hard limit of this process.

    The memory limit is for the address space of each process. The limit of processes is for the whole user, and does
    not apply to root.
    """
    cpu = math.ceil(limits.max_cpu_seconds)
    wanted = (
        ("limits.maxMemoryBytes", resource.RLIMIT_AS, limits.max_memory_bytes, limits.max_memory_bytes),
        ("limits.maxCPU", resource.RLIMIT_CPU, cpu, cpu + CPU_GRACE_SECONDS),
        ("limits.maxOpenFiles", resource.RLIMIT_NOFILE, limits.max_open_files, limits.max_open_files),
        ("limits.maxProcesses", resource.RLIMIT_NPROC, limits.max_processes, limits.max_processes),
    )
    return tuple(
        (name, number, _at_most(soft, number), _at_most(hard, number)) for name, number, soft, hard in wanted if soft
    )


def _at_most(value: int, number: int) -> int:
    hard = resource.getrlimit(number)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
