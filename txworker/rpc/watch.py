"""Jobs on their way to one watcher, in one thread: as they stand, then each change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from txworker.jobs import Job, Query
from txworker.jobs.errors import InvalidRequest
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller
from txworker.wire.lists import labels_from_pb
from txworker.worker.catalog import Catalog

_FROM_STORE = 100
"""Jobs that are read from the store at a time, and held up by a watcher that reads nothing."""


def watch(catalog: Catalog, caller: Caller, request: pb.WatchJobsReq) -> Iterator[Job]:
    """
    The jobs of one watcher; to one that is a thousand changes late a job is given as it stands then. With jobIDs it
    ends when all of those are done, as nothing more can come. Any thread but the reactor's.

    Raises:
        InvalidRequest: a name is none, or there are more labels than a job can have.
        NoSuchJob: one that was named is not there.
        WorkerStopping: nothing will change any more.
        CallerGone: the watcher left.
    """
    query = Query(labels=labels_from_pb(request.labels))
    if "" in request.jobIDs:
        raise InvalidRequest("jobIDs", "", "is no job's id")
    if request.jobIDs:
        jobs = _named(catalog, caller, tuple(dict.fromkeys(request.jobIDs)))
    else:
        jobs = _all(catalog, caller, query)
    return (job for job in jobs if query.matches(job))


def _all(catalog: Catalog, caller: Caller, query: Query) -> Iterator[Job]:
    beyond, as_they_stand = 0, 1
    while True:
        changed = caller.call(partial(catalog.changes.since, beyond, each=beyond >= as_they_stand))
        yield from _from_store(catalog, caller, query, beyond, changed.in_store_upto)
        yield from changed.jobs
        as_they_stand = as_they_stand if beyond else changed.newest
        beyond = changed.upto


def _from_store(catalog: Catalog, caller: Caller, query: Query, beyond: int, upto: int) -> Iterator[Job]:
    while beyond < upto:
        jobs = list(catalog.ended_between(beyond, upto, _FROM_STORE, query.labels, caller.check))
        yield from jobs
        if len(jobs) < _FROM_STORE:
            return
        beyond = jobs[-1].revision


def _named(catalog: Catalog, caller: Caller, job_ids: tuple[str, ...]) -> Iterator[Job]:
    def look(job_id: str) -> Job:
        caller.check()
        return catalog.get(job_id)

    for job_id in job_ids:  # before anything is told of any
        look(job_id)
    open_ones: dict[str, int] = {}
    for job in map(look, job_ids):
        if not job.done:
            open_ones[job.id] = job.revision
        yield job
    upto = 0
    while open_ones:
        changed = caller.call(partial(catalog.changes.of, open_ones, upto))
        for job in chain(changed.jobs, map(look, changed.late)):
            if job.revision > open_ones.get(job.id, job.revision):
                open_ones[job.id] = job.revision
                if job.done:
                    del open_ones[job.id]
                yield job
        upto = changed.upto
