"""The table of processes as /proc shows it: parents, children, start times and tags; and signals by pidfd."""

from __future__ import annotations

import os
import select
import signal as signals
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from txworker.linux.clock import boot_ticks

_READ_BYTES = 32 * 1024
_FULL_BYTES = 4000
"""/proc returns about a page per read; a shorter read is the last one."""


@dataclass(frozen=True)
class Process:
    """
    One process at one moment; pid and start (clock ticks since boot) identify it until the machine restarts.

    A process of which the first thread has exited while other threads run is not a zombie, though its state says so.
    """

    pid: int
    parent: int
    session: int
    start: int
    zombie: bool


class ProcessTable:
    """
    The processes of this machine. Thread-safe: it holds no state.

    Every method returns an empty result for a process that has gone or that this user may not read.

    Raises:
        OSError: from every method that reads, when there is no descriptor or no memory to read with: a failed read
            must not look as if the process had gone.
    """

    def __init__(self, root: str = "/proc") -> None:
        self._root = root

    def pids(self) -> list[int]:
        """All processes, in no particular order."""
        return [int(name) for name in os.listdir(self._root) if name.isdecimal()]

    def now(self) -> int:
        """The time now in clock ticks since boot, the unit of Process.start."""
        return boot_ticks()

    def newest_pid(self) -> int:
        """The pid that was given away last (proc_loadavg(5)). Takes a few microseconds."""
        return int(contents(f"{self._root}/loadavg").split()[-1])

    def read(self, pid: int) -> Process | None:
        """That process now; None when there is none (proc_pid_stat(5))."""
        text = contents(f"{self._root}/{pid}/stat")
        if not text:
            return None
        fields = text[text.rindex(b")") + 2 :].split()  # the command name before it may contain anything
        zombie = fields[0] in (b"Z", b"X") and int(fields[17]) < 2
        return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), zombie)

    def is_stopped(self, pid: int) -> bool:
        """Whether that process is stopped, by a signal or a debugger."""
        text = contents(f"{self._root}/{pid}/stat")
        return text[text.rfind(b")") + 2 :][:1] in (b"T", b"t")

    def children(self, pid: int) -> list[int]:
        """The children of every thread of that process."""
        return [child for task in self._tasks(pid) for child in map(int, contents(f"{task}/children").split())]

    def children_of_thread(self, pid: int, thread_id: int) -> ThreadChildren:
        """
        The children of one thread, to be read again and again. The caller closes it.

        Raises:
            OSError: there is no such thread.
        """
        return ThreadChildren(f"{self._root}/{pid}/task/{thread_id}/children")

    def tree(self, root: int, gone: set[int]) -> Iterator[Process]:
        """A process and its descendants, parents first; pids that are listed but cannot be read are added to gone."""
        queue = [root]
        for pid in queue:
            process = self.read(pid)
            if process is not None:
                yield process
                queue += self.children(pid)
            else:
                gone.add(pid)

    def environment_tag(self, pid: int, variable: str) -> str | None:
        """The value of that variable in the environment that the process was started with; None without it."""
        prefix = f"{variable}=".encode()
        for entry in self._environment(pid).split(b"\0"):
            if entry.startswith(prefix):
                return entry[len(prefix) :].decode(errors="replace")
        return None

    def rlimit_tag(self, pid: int) -> int:
        """The rlimit tag that the process was born with (rlimit_tag.py); 0 without one."""
        for line in contents(f"{self._root}/{pid}/limits").splitlines():
            if line.startswith(b"Max file locks"):
                soft = line[14:].split()[0]
                return int(soft) if soft.isdigit() else 0
        return 0

    def cgroup(self, pid: int) -> str:
        """The path of its cgroup in the v2 hierarchy; empty without one."""
        for line in contents(f"{self._root}/{pid}/cgroup").splitlines():
            if line.startswith(b"0::"):
                return line[3:].decode(errors="replace")
        return ""

    def uid(self, pid: int) -> int | None:
        """Its effective user id."""
        for line in contents(f"{self._root}/{pid}/status").splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[2])
        return None

    def is_same(self, process: Process) -> bool:
        """That process is still in the table, perhaps as a zombie; its pid was not given to another."""
        now = self.read(process.pid)
        return now is not None and now.start == process.start

    def send(self, process: Process, number: int) -> None:
        """Signal that process, never a later one with its pid. It may have gone, or not be ours to signal."""
        with suppress(ProcessLookupError, PermissionError):
            fd = os.pidfd_open(process.pid)
            try:
                if self.is_same(process):  # then the pidfd refers to it, whatever happens next
                    signals.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)

    def may_signal(self, pid: int) -> bool:
        """This user may signal the process, or it has gone."""
        try:
            os.kill(pid, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            pass
        return True

    def awaits_parent(self, pid: int) -> bool:
        """The process has exited, and its parent can see it: no debugger has it (ptrace(2)). False if it is unknown."""
        with suppress(OSError):
            watch = self.watch_exit(pid)
            try:
                return watch.exited() and not self._tracer(pid)
            finally:
                watch.close()
        return False

    def _tracer(self, pid: int) -> int:
        lines = contents(f"{self._root}/{pid}/status").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(b"TracerPid:")), 0)

    def watch_exit(self, pid: int) -> ExitWatch:
        """
        Tells cheaply whether the process has exited. The caller closes it.

        Raises:
            ProcessLookupError: there is no such process.
        """
        return ExitWatch(pid)

    def _environment(self, pid: int) -> bytes:
        """The first thread's; once that one has exited, only the others still show it."""
        first = contents(f"{self._root}/{pid}/environ")
        return first or next((text for task in self._tasks(pid) if (text := contents(f"{task}/environ"))), b"")

    def _tasks(self, pid: int) -> Iterator[str]:
        tasks = f"{self._root}/{pid}/task"
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            yield from [f"{tasks}/{name}" for name in os.listdir(tasks)]


class ThreadChildren:
    """The children of one thread of a process, with the orphans that it adopted."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> list[int]:
        """Their pids, the oldest first; empty when the process has exited."""
        text = b""
        with suppress(ProcessLookupError):
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
        """Close the file; a later read raises OSError."""
        os.close(self._fd)
        self._fd = -1


class ExitWatch:
    """A pidfd: it becomes readable when its process exits, whichever process is the parent (pidfd_open(2))."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def exited(self) -> bool:
        """The process has exited."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close the pidfd."""
        os.close(self._fd)


def contents(path: str) -> bytes:
    """
    All of a file of the kernel's; empty when it has gone or this user may not read it.

    Raises:
        OSError: there is no descriptor or no memory to read with.
    """
    blocks = []
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while True:
                blocks.append(os.read(fd, _READ_BYTES))
                if len(blocks[-1]) < _FULL_BYTES:
                    break
        finally:
            os.close(fd)
    return b"".join(blocks)
