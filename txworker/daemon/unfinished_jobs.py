"""
Jobs that have lost their worker or their shim: remaining processes are ended, and the records are settled.

take_over_jobs() is for an earlier worker's jobs, at start; ShimLoss is for the jobs of a shim that ends while this
worker runs. Which job runs on and which is lost is decided in worker/takeover.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from signal import SIGKILL
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from txworker.base.logs import Logger
from txworker.base.quantities import counted
from txworker.daemon.directories import NotUsable
from txworker.daemon.processes import Processes
from txworker.jobs import Job
from txworker.jobs.errors import OutOfResources, StoreBroken
from txworker.jobs.held_process import HeldProcess
from txworker.leftovers.recorded_jobs import RecordedJob
from txworker.leftovers.recovery import end_lost_jobs
from txworker.leftovers.survivors import why_running
from txworker.leftovers.tags import environment_tag
from txworker.linux.clock import TICKS_PER_SECOND, boot_ticks
from txworker.linux.procfs import Process, ProcessTable
from txworker.output.output_directory import OutputDirectory
from txworker.ports import NO_OBSERVER, Observer
from txworker.store.errors import Unusable
from txworker.store.files import joined
from txworker.store.jobs import JobStore
from txworker.store.lease import Heartbeat, Lease
from txworker.worker.readiness import SHIM, Readiness
from txworker.worker.recovery import lost_text
from txworker.worker.takeover import RunsOn, decide, without_shim
from txworker.worker.worker import Worker

_log = Logger()


class KeptLeftovers:
    """Whether the leftovers of a finished job stay alive, as its spec or jobs.leftovers (`by_default`) says."""

    def __init__(self, store: JobStore, by_default: bool) -> None:
        self.by_default = by_default
        self._store = store

    def __call__(self, job_id: str) -> bool:
        """False for a job that is unknown or not finished."""
        try:
            job = self._store.get(job_id)
        except StoreBroken:  # not known: a process that is kept can be ended later, one that is ended is gone
            return True
        if job is None or not job.done:
            return False
        return job.spec.leftovers == "keep" if job.spec.leftovers else self.by_default


def take_over_jobs(
    worker: Worker,
    store: JobStore,
    outputs: OutputDirectory,
    processes: Processes,
    kept: KeptLeftovers,
    observer: Observer = NO_OBSERVER,
) -> None:
    """
    Settle an earlier worker's unfinished jobs, before the reactor runs. Blocks for milliseconds when nothing is left,
    otherwise for a few seconds at most.

    Raises:
        Unusable: the result cannot be written, because the disk is full or broken.
        NotUsable: the machine lacks what the takeover needs; the shim keeps the jobs.
    """
    lease = store.lease
    unfinished, shim = store.unfinished(), processes.shim_jobs
    if store.forgot:
        _warn_of_unknown_outputs(store, outputs)
    unended: dict[str, str] = {}
    if lease.rebooted:  # no process outlives it, but what the shim's socket tells may be older than the last jobs
        shim = replace(shim, complete=False)
    else:
        unended = _end_processes(without_shim(unfinished, shim), store, outputs, processes, kept, observer)
    takeover = decide(unfinished, shim, _lost_text(lease.before, lease.rebooted), unended)
    for held in takeover.release:
        release_held(held, store, processes, kept)

    def end_job(one: RunsOn) -> str:
        return end_untaken(one, processes, kept, observer)

    try:
        taken, lost = worker.take_over(takeover, end_job, _now_for(lease))
    except OutOfResources as error:
        raise NotUsable(f"{error}; the jobs of the worker before this one run on") from error
    except StoreBroken as error:
        raise Unusable(f"what became of an earlier worker's jobs cannot be written down: {error}") from error
    store.forgot_settled()
    if taken:
        jobs = counted(taken, "job", "jobs")
        _log.info("Taken over from the worker before this one: {jobs}.", jobs=jobs, count=taken)
    if lost:
        jobs = counted(lost, "job was", "jobs were")
        _log.warn("{jobs} lost with the worker before this one.", jobs=jobs, count=lost)


class ShimLoss:
    """
    Settles the jobs of a shim that has ended: ends what is left of their processes, and marks them as lost.

    end_cgroups(job_ids) ends what is in the cgroups of jobs that did not start, and returns how many processes that
    were. Any thread.
    """

    def __init__(
        self,
        worker: Worker,
        reactor: Any,
        observer: Observer,
        readiness: Readiness,
        end_cgroups: Callable[[Collection[str]], int],
    ) -> None:
        self._end_cgroups = end_cgroups
        self._worker = worker
        self._observer = observer
        self._readiness = readiness
        self._reactor = reactor

    def ended(self) -> None:
        """A shim has ended; no job can be started until the next one runs. Reactor thread."""
        self._observer.shim_ended()
        self._readiness.begin(SHIM, "the shim has ended, and another is being started")

    def settle(self, shim_pid: int, unanswered: Collection[str]) -> None:
        """
        Returns at once; errors are logged. Reactor thread.

        unanswered: jobs that the shim was starting. Their starts have failed, but their processes may run.
        """
        self._readiness.end(SHIM)
        Deferred.fromCoroutine(self._settle(shim_pid, unanswered)).addErrback(
            lambda failure: _log.failure("settling the jobs of a shim that has ended", failure)
        )

    async def _settle(self, shim_pid: int, unanswered: Collection[str]) -> None:
        jobs = self._worker.running_jobs()
        dead = [RecordedJob(job.id, job.pid, job.started_ticks) for job in jobs]
        dead += [RecordedJob(job_id, None, None) for job_id in unanswered]
        left: list[Process] = []
        now = boot_ticks()

        def end_processes() -> int:
            return end_lost_jobs(dead, lambda tag: False, now, left) + self._end_cgroups(unanswered)

        ended = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), end_processes)
        _tell_of_ended(ended, self._observer)
        text = f"lost: the shim (pid {shim_pid}), which had started it, ended without notice while it ran"
        await self._worker.shim_lost([job.id for job in jobs], text, _unended(jobs, left))


def release_held(held: HeldProcess, store: JobStore, processes: Processes, kept: KeptLeftovers) -> None:
    """
    Release a process that the shim still holds for a finished job: the earlier worker died before it could do so. A job
    that the store does not know was lost with a damaged store; its process group is killed, as is that of a finished
    job that runs.
    """
    known = store.get(held.job_id) is not None
    if not known or held.exit is None:
        text = "Job {job_id}, pid {pid}, {why}; its process group is killed."
        why = "still runs, although its end is in the store" if known else "is not in the store"
        _log.warn(text, job_id=held.job_id, pid=held.pid, why=why)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(held.pid, SIGKILL)
    _hand_back(held, processes, kept)


def end_untaken(one: RunsOn, processes: Processes, kept: KeptLeftovers, observer: Observer) -> str:
    """
    End all processes of a job that cannot be taken over, and let the shim forget it; which could not be ended, and why.

    The shim has not reaped its process, so the pid is certain. Blocks as end_lost_jobs() does.
    """
    job, held = one.job, one.held
    left: list[Process] = []
    dead = RecordedJob(job.id, held.pid, held.ticks)
    ended = end_lost_jobs([dead], lambda tag: False, boot_ticks(), left) + processes.end_stale([job.id], "", kept)
    _tell_of_ended(ended, observer)
    _hand_back(held, processes, kept)
    return _unended([job.changed(pid=held.pid)], left).get(job.id, "")


def _hand_back(held: HeldProcess, processes: Processes, kept: KeptLeftovers) -> None:
    for pipe in held.pipes:
        os.close(pipe)
    processes.release(held.job_id, keep=kept(held.job_id))


def _end_processes(
    jobs: Collection[Job],
    store: JobStore,
    outputs: OutputDirectory,
    processes: Processes,
    kept: KeptLeftovers,
    observer: Observer,
) -> dict[str, str]:
    """End what is left of these jobs' processes; by job id, which could not be ended, and why."""
    before = store.lease.before

    def is_forgotten(tag: str) -> bool:
        return store.forgot and not kept.by_default and outputs.has(tag) and store.get(tag) is None

    # The cgroups come second: a process that was forked before its parent was moved there is found by descent only.
    ended = 0
    left: list[Process] = []
    if jobs or store.forgot:
        dead = [_dead_job(job, before) for job in jobs]
        ended += end_lost_jobs(dead, is_forgotten, before.alive_ticks if before else 0, left)
    ended += processes.end_stale([job.id for job in jobs], before.cgroups if before else "", kept)
    _tell_of_ended(ended, observer)
    return _unended(jobs, left)


def _dead_job(job: Job, before: Heartbeat | None) -> RecordedJob:
    """Without a lease of the earlier worker, its boot is unknown, so a recorded pid may be another process's now."""
    return RecordedJob(job.id, job.pid, job.started_ticks) if before else RecordedJob(job.id, None, None)


def _unended(jobs: Collection[Job], left: Collection[Process]) -> dict[str, str]:
    """By job id, why some of these processes live. A process belongs to a job by its pid, session or tag."""
    found: dict[str, list[int]] = {}
    for process in left:
        if ProcessTable().read(process.pid) is not None:
            tag = environment_tag(process.pid)
            for job in jobs:
                if job.pid in (process.pid, process.session) or job.id == tag:
                    found.setdefault(job.id, []).append(process.pid)
    return {job_id: why_running(pids) for job_id, pids in found.items()}


def _tell_of_ended(count: int, observer: Observer) -> None:
    if count:
        observer.leftovers_ended(count)
        processes = counted(count, "process", "processes")
        _log.warn("{processes} of lost jobs still ran and had to be ended.", processes=processes, count=count)


def _warn_of_unknown_outputs(store: JobStore, outputs: OutputDirectory) -> None:
    """Retention goes by records, so it never deletes output without one."""
    found = [job_id for job_id in outputs.job_ids() if store.get(job_id) is None]
    if found:
        text = "Output files of {jobs} have no record, so retention never removes them: {job_ids}."
        jobs = counted(len(found), "job", "jobs")
        _log.warn(text, jobs=jobs, count=len(found), job_ids=joined(found))


def _now_for(lease: Lease) -> Callable[[Job], float] | None:
    """
    A job's own present: its start time plus what has passed since, so that a step of the wall clock between two workers
    does not count. None when the ticks since boot cannot tell: after a reboot, or without an earlier lease.
    """
    if lease.before is None or lease.rebooted:
        return None
    wall, ticks = time.time(), boot_ticks()

    def now_for(job: Job) -> float:
        if job.started_at is None or job.started_ticks is None:
            return wall
        return job.started_at + (ticks - job.started_ticks) / TICKS_PER_SECOND

    return now_for


def _lost_text(before: Heartbeat | None, rebooted: bool) -> str:
    if before is None:
        return lost_text(None, None, rebooted)
    return lost_text(before.pid, before.alive_at, rebooted, before.stopped)
