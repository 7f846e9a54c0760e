"""
Starting one child: own session, its descriptors, exact errors. Everything after the start is in transport.py.

No way of starting here ever forks the worker: no code of ours and no lock of another thread's is copied into a child.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from txworker.process.brand import branded
from txworker.process.descriptors import DescriptorLimit
from txworker.process.moving import Moves
from txworker.process.native import NativeStart
from txworker.process.prepared import Preparation, PreparedStart, PreparerFailed

Start = Callable[[Sequence[str], Mapping[str, str], str | None, Mapping[int, int]], int]


def start_child(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str | None,
    descriptors: Mapping[int, int],
) -> int:
    """
    Start a process that leads its own session; descriptors maps the child's 0, 1 and 2 to ours.

    Popen uses vfork, and reports the errno of chdir and of exec apart. It works everywhere, but holds Python's lock.

    Returns its pid. The caller waits for it.

    Raises:
        OSError: chdir (`filename` is the directory) or exec failed; there is no child.
        ValueError: an argument cannot be given to any process.
    """
    child = subprocess.Popen(
        argv,
        stdin=descriptors[0],
        stdout=descriptors[1],
        stderr=descriptors[2],
        cwd=directory,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
    child.returncode = 0  # waiting is ours: Popen must neither wait for it later nor warn that nobody did
    return child.pid


def quickest_start() -> Start:
    """libc's posix_spawn where it has all that is needed, otherwise Popen."""
    try:
        return NativeStart()
    except AttributeError:
        return start_child


@dataclass(frozen=True)
class Starts:
    """Both ways to start a child: at once, or with something done first (much dearer). It gets the original limit."""

    at_once: Start
    prepared: PreparedStart
    limit: DescriptorLimit
    moves: Moves = field(default_factory=Moves)

    def close(self) -> None:
        """No child any more."""
        self.prepared.close()

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Mapping[int, int],
        preparation: Preparation,
    ) -> int:
        """As start_child; makes the cgroup's directory first."""
        if preparation.cgroup is not None:
            os.mkdir(preparation.cgroup)
        if preparation.needed:
            return self.prepared(argv, environment, directory, descriptors, preparation)
        if self.limit.crowded or (preparation.cgroup is not None and not self.moves.quick()):
            with contextlib.suppress(PreparerFailed):  # no clone3 here, in a sandbox perhaps: then it is moved
                return self.prepared(argv, environment, directory, descriptors, preparation)
        with self.limit.original_for_children(), branded(preparation.brand):
            pid = self.at_once(argv, environment, directory, descriptors)
        _follow(pid, preparation)
        return pid


def _follow(pid: int, preparation: Preparation) -> None:
    """
    What may come a moment after the start. The child cannot be gone: it is ours, and nobody has waited for it.

    Its oom_score_adj could be inherited, as its brand is. But while we had it the kernel, out of memory, would take us.
    """
    if preparation.cgroup is not None:
        _write(f"{preparation.cgroup}/cgroup.procs", pid)
    if preparation.oom_score_adj:
        _write(f"/proc/{pid}/oom_score_adj", preparation.oom_score_adj)


def _write(path: str, value: int) -> None:
    with contextlib.suppress(OSError):  # exited already
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % value)
        finally:
            os.close(fd)


@contextmanager
def stdin_file(data: bytes) -> Iterator[int]:
    """
    The descriptor of an open file that reads as data, then ends. Never blocks a writer, so there is nothing to feed.

    Raises:
        OSError: no memory, disk or descriptors for it.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stdin")
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
