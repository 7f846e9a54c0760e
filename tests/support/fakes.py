"""Fakes of the worker's ports: processes that do not exist, output in memory, a launcher that records its calls."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready

from tests.support.memory_store import MemoryStore
from txworker.base.waiting import Waiters
from txworker.jobs import EndReason, Exit, JobSpec, Limits, Loss, Usage
from txworker.jobs.errors import TxWorkerError
from txworker.jobs.held_process import HeldProcess
from txworker.ports import NO_OBSERVER, Listener, Observer, OutputWriter, Stdin, World
from txworker.worker.catalog import Catalog
from txworker.worker.policy import Policy
from txworker.worker.takeover import RunsOn, ShimJobs, decide
from txworker.worker.worker import Worker


class FakeTransport:
    """
    A process group that records its signals. gone: it has exited; has_exited: its leader has, and that is not told yet;
    forbidden: it must not be signalled.
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.gone = False
        self.has_exited = False
        self.closed = False
        self.forbidden = False
        self.enforced: list[tuple[str, float]] = []

    def enforce(self, reason: str, kill_at: float) -> None:
        self.enforced.append((reason, kill_at))

    def exit_untold(self) -> bool:
        return self.has_exited

    def signalGroup(self, number: int) -> None:
        if self.forbidden:
            raise PermissionError
        if self.gone:
            raise ProcessExitedAlready()
        self.signals.append(number)

    def loseConnection(self) -> None:
        self.closed = True


class FakeCleanup:
    """Records its calls; the test reports when no process is left."""

    def __init__(self) -> None:
        self.graces: list[float] = []
        self.shortened: list[float] = []
        self.kills = 0

    def kill_once(self) -> None:
        self.kills += 1

    def start(self, grace_seconds: float) -> None:
        self.graces.append(grace_seconds)

    def shorten_grace(self, grace_seconds: float) -> None:
        self.shortened.append(grace_seconds)


class FakeOutput:
    """Output in memory."""

    def __init__(self) -> None:
        self.data = b""
        self.truncated = False
        self.finished = False
        self.closed = False
        self.discarded = False
        self.checks = 0
        self._changed = Waiters()

    @property
    def size(self) -> int:
        return len(self.data)

    def ready(self, child_fd: int) -> bool:
        return True

    def write(self, child_fd: int, data: bytes) -> None:
        self.data += data
        self._changed.wake()

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        data = os.read(pipe, max_bytes)
        self.data += data
        return len(data)

    def pipe_copied(self, child_fd: int) -> None:
        self._changed.wake()

    def recorded(self, stderr: bool) -> int:
        return self.size

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        return self._changed.until(lambda: self.size > beyond or self.closed)

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        return ()

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        return True

    def is_intact(self, fd: int, stderr: bool) -> bool:
        return True

    def check(self) -> None:
        self.checks += 1

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True
        self._changed.wake()

    def discard(self) -> None:
        self.discarded = True


@dataclass
class FakeOutputDirectory:
    """Creates and keeps outputs in memory. create() raises `refusal`, resume() `unreadable`, when they are set."""

    by_job: dict[str, FakeOutput] = field(default_factory=dict)
    refusal: OSError | None = None
    unreadable: OSError | None = None

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> FakeOutput:
        if self.refusal is not None:
            raise self.refusal
        self.by_job[job_id] = FakeOutput()
        return self.by_job[job_id]

    def open(self, job_id: str, stderr: bool) -> int:
        raise FileNotFoundError(job_id)

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        return self.by_job[job_id].size if job_id in self.by_job else None

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        return ()

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        return False

    def resume(self, held: HeldProcess, separate_stderr: bool) -> FakeOutput:
        if self.unreadable is not None:
            raise self.unreadable
        return self.by_job.setdefault(held.job_id, FakeOutput())

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        return self.by_job[job_id].size if job_id in self.by_job else 0

    def remove(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            del self.by_job[job_id]


@dataclass
class FakeRunning:
    """A process that exists only by name; the test ends it with exit()."""

    pid: int
    listener: Listener
    started_at: float = 0.0
    stops: list[float] = field(default_factory=list)
    reasons: list[EndReason] = field(default_factory=list)
    resumed: list[float | None] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    unsignallable: Exception | None = None
    cgroup: str | None = None
    renewals: int = 0
    stdin: Stdin | None = None
    released: bool = False
    left: Deferred[None] = field(default_factory=Deferred)
    abandoned: Deferred[Exit | None] = field(default_factory=Deferred)

    def stop(self, grace_seconds: float, reason: EndReason = EndReason.REQUESTED) -> None:
        self.stops.append(grace_seconds)
        self.reasons.append(reason)

    def resume_stop(self, kill_at: float | None, reason: EndReason) -> None:
        self.resumed.append(kill_at)
        self.reasons.append(reason)

    def signal(self, number: int) -> None:
        if self.unsignallable is not None:
            raise self.unsignallable
        self.signals.append(number)

    def renew_lease(self) -> None:
        self.renewals += 1

    def resize(self, rows: int, columns: int) -> None:
        if self.unsignallable is not None:
            raise self.unsignallable
        self.sizes.append((rows, columns))

    def exited(self, how: Any) -> None:
        self.listener.ended(Exit(how["exit_code"], how["signal"]))

    def release(self) -> None:
        self.released = True

    def leave(self) -> Deferred[None]:
        return self.left

    def abandon(self) -> Deferred[Exit | None]:
        return self.abandoned

    def exit(self, exit_code: int | None = 0, signal: int | None = None) -> None:
        self.listener.ended(Exit(exit_code, signal, Usage(0.25, 0.5, 4096)))


@dataclass
class FakeLauncher:
    """
    Starts nothing and records its calls. check() raises `impossible`, launch() raises `refusal`, when they are set;
    launch() waits for `slow` first. take_over() raises `unwatchable` when it is set.
    """

    slow: Deferred[None] | None = None
    running: dict[str, FakeRunning] = field(default_factory=dict)
    specs: dict[str, JobSpec] = field(default_factory=dict)
    refusal: TxWorkerError | None = None
    impossible: TxWorkerError | None = None
    unwatchable: OSError | None = None

    def check(self, spec: JobSpec) -> None:
        if self.impossible is not None:
            raise self.impossible

    async def launch(
        self,
        job_id: str,
        spec: JobSpec,
        output: OutputWriter,
        listener: Listener,
        check: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> FakeRunning:
        check()
        if self.slow is not None:
            await self.slow
        if self.refusal is not None:
            raise self.refusal
        self.specs[job_id] = spec
        self.running[job_id] = FakeRunning(1000 + len(self.running), listener, now())
        return self.running[job_id]

    def take_over(
        self, job_id: str, spec: JobSpec, output: OutputWriter, listener: Listener, held: HeldProcess
    ) -> FakeRunning:
        if self.unwatchable is not None:
            raise self.unwatchable
        self.running[job_id] = FakeRunning(held.pid, listener)
        return self.running[job_id]


@dataclass
class WorkerFixture:
    """A worker and the fakes around it. Job ids are job-1, job-2 … untaken: what could not be taken over."""

    worker: Worker
    launcher: FakeLauncher
    outputs: FakeOutputDirectory
    store: MemoryStore
    untaken: list[HeldProcess] = field(default_factory=list)

    @property
    def catalog(self) -> Catalog:
        """The worker's catalog."""
        return self.worker.catalog

    def take_over(self, *held: HeldProcess, text: str = "lost: testing") -> tuple[int, int]:
        """Take over an earlier worker's jobs, of which the shim holds these. Returns how many run on and are lost."""
        shim = ShimJobs({one.job_id: one for one in held})
        return self.worker.take_over(decide(self.store.unfinished(), shim, text), self._end_untaken)

    def _end_untaken(self, one: RunsOn) -> str:
        self.untaken.append(one.held)
        return "process 7 still runs"


def worker_fixture(
    max_running: int = 0,
    default: Limits = Limits(),
    ceiling: Limits = Limits(),
    store: MemoryStore | None = None,
    wall: Callable[[], float] = lambda: 1_700_000_000.0,
    elapsed: Callable[[], float] = lambda: 1_700_000_000.0,
    directory: str = "",
    user: str = "",
    observer: Observer = NO_OBSERVER,
) -> WorkerFixture:
    """A worker with fakes around it; `store` may be the one of an earlier fixture."""
    launcher, outputs, store = FakeLauncher(), FakeOutputDirectory(), store or MemoryStore()
    ids = iter(range(len(store.kept) + 1, 10_000))
    world = World(wall, elapsed, lambda: 5_000, lambda: f"job-{next(ids)}", lambda call: call())
    policy = Policy(max_running, 10, default, ceiling, False, directory, user)
    worker = Worker(launcher, outputs, store, policy, world, observer)
    return WorkerFixture(worker, launcher, outputs, store)
