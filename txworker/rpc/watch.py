"""Sends jobs to one watcher, in one thread: their present records, then each change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from txworker.jobs import Job, Query
from txworker.jobs.errors import InvalidRequest
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Caller
from txworker.rpc.wire.lists import labels_from_pb
from txworker.worker.catalog import Catalog

JOBS_PER_READ = 100
"""Jobs that are read from the store at a time. A watcher that reads nothing keeps that many in memory."""


def watch(catalog: Catalog, caller: Caller, request: pb.WatchJobsReq) -> Iterator[Job]:
    """
    The records of one watcher. A watcher that is a thousand changes late gets the newest record of each job instead of
    every change. With jobIDs it ends when all of these jobs are done. Any thread but the reactor's.

    Raises:
        InvalidRequest: a job id is empty, or there are more labels than a job can have.
        NoSuchJob: a job id is unknown.
        WorkerStopping: the worker ends.
        CallerGone: the watcher left.
    """
    query = Query(labels=labels_from_pb(request.labels))
    if "" in request.jobIDs:
        raise InvalidRequest("jobIDs", "", "is no job's id")
    if request.jobIDs:
        jobs = _named(catalog, caller, tuple(dict.fromkeys(request.jobIDs)))
    else:
        jobs = _all(catalog, caller, query)
    return (catalog.with_output(job) for job in jobs if query.matches(job))


def _all(catalog: Catalog, caller: Caller, query: Query) -> Iterator[Job]:
    beyond, snapshot = 0, 1
    while True:
        changed = caller.call(partial(catalog.changes.since, beyond, each=beyond >= snapshot))
        yield from _from_store(catalog, caller, query, beyond, changed.in_store_upto)
        yield from changed.jobs
        snapshot = snapshot if beyond else changed.newest
        beyond = changed.upto


def _from_store(catalog: Catalog, caller: Caller, query: Query, beyond: int, upto: int) -> Iterator[Job]:
    while beyond < upto:
        jobs = list(catalog.ended_between(beyond, upto, JOBS_PER_READ, query.labels, caller.check))
        yield from jobs
        if len(jobs) < JOBS_PER_READ:
            return
        beyond = jobs[-1].revision


def _named(catalog: Catalog, caller: Caller, job_ids: tuple[str, ...]) -> Iterator[Job]:
    def current_record(job_id: str) -> Job:
        caller.check()
        return catalog.get(job_id)

    for job_id in job_ids:  # an unknown id is an error before anything is sent
        current_record(job_id)
    unfinished: dict[str, int] = {}
    for job in map(current_record, job_ids):
        if not job.done:
            unfinished[job.id] = job.revision
        yield job
    upto = 0
    while unfinished:
        changed = caller.call(partial(catalog.changes.of, unfinished, upto))
        for job in chain(changed.jobs, map(current_record, changed.late)):
            if job.revision > unfinished.get(job.id, job.revision):
                unfinished[job.id] = job.revision
                if job.done:
                    del unfinished[job.id]
                yield job
        upto = changed.upto
