"""Processes as /proc shows them: who is whose child, since when, with which mark. And signals that hit no other."""

from __future__ import annotations

import contextlib
import os
import signal as signals
from collections.abc import Iterator
from dataclasses import dataclass

from txworker.jobs import MARK


@dataclass(frozen=True)
class Process:
    """One process at one moment; pid and start (clock ticks since boot) are its identity until a reboot."""

    pid: int
    parent: int
    session: int
    start: int
    zombie: bool


def read_process(pid: int) -> Process | None:
    """That process now, or None when there is none. Source: proc_pid_stat(5)."""
    text = _contents(f"/proc/{pid}/stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()  # the name before may hold anything
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in (b"Z", b"X"))


def children(pid: int) -> list[int]:
    """The children of every thread of that process; empty when it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += children_of_thread(pid, int(task))
    return found


def children_of_thread(pid: int, thread: int) -> list[int]:
    """The children of one thread, orphans that it adopted among them; empty when it is gone."""
    return list(map(int, _contents(f"/proc/{pid}/task/{thread}/children").split()))


def tree(root: int) -> Iterator[Process]:
    """A process and all that descend from it, parents first."""
    process = read_process(root)
    if process is not None:
        yield process
        for child in children(root):
            yield from tree(child)


def mark_of(pid: int) -> str | None:
    """The job id in the environment that a process was started with."""
    prefix = f"{MARK}=".encode()
    for entry in _contents(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def send(process: Process, number: int) -> None:
    """Signal that process, and no other that was given its number since; gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(process.pid)
        try:
            now = read_process(process.pid)
            if now is not None and now.start == process.start:  # the pidfd is of this one, whatever comes after
                signals.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def ticks_since_boot(boottime_seconds: float) -> int:
    """As Process.start counts, from time.clock_gettime(CLOCK_BOOTTIME)."""
    return int(boottime_seconds * os.sysconf("SC_CLK_TCK"))


def _contents(path: str) -> bytes:
    """Of a small file of /proc; empty when its process is gone or not ours to look at."""
    blocks = []
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                blocks.append(os.read(fd, 1 << 20))
                if len(blocks[-1]) < 4000:  # /proc gives about a page at a time, less only at the end
                    break
        finally:
            os.close(fd)
    return b"".join(blocks)
