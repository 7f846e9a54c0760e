"""What becomes of the jobs when the worker stops: they are ended, or left to the next worker; in bounded time."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.quantities import counted
from txworker.base.waiting import detached
from txworker.daemon.handover import Handover
from txworker.store.jobs import JobStore
from txworker.worker.worker import Worker

CLOSING_SECONDS = 5.0
"""How long the disk may take to write what is left when the worker ends."""

_log = Logger()


def stop_jobs(worker: Worker, handover: Handover, clock: IReactorTime, within_seconds: float) -> Deferred[None]:
    """Fires when the jobs are ended, or left to the next worker. After it no job changes any more."""
    if handover.leaves:
        return _leave_jobs(worker, clock)
    if handover.wanted:
        _log.warn("Jobs cannot be left to the next worker, because they run without the shim; ending them.")
    return _end_jobs(worker, clock, within_seconds)


def _leave_jobs(worker: Worker, clock: IReactorTime) -> Deferred[None]:
    """Fires when no output is copied any more, or after CLOSING_SECONDS: a thread may wait for a disk that hangs."""

    def log_left(count: int) -> None:
        left = counted(count, "job is", "jobs are")
        _log.info("{left} left to the next worker.", left=left, count=count)

    def log_still_copying(failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        _log.error(
            "Output of jobs {job_ids} is still being copied: the disk does not answer, and the worker ends without it.",
            job_ids=worker.running_ids(),
        )

    leaving = detached(worker.leave_all(), CancelledError)  # the copying cannot be cancelled
    leaving = leaving.addTimeout(CLOSING_SECONDS, clock)
    return leaving.addCallbacks(log_left, log_still_copying).addCallback(lambda _: worker.close())


def _end_jobs(worker: Worker, clock: IReactorTime, within_seconds: float) -> Deferred[None]:
    """Fires when every job is done, or the time is over: the kernel cannot end a process in uninterruptible sleep."""

    def give_up(failure: Failure) -> None:
        failure.trap(DeferredTimeout)
        _log.error(
            "Jobs {job_ids} could not be ended, or their ends could not be written; the worker ends without them.",
            job_ids=worker.running_ids(),
        )
        worker.give_up()

    ended = worker.stop_all().addTimeout(within_seconds, clock).addErrback(give_up)
    return ended.addCallback(lambda _: worker.close())


def close_store(store: JobStore, clock: IReactorTime) -> Deferred[None]:
    """Fires when the store is written and closed; fails after CLOSING_SECONDS, as the disk may hang."""
    return store.close().addTimeout(CLOSING_SECONDS, clock)
