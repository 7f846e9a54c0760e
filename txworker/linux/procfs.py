"""Processes as /proc shows them: who is whose child, since when, with which tags. And signals that hit no other."""

from __future__ import annotations

import contextlib
import os
import signal as signals
from collections.abc import Iterator
from dataclasses import dataclass

_READ_BYTES = 32 * 1024
_FULL_BYTES = 4000
"""/proc gives about a page at a time, less only at the end."""


@dataclass(frozen=True)
class Process:
    """
    One process at one moment; pid and start (clock ticks since boot) are its identity until a reboot.

    A zombie has ended. One whose first thread alone has ended is none, though its state says so.
    """

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
    zombie = fields[0] in (b"Z", b"X") and int(fields[17]) < 2
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), zombie)


def children(pid: int) -> list[int]:
    """The children of every thread of that process; empty when it is gone."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _contents(f"/proc/{pid}/task/{task}/children").split())
    return found


class ThreadChildren:
    """The children of one thread of a process, orphans that it adopted among them; read again and again."""

    def __init__(self, pid: int, thread_id: int) -> None:
        self._fd = os.open(f"/proc/{pid}/task/{thread_id}/children", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> list[int]:
        """Those that are there now; none when the process has ended."""
        text = b""
        with contextlib.suppress(ProcessLookupError):
            text = self._text()
        return list(map(int, text.split()))

    def _text(self) -> bytes:
        text = b""
        while block := os.pread(self._fd, _READ_BYTES, len(text)):
            text += block
            if len(block) < _FULL_BYTES:
                break
        return text

    def close(self) -> None:
        """Not needed any more; who asks all the same gets OSError."""
        os.close(self._fd)
        self._fd = -1


def tree(root: int, gone: set[int]) -> Iterator[Process]:
    """A process and all that descend from it, parents first; who was there and is no more is added to gone."""
    queue = [root]
    for pid in queue:
        process = read_process(pid)
        if process is not None:
            yield process
            queue += children(pid)
        else:
            gone.add(pid)


def environment_tag_of(pid: int, variable: str) -> str | None:
    """What that variable held in the environment that a process was started with; None: it was not there."""
    text = _contents(f"/proc/{pid}/environ") or _environ_of_threads(pid)
    prefix = f"{variable}=".encode()
    for entry in text.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return None


def cgroup_of(pid: int) -> str:
    """The path of its cgroup in the v2 hierarchy; empty when there is none."""
    for line in _contents(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith(b"0::"):
            return line[3:].decode(errors="replace")
    return ""


def uid_of(pid: int) -> int | None:
    """The effective user that it runs as; None when it is gone."""
    for line in _contents(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[2])
    return None


def rlimit_tag_of(pid: int) -> int:
    """The rlimit tag that a process was born with (rlimit_tag.py); 0 when it has none."""
    for line in _contents(f"/proc/{pid}/limits").splitlines():
        if line.startswith(b"Max file locks"):
            soft = line[14:].split()[0]
            return int(soft) if soft.isdigit() else 0
    return 0


def send(process: Process, number: int) -> None:
    """Signal that process, and no other that was given its number since; gone, or not ours to signal, is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(process.pid)
        try:
            if is_still(process):  # the pidfd is of this one, whatever comes after
                signals.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def is_still(process: Process) -> bool:
    """It is there, and nobody else was given its number."""
    now = read_process(process.pid)
    return now is not None and now.start == process.start


def ticks_since_boot(boottime_seconds: float) -> int:
    """As Process.start counts, from time.clock_gettime(CLOCK_BOOTTIME)."""
    return int(boottime_seconds * os.sysconf("SC_CLK_TCK"))


def _environ_of_threads(pid: int) -> bytes:
    """When the first thread has ended, only the others still show it."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for task in os.listdir(f"/proc/{pid}/task"):
            text = _contents(f"/proc/{pid}/task/{task}/environ")
            if text:
                return text
    return b""


def _contents(path: str) -> bytes:
    """
    Of a small file of /proc; empty when its process is gone or not ours to look at.

    Raises:
        OSError: there is no descriptor or no memory to look with; that must not look as if nobody were there.
    """
    blocks = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                blocks.append(os.read(fd, _READ_BYTES))
                if len(blocks[-1]) < _FULL_BYTES:
                    break
        finally:
            os.close(fd)
    return b"".join(blocks)
