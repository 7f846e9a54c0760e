"""What is done at start about an earlier worker's unfinished jobs, before anybody is served: ended, then given up."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

from txworker.output.shelf import Shelf
from txworker.process.orphans import DeadJob, end_orphans
from txworker.recovery import lost_text
from txworker.store.jobs import JobStore
from txworker.worker import Worker

_log = Logger()


def recover(
    worker: Worker, store: JobStore, shelf: Shelf, end_stale: Callable[[Iterable[str]], int], keep: bool
) -> None:
    """
    Blocks for as long as it takes; a few seconds at most, and hardly any when nothing was left.

    end_stale(job ids) ends what is left in their cgroups. keep: what finished jobs left behind is to be left alone, so
    whoever belongs to a job that the store does not know is, too.
    """
    before = store.lease.before
    if before is None:
        return
    if not store.lease.rebooted:  # nothing outlives a restart of the machine
        _end_processes(store, shelf, end_stale, keep)
    lost = worker.recover(lost_text(before.pid, before.alive_at, store.lease.rebooted))
    if lost:
        _log.warn("{count} jobs were lost with the worker before this one (pid {pid}).", count=lost, pid=before.pid)


def _end_processes(store: JobStore, shelf: Shelf, end_stale: Callable[[Iterable[str]], int], keep: bool) -> None:
    unfinished = store.unfinished()
    if not unfinished and not store.forgot:
        return
    dead = [DeadJob(job.id, job.pid, job.started_ticks) for job in unfinished]
    before = store.lease.before

    def is_forgotten(mark: str) -> bool:
        return not keep and shelf.has(mark) and store.get(mark) is None

    # Their cgroups come second: whoever was born before its parent was moved there is found by its descent only.
    ended = end_orphans(dead, is_forgotten, before.alive_ticks if before else 0)
    ended += end_stale(job.id for job in unfinished)
    if ended:
        _log.warn("{count} processes of lost jobs still ran and were ended.", count=ended)
