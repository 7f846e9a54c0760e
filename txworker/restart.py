"""What is done at start about an earlier worker's unfinished jobs, before anybody is served: ended, then given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from txworker.jobs import Job
from txworker.jobs.errors import StoreBroken
from txworker.logs import Logger
from txworker.output.shelf import Shelf
from txworker.process.evidence import DeadJob
from txworker.process.orphans import end_orphans
from txworker.recovery import lost_text
from txworker.store.errors import Unusable
from txworker.store.files import some
from txworker.store.jobs import JobStore
from txworker.store.lease import TICKS_PER_SECOND, Lease, Life, boot_ticks
from txworker.worker import Worker

_log = Logger()

EndStale = Callable[[Collection[str], str], int]
"""
Ends what is left in the cgroups of these jobs; how many that were. The second is where an earlier worker had them,
which may be elsewhere; empty: nobody knows.
"""


def recover(worker: Worker, store: JobStore, shelf: Shelf, end_stale: EndStale, keep: bool) -> None:
    """
    Blocks for as long as it takes; a few seconds at most, and hardly any when nothing was left.

    keep: what finished jobs left behind is to be left alone, so whoever belongs to a job that the store does not know
    is, too.

    Raises:
        Unusable: it cannot be written down, as the disk is full or broken.
    """
    before = store.lease.before
    if store.forgot:
        _list_outputs(store, shelf)
    if not store.lease.rebooted:  # nothing outlives a restart of the machine
        _end_processes(store, shelf, end_stale, keep)
    try:
        lost = worker.recover(_text(before, store.lease.rebooted), _time_of(store.lease))
    except StoreBroken as error:
        raise Unusable(f"what became of an earlier worker's jobs cannot be written down: {error}") from error
    if lost:
        _log.warn("{count} jobs were lost with the worker before this one.", count=lost)


def _end_processes(store: JobStore, shelf: Shelf, end_stale: EndStale, keep: bool) -> None:
    unfinished = store.unfinished()
    before = store.lease.before

    def is_forgotten(mark: str) -> bool:
        return store.forgot and not keep and shelf.has(mark) and store.get(mark) is None

    # Their cgroups come second: whoever was born before its parent was moved there is found by its descent only.
    ended = 0
    if unfinished or store.forgot:
        ended += end_orphans(_dead(unfinished, before), is_forgotten, before.alive_ticks if before else 0)
    ended += end_stale([job.id for job in unfinished], before.cgroups if before else "")
    if ended:
        _log.warn("{count} processes of lost jobs still ran and were ended.", count=ended)


def _list_outputs(store: JobStore, shelf: Shelf) -> None:
    """Nothing is deleted of what is not known any more: retention looks at records."""
    found = [job_id for job_id in shelf.job_ids() if store.get(job_id) is None]
    if found:
        text = "Output files without a record, which nobody removes: those of {count} jobs: {job_ids}."
        _log.warn(text, count=len(found), job_ids=some(found))


def _dead(jobs: Iterable[Job], before: Life | None) -> list[DeadJob]:
    """Without a word from the worker before, nobody knows on which boot of the machine a number was a job's."""
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
    return lost_text(None, None, rebooted) if before is None else lost_text(before.pid, before.alive_at, rebooted)
