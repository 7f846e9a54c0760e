"""What processes use now: memory and CPU time, from /proc/PID/stat (proc_pid_stat(5)) and cpu.stat of a cgroup."""

from __future__ import annotations

import os
from dataclasses import dataclass

from txworker.linux.clock import TICKS_PER_SECOND
from txworker.linux.procfs import contents

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class ProcessUsage:
    """
    One process at one moment. The CPU times have those of all descendants that it has waited for.

    A zombie uses no memory, and its CPU time is in no other process's yet.
    """

    pid: int
    parent: int
    session: int
    zombie: bool
    rss_bytes: int
    user_seconds: float
    system_seconds: float


def process_usage(pid: int, root: str = "/proc") -> ProcessUsage | None:
    """
    What that process uses; None when there is no such process, or this user may not read it.

    Raises:
        OSError: there is no descriptor or no memory to read with.
    """
    text = contents(f"{root}/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the command name before it may contain anything
    user, system, waited_user, waited_system = (int(field) for field in fields[11:15])
    return ProcessUsage(
        pid,
        int(fields[1]),
        int(fields[3]),
        fields[0] in (b"Z", b"X") and int(fields[17]) < 2,  # as in procfs.py
        int(fields[21]) * _PAGE_BYTES,
        (user + waited_user) / TICKS_PER_SECOND,
        (system + waited_system) / TICKS_PER_SECOND,
    )


def cgroup_cpu(path: str) -> tuple[float, float] | None:
    """
    The user and the system CPU time, in seconds, of all processes that were ever in that cgroup or below it; None when
    the kernel does not tell. No controller is needed for it (cgroups, Documentation/admin-guide/cgroup-v2.rst).

    Raises:
        OSError: there is no descriptor or no memory to read with.
    """
    found = dict(line.split() for line in contents(f"{path}/cpu.stat").splitlines())
    try:
        return int(found[b"user_usec"]) / 1e6, int(found[b"system_usec"]) / 1e6
    except KeyError:
        return None
