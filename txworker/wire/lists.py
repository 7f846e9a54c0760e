"""ListJobs and WatchJobs, side by side with our words: which jobs are meant, and where a page begins. Any thread."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress

from txworker.jobs import Job, JobState, Query
from txworker.jobs.errors import InvalidRequest
from txworker.jobs.query import BEYOND_NEWEST
from txworker.jobs.spec import MAX_LABEL_BYTES, MAX_LABELS
from txworker.pb import worker_pb2 as pb
from txworker.wire.jobs import job_to_pb

USUAL_PAGE, LARGEST_PAGE = 100, 1000
LARGEST_PAGE_BYTES = 3 * 1024 * 1024
"""Clients refuse messages over 4 MiB."""

_TOKEN = struct.Struct(">q8s")


def query_from_pb(request: pb.ListJobsReq) -> Query:
    """
    The jobs that are meant.

    Raises:
        InvalidRequest: a state is none, or there are more labels than a job can have.
    """
    labels = labels_from_pb(request.labels)
    for state in request.states:
        if not JobState.PENDING.value <= state <= JobState.LOST.value:
            raise InvalidRequest("states", int(state), "is no state of a job")
    return Query(frozenset(map(JobState, request.states)), labels)


def labels_from_pb(labels: Mapping[str, str]) -> dict[str, str]:
    """
    The labels that jobs are wanted by.

    Raises:
        InvalidRequest: there are more than a job can have, or longer ones.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidRequest("labels", len(labels), f"are too many: a job has {MAX_LABELS} at most")
    for name, value in labels.items():
        if len(name) + len(value) > MAX_LABEL_BYTES:  # characters, so no more than certainly cannot be
            raise InvalidRequest("labels", name, f"is too long, with its value: {MAX_LABEL_BYTES} bytes at most")
    return dict(labels)


def page_size(request: pb.ListJobsReq) -> int:
    """
    How many jobs at most; more than a thousand are not sent at once.

    Raises:
        InvalidRequest: it is negative.
    """
    if request.pageSize < 0:
        raise InvalidRequest("pageSize", request.pageSize, "is negative")
    return min(request.pageSize or USUAL_PAGE, LARGEST_PAGE)


def page_start(request: pb.ListJobsReq, query: Query) -> int:
    """
    The number below which the page begins.

    Raises:
        InvalidRequest: the token is none of ours, or belongs to other states or labels.
    """
    if not request.pageToken:
        return BEYOND_NEWEST
    with suppress(ValueError, struct.error):
        before, digest = _TOKEN.unpack(base64.b64decode(request.pageToken.encode(), b"-_", validate=True))
        if digest != _digest(query):
            raise InvalidRequest("pageToken", request.pageToken, "belongs to a list of other states or labels")
        return int(before)
    raise InvalidRequest("pageToken", request.pageToken, "was not given by this worker")


def page_to_pb(jobs: Iterable[Job], most: int, query: Query) -> pb.ListJobsRes:
    """
    A page of at most so many of these jobs, and of no more than fit into one message; with a token when there are
    more.
    """
    page = pb.ListJobsRes()
    size = 0
    last = 0
    for job in jobs:
        message = job_to_pb(job)
        size += message.ByteSize()
        if len(page.jobs) == most or (page.jobs and size > LARGEST_PAGE_BYTES):
            page.nextPageToken = base64.urlsafe_b64encode(_TOKEN.pack(last, _digest(query))).decode()
            break
        page.jobs.append(message)
        last = job.number
    return page


def _digest(query: Query) -> bytes:
    words = repr((sorted(state.value for state in query.states), sorted(query.labels.items())))
    return hashlib.sha256(words.encode()).digest()[:8]
