"""What the worker asks of the world, as narrow as it asks it; assembly.py hands the real ones in."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from txworker.jobs import EndReason, Job, JobSpec, Loss, Query, Retention, Usage
from txworker.jobs.held import Held

Check = Callable[[], None] | None
Jobs = Generator[Job, None, None]

_NO_LABELS: Mapping[str, str] = {}


class Output(Protocol):
    """All that one job prints."""

    @property
    def size(self) -> int:
        """Bytes written down so far. Any thread."""

    @property
    def truncated(self) -> bool:
        """Something was dropped. Any thread."""

    def ready(self, child_fd: int) -> bool:
        """The child's descriptor 1 or 2 has bytes: whether they can be taken now, or else a moment later."""

    def write(self, child_fd: int, data: bytes) -> None:
        """Bytes that came out of the child's descriptor 1 or 2."""

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        """
        Copy what pipe `fd` holds, `most` bytes at most; how many those were, 0: it has ended.

        In a thread, at times when nobody else writes. Raises BlockingIOError when the pipe is empty. poured() tells
        who waits.
        """

    def poured(self, child_fd: int) -> None:
        """Something was poured."""

    def recorded(self, stderr: bool) -> int:
        """Bytes written down so far of one of them; they can be read. Any thread."""

    def more(self, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is a byte at or after offset `beyond`, or nothing more will come."""

    def losses(self, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of one of them; known before it could be read as something else. Any thread."""

    def owns(self, found: os.stat_result, stderr: bool) -> bool:
        """That is the file in which one of them is, as far as can be told. Any thread."""

    def is_proven(self, fd: int, stderr: bool) -> bool:
        """Nothing was cut off of that open file just now that is not in losses() yet. Any thread."""

    def finish(self) -> None:
        """The job prints nothing more; from now on `size` and `truncated` stay as they are."""

    def close(self) -> None:
        """Nothing more will come."""

    def discard(self) -> None:
        """The job never was: leave no file."""


class Shelf(Protocol):
    """Which output belongs to which job."""

    def create(self, job_id: str, separate_stderr: bool, max_bytes: int) -> Output:
        """New, empty output that takes so many bytes, 0: all. Raises OSError; then no file is left."""

    def open(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor to read it by. Any thread.

        Raises FileNotFoundError, another OSError, or Foreign, which is one: it is none of the worker's files.
        """

    def bytes_of(self, job_id: str, stderr: bool) -> int | None:
        """How many are in that file; None: it is not there. Any thread."""

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of it while its job ran. Any thread."""

    def is_damaged(self, job_id: str, separate_stderr: bool, begun: bool) -> bool:
        """Others have taken something away of a job's output; begun: there was one, though it be empty."""

    def resume(
        self, job_id: str, separate_stderr: bool, max_bytes: int, lost: Sequence[int], discarded: Sequence[int]
    ) -> Output:
        """The output of a job that an earlier worker has started, to be gone on with."""

    def recover(self, job_id: str, separate_stderr: bool) -> int:
        """Bytes that a dead worker has left of a job's output, which can be read from now on, though it be empty."""

    def remove(self, job_ids: Iterable[str]) -> None:
        """Delete it. Any thread; raises OSError."""


class Listener(Protocol):
    """Who hears what becomes of a child: one of the worker's for each job."""

    def ready(self, child_fd: int) -> bool:
        """It has begun to print: whether that can be taken now. Otherwise it is asked again a moment later."""

    def wrote(self, child_fd: int, data: bytes) -> None:
        """It printed."""

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        """It prints a lot, into pipe `fd`: as Output.pour. One call at a time, and never beside wrote()."""

    def poured(self, child_fd: int) -> None:
        """Something was poured; reactor thread."""

    def overdue(self, reason: EndReason) -> None:
        """A time limit is over; it is being ended."""

    def hindered(self, problem: str) -> None:
        """It is to end and does not, as that says: it may not be signalled, or the kernel cannot end it."""

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int) -> None:
        """It exited, its output is drained and nobody is left of it; so many others had to be ended for that."""


class Running(Protocol):
    """A child that was started."""

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session and process group."""

    @property
    def core_dumped(self) -> bool:
        """It has exited by a signal, and left a core dump."""

    @property
    def problem(self) -> str:
        """Why what it left behind could not be ended; empty: nothing is left."""

    def note_start(self, at: float) -> None:
        """When it was started, as clients are told: the next worker is to tell them the same."""

    def stop(self, grace_seconds: float) -> None:
        """TERM now, KILL after that grace period. Again is harmless."""

    def resume_stop(self, kill_at: float | None) -> None:
        """It was asked to end by an earlier worker: KILL is due then (monotonic clock); None: at once."""

    def exited(self, how: Any) -> None:
        """It had exited before this worker came (Held.exit)."""

    def release(self) -> None:
        """Its end is written down; its number may be given to another process."""

    def leave(self) -> Deferred[None]:
        """The worker ends and it runs on. Fires when nothing of its output is being copied here any more."""

    def abandon(self) -> Deferred[None]:
        """Its exit will never be known. Fires when what it printed is written down."""


class Launcher(Protocol):
    """Starts children."""

    def check(self, spec: JobSpec) -> None:
        """Raises InvalidRequest: no process can be made of that order, whatever there is on the machine."""

    async def launch(
        self, job_id: str, spec: JobSpec, listener: Listener, check: Callable[[], None] = lambda: None
    ) -> Running:
        """
        Start the order's process, or raise TxWorkerError and leave nothing behind. May be waited for.

        check() is called last thing before the process is asked for, perhaps again: what it raises is raised here.
        """

    def take_over(self, job_id: str, spec: JobSpec, listener: Listener, held: Held) -> Running:
        """The process of a job that an earlier worker has started; raises OSError."""


class Records(Protocol):
    """
    What can be asked of the store: every job in its record as written last, its order brief. Any thread; raises
    StoreBroken.

    Pages are read job by job, as they are asked for: to be read, or closed, soon. check() is called meanwhile, however
    long that takes, and may raise.
    """

    def get(self, job_id: str) -> Job | None:
        """The record of that job."""

    def order(self, job_id: str) -> JobSpec | None:
        """The whole order of that job, but for its stdin."""

    def with_request_id(self, request_id: str) -> Job | None:
        """The job that was started for that request id."""

    def newest_with_path(self, path: str) -> Job | None:
        """The newest finished job that was started with that path."""

    def removed_at(self, job_id: str) -> float | None:
        """When that job was removed, if it was."""

    def unfinished(self) -> list[Job]:
        """Those that were not done when they were written last."""

    def last(self) -> tuple[int, int]:
        """The highest number and the highest revision that were ever given."""

    def finished_page(self, query: Query, before: int, most: int, check: Check = None) -> Jobs:
        """At most so many finished jobs of those that are meant, with numbers below `before`, highest first."""

    def finished_between(
        self, beyond: int, upto: int, most: int, labels: Mapping[str, str] = _NO_LABELS, check: Check = None
    ) -> Jobs:
        """At most so many jobs, with these labels, whose end has a revision beyond the one and up to the other."""

    def expired(self, retention: Retention, elapsed: float, most: int) -> list[Job]:
        """At most so many finished jobs that are to be kept no longer at that time, the first to have ended first."""


class Store(Records, Protocol):
    """What survives: every job that was taken, in its newest record. Deferreds are the reactor thread's."""

    def add(self, job: Job) -> Deferred[Job]:
        """
        Fires with the job once it is written, or else with the one that the same request id has brought before.

        Raises (through the Deferred):
            StoreBroken: nothing can be written now; the job is not kept.
        """

    def save(self, job: Job) -> Deferred[None]:
        """Fires once it is written, however long that takes; in the order of the calls."""

    def drop(self, job: Job) -> Deferred[None]:
        """Fires once a job that never came to be is gone."""

    def remove(self, jobs: Collection[Job], at: float) -> Deferred[None]:
        """Fires once these jobs are gone, and remembered as removed."""

    def settle(self) -> None:
        """Wait here until all that was put is written. Only before the reactor runs; raises StoreBroken."""


@dataclass(frozen=True)
class World:
    """
    What the worker reads of the world: now() is wall-clock time in seconds, for showing, and may be set at any time;
    elapsed() is time in seconds that only passes, over restarts, too; ticks() is the time in clock ticks since boot;
    new_id() makes a job's id; soon(call) makes a call a moment later.
    """

    now: Callable[[], float]
    elapsed: Callable[[], float]
    ticks: Callable[[], int]
    new_id: Callable[[], str]
    soon: Callable[[Callable[[], None]], object]
