"""Launching processes in a live test, and recording what becomes of them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.providers import (
    LIMIT,
    Provider,
)
from txworker.jobs import EndReason, Exit, JobSpec, Usage
from txworker.process.job_process import JobProcess

End = tuple[int | None, int | None, Usage]
real: Any = reactor
_unnamed = itertools.count()


@dataclass
class Heard:
    """The output and the events of one process, as its output and its listener."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    pourings: int = 0
    exit: Exit = field(default_factory=Exit)
    overdue_for: list[EndReason] = field(default_factory=list)
    end: Deferred[End] = field(default_factory=Deferred)
    running: JobProcess | None = None

    @property
    def printed(self) -> bytes:
        """What it wrote to stdout, or to both where they share a pipe."""
        return bytes(self.stdout)

    @property
    def errors(self) -> bytes:
        """What it wrote to its separate stderr."""
        return bytes(self.stderr)

    def ready(self, child_fd: int) -> bool:
        return True

    def write(self, child_fd: int, data: bytes) -> None:
        if child_fd == 2:
            self.stderr += data
        else:
            self.stdout += data

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        data = os.read(pipe, max_bytes)
        self.write(child_fd, data)
        return len(data)

    def pipe_copied(self, child_fd: int) -> None:
        self.pourings += 1

    def end_blocked(self, problem: str) -> None:
        raise AssertionError(problem)

    def overdue(self, reason: EndReason) -> None:
        self.overdue_for.append(reason)

    def ended(self, exit: Exit) -> None:
        self.exit = exit
        self.end.callback((exit.exit_code, exit.signal, exit.usage))

    async def over(self) -> End:
        """Wait for its end, and release it."""
        end = await self.end.addTimeout(LIMIT, real)
        assert self.running is not None
        self.running.release()
        return end


def held(pid: int | str = "self") -> list[str]:
    """The pipes, pidfds and memory files of a process. Its sockets may be gRPC's, which come and go."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(link for link in links if link.startswith(("pipe:", "anon_inode:[pidfd]", "/memfd:")))


def opened_since(before: list[str]) -> list[str]:
    """What held() is now and was not then: what another test has left may be closed meanwhile, by the collector."""
    return sorted((Counter(held()) - Counter(before)).elements())


async def held_by_shim(provider: Provider) -> list[str]:
    """The same of the shim, if there is one, when it has the worker's pipes, and no job any more."""
    if provider.shim is None:
        return []
    children = Path(f"/proc/{provider.shim.pid}/task/{provider.shim.connection.thread_id}/children")
    pid = provider.shim.pid
    await until(lambda: not children.read_text() and any(link.startswith("/memfd:") for link in held(pid)))
    return held(pid)


def job_id(name: str = "") -> str:
    """
    The id of that job, or without a name a new one; another one in each run of the tests: leftovers are found by a
    job's id on the whole machine, so two runs side by side would kill each other's.
    """
    return f"{name or next(_unnamed)}-{os.getpid()}"


async def launch(
    provider: Provider, directory: Path, spec: JobSpec, heard: Heard, name: str = "", **more: Any
) -> JobProcess:
    """Start it there, as the job with the id job_id(name)."""
    heard.running = await provider.launcher(directory).launch(job_id(name), spec, heard, heard, **more)
    return heard.running


async def run(provider: Provider, directory: Path, spec: JobSpec, name: str = "") -> Heard:
    """Launch it there, and wait for its end."""
    heard = Heard()
    await launch(provider, directory, spec, heard, name)
    await heard.over()
    return heard


async def until(true: Callable[[], Any]) -> None:
    """Wait for it while the reactor runs."""
    end = real.seconds() + LIMIT
    while not true():
        assert real.seconds() < end
        await deferLater(real, 0.005)
