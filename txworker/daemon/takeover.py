"""
What is done at start about an earlier worker's unfinished jobs, before anybody is served: those that the shim has kept
are taken over, what is left of the others is ended, and they are given up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from signal import SIGKILL

from txworker.base.logs import Logger
from txworker.daemon.processes import Processes
from txworker.jobs import Job
from txworker.jobs.errors import StoreBroken
from txworker.jobs.held import Held
from txworker.leftovers.evidence import DeadJob
from txworker.leftovers.orphans import end_orphans
from txworker.leftovers.tags import mark_of
from txworker.leftovers.unended import why_alive
from txworker.linux.procfs import Process, read_process
from txworker.output.shelf import Shelf
from txworker.store.errors import Unusable
from txworker.store.files import some
from txworker.store.jobs import JobStore
from txworker.store.lease import TICKS_PER_SECOND, Lease, Life, boot_ticks
from txworker.worker.recovery import lost_text
from txworker.worker.worker import Worker

_log = Logger()

EndStale = Callable[[Collection[str], str], int]
"""
Ends what is left in the cgroups of these jobs; how many that were. The second is where an earlier worker had them,
which may be elsewhere; empty: nobody knows.
"""


def take_over(worker: Worker, store: JobStore, shelf: Shelf, processes: Processes, keep: bool) -> None:
    """
    Blocks for as long as it takes; a few seconds at most, and hardly any when nothing was left.

    keep: what finished jobs left behind is to be left alone, so what belongs to a job that the store does not know
    is, too.

    Raises:
        Unusable: it cannot be written down, as the disk is full or broken.
    """
    before = store.lease.before
    held = {one.job_id: one for one in processes.held}
    unfinished = store.unfinished()
    unended: dict[str, str] = {}
    if store.forgot:
        _list_outputs(store, shelf)
    if not store.lease.rebooted:  # nothing outlives a restart of the machine
        lost = [job for job in unfinished if job.id not in held and job.id not in processes.starting]
        unended = _end_processes(store, shelf, processes.end_stale, keep, lost)
    _release_finished(store, processes, held, {job.id for job in unfinished})
    try:
        text = _text(before, store.lease.rebooted)
        taken, given_up = worker.take_over(held, text, processes.found, unended, _time_of(store.lease))
    except StoreBroken as error:
        raise Unusable(f"what became of an earlier worker's jobs cannot be written down: {error}") from error
    if taken:
        _log.info("{count} jobs of the worker before this one are taken over.", count=taken)
    if given_up:
        _log.warn("{count} jobs were lost with the worker before this one.", count=given_up)


def _release_finished(store: JobStore, processes: Processes, held: dict[str, Held], unfinished: set[str]) -> None:
    """
    Jobs of the shim's that are over as far as the store knows: the worker before died before it could say so. One that
    the store does not know was forgotten with the store, and is ended.
    """
    for job_id in [job_id for job_id in held if job_id not in unfinished]:
        one = held.pop(job_id)
        if store.get(job_id) is None:
            _log.warn("Job {job_id}, pid {pid}, is not in the store; being ended.", job_id=job_id, pid=one.pid)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(one.pid, SIGKILL)
        for pipe in one.pipes:
            os.close(pipe)
        processes.release(job_id, keep=processes.is_kept(job_id))


def _end_processes(
    store: JobStore, shelf: Shelf, end_stale: EndStale, keep: bool, unfinished: list[Job]
) -> dict[str, str]:
    """Of those of which processes could not be ended, which, and why."""
    before = store.lease.before

    def is_forgotten(mark: str) -> bool:
        return store.forgot and not keep and shelf.has(mark) and store.get(mark) is None

    # Their cgroups come second: a process born before its parent was moved there is found by its descent only.
    ended = 0
    left: list[Process] = []
    if unfinished or store.forgot:
        ended += end_orphans(_dead(unfinished, before), is_forgotten, before.alive_ticks if before else 0, left)
    ended += end_stale([job.id for job in unfinished], before.cgroups if before else "")
    if ended:
        _log.warn("{count} processes of lost jobs still ran and were ended.", count=ended)
    return unended_of(unfinished, left)


def unended_of(jobs: Collection[Job], left: Collection[Process]) -> dict[str, str]:
    """Of each job of which some process is left, why it lives. Whose a process is its session or its mark says."""
    found: dict[str, list[int]] = {}
    for process in left:
        if read_process(process.pid) is not None:
            mark = mark_of(process.pid)
            for job in jobs:
                if job.pid in (process.pid, process.session) or job.id == mark:
                    found.setdefault(job.id, []).append(process.pid)
    return {job_id: why_alive(pids) for job_id, pids in found.items()}


def _list_outputs(store: JobStore, shelf: Shelf) -> None:
    """Nothing is deleted of what is not known any more: retention looks at records."""
    found = [job_id for job_id in shelf.job_ids() if store.get(job_id) is None]
    if found:
        text = "Output files without a record, which nobody removes: those of {count} jobs: {job_ids}."
        _log.warn(text, count=len(found), job_ids=some(found))


def _dead(jobs: Iterable[Job], before: Life | None) -> list[DeadJob]:
    """Without a word from the worker before, it is not known on which boot of the machine a number was a job's."""
    return [DeadJob(job.id, job.pid, job.started_ticks) if before else DeadJob(job.id, None, None) for job in jobs]


def _time_of(lease: Lease) -> Callable[[Job], float] | None:
    """To a job that was started since the machine was, the time that it would be had nobody set the wall clock."""
    if lease.before is None or lease.rebooted:
        return None
    wall, ticks = time.time(), boot_ticks()

    def at(job: Job) -> float:
        if job.started_at is None or job.started_ticks is None:
            return wall
        return job.started_at + (ticks - job.started_ticks) / TICKS_PER_SECOND

    return at


def _text(before: Life | None, rebooted: bool) -> str:
    return (
        lost_text(None, None, rebooted)
        if before is None
        else lost_text(before.pid, before.alive_at, rebooted, before.stopped)
    )
