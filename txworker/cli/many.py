"""Commands about many jobs: list them, wait for them, watch them. Each returns the exit status."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice

import grpc

from txworker.base.printable import cut
from txworker.cli import output
from txworker.cli.failures import REFUSED, TIMED_OUT, Failed
from txworker.cli.show import MOST_CHARACTERS, as_json, exit_status, header, is_done, row, seconds, state_name
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_PAGE = 500


def ps(stub: WorkerStub, options: argparse.Namespace) -> int:
    """List jobs, newest first."""
    show = _shower(options)
    states = [state for states in options.state for state in states]
    request = pb.ListJobsReq(states=states, labels=options.label)
    jobs = _listed(stub, request, options.limit, options.deadline)
    newest = list(islice(jobs, 1))  # a worker that does not answer gets no heading
    if not (options.json or options.quiet):
        output.say(header(_width()))
    for job in chain(newest, jobs):
        output.say(job.jobID if options.quiet else show(job))
    return 0


def wait(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Wait until the jobs are done; as one of them ended, or 1 when one of several did not end well."""
    ended: dict[str, pb.Job] = {}
    try:
        for event in stub.WatchJobs(pb.WatchJobsReq(jobIDs=options.jobs), timeout=options.timeout):
            if is_done(event.job):
                ended[event.job.jobID] = event.job
                _tell_end(options, event.job)
    except grpc.RpcError as error:
        if options.timeout is None or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
        missing = _missing(len(set(options.jobs)) - len(ended), len(set(options.jobs)))
        raise Failed(f"{missing} not done after {options.timeout:g} s", TIMED_OUT) from error
    statuses = [exit_status(job) for job in ended.values()]
    return statuses[0] if len(statuses) == 1 else REFUSED * any(statuses)


def watch(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Print the jobs as they stand, then every change; until interrupted, or until all that were named are done."""
    show = _shower(options)
    is_old = _done_before(stub, options.deadline) if options.no_finished else lambda job: False
    for event in stub.WatchJobs(pb.WatchJobsReq(jobIDs=options.jobs, labels=options.label)):
        if not is_old(event.job):
            output.say(show(event.job))
    return 0


def _listed(stub: WorkerStub, request: pb.ListJobsReq, most: int, deadline: float) -> Iterator[pb.Job]:
    """So many of the jobs that are meant, page by page; 0: all."""
    left = most
    while True:
        request.pageSize = min(left, _PAGE) if most else _PAGE
        answer = stub.ListJobs(request, timeout=deadline)
        yield from answer.jobs
        left -= len(answer.jobs)
        request.pageToken = answer.nextPageToken
        if not request.pageToken or (most and left <= 0):
            return


def _done_before(stub: WorkerStub, deadline: float) -> Callable[[pb.Job], bool]:
    """
    Says of a job whether it was done before this was called.

    A watch does not say where its beginning ends, and a job may come and go between two looks; so: one that was done
    and is no younger than the newest there was, but was not among the unfinished.
    """
    newest = seconds(next((job.createdAt for job in _listed(stub, pb.ListJobsReq(), 1, deadline)), pb.Job().createdAt))
    states = [pb.JOB_STATE_PENDING, pb.JOB_STATE_RUNNING, pb.JOB_STATE_STOPPING]
    unfinished = {job.jobID for job in _listed(stub, pb.ListJobsReq(states=states), 0, deadline)}
    return lambda job: is_done(job) and seconds(job.createdAt) <= newest and job.jobID not in unfinished


def _shower(options: argparse.Namespace) -> Callable[[pb.Job], str]:
    if options.json:
        return as_json
    width = _width()
    return lambda job: row(job, time.time(), width)


def _width() -> int | None:
    """The terminal's; None: there is none."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _missing(count: int, wanted: int) -> str:
    if wanted == 1:
        return "the job was"
    return f"{count} of {wanted} jobs {'was' if count == 1 else 'were'}"


def _tell_end(options: argparse.Namespace, job: pb.Job) -> None:
    if options.quiet:
        return
    output.say(as_json(job) if options.json else _end(job))


def _end(job: pb.Job) -> str:
    state = state_name(job)
    why = cut(job.errorText.removeprefix(f"{state}: "), MOST_CHARACTERS)  # of a lost job, the worker says so itself
    return f"{job.jobID} {state}: {why}" if why else f"{job.jobID} {state}"
