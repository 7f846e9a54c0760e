"""ListJobs and WatchJobs: which jobs a request selects, and the pages of a list. Any thread."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal

from txworker.jobs import Job, JobState, Query
from txworker.jobs.errors import InvalidRequest
from txworker.jobs.query import BEYOND_NEWEST
from txworker.jobs.spec import MAX_LABEL_BYTES, MAX_LABELS
from txworker.pb import worker_pb2 as pb
from txworker.rpc.wire.jobs import job_to_pb

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""Clients refuse messages over 4 MiB."""

MIN_TIME, MAX_TIME = -62_135_596_800, 253_402_300_799
"""The seconds of a google.protobuf.Timestamp (timestamp.proto)."""

_ID_PREFIX = re.compile(r"[0-9a-f-]{0,36}")

_TOKEN = struct.Struct(">q8s")
"""The number of the last job on the page, and a digest of the query."""


def query_from_pb(request: pb.ListJobsReq) -> Query:
    """
    The query of a ListJobsReq.

    Raises:
        InvalidRequest: a state does not exist, a job cannot have such labels or such an id, or the window of time is
            empty.
    """
    labels = labels_from_pb(request.labels)
    for state in request.states:
        if not JobState.PENDING.value <= state <= JobState.LOST.value:
            raise InvalidRequest("states", int(state), "is not a state of a job")
    if not _ID_PREFIX.fullmatch(request.idPrefix):
        raise InvalidRequest("idPrefix", request.idPrefix, "begins no job's id, which is a UUID in lower case")
    since, until = _time_from_pb(request, "since"), _time_from_pb(request, "until")
    if since is not None and until is not None and until <= since:
        begin, end = request.since.ToJsonString(), request.until.ToJsonString()
        raise InvalidRequest("until", end, f"is not after since, {begin}")
    return Query(frozenset(map(JobState, request.states)), labels, request.idPrefix, since, until, request.owner)


def _time_from_pb(request: pb.ListJobsReq, field: Literal["since", "until"]) -> float | None:
    if not request.HasField(field):
        return None
    time = getattr(request, field)
    if not (MIN_TIME <= time.seconds <= MAX_TIME and 0 <= time.nanos < 10**9):
        raise InvalidRequest(field, f"seconds: {time.seconds} nanos: {time.nanos}", "is not a time from year 1 to 9999")
    return float(time.seconds + time.nanos / 1e9)


def labels_from_pb(labels: Mapping[str, str]) -> dict[str, str]:
    """
    The labels that a request selects jobs by.

    Raises:
        InvalidRequest: there are more than a job can have, or longer ones than a job can have.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidRequest("labels", len(labels), f"are too many: a job has {MAX_LABELS} at most")
    for name, value in labels.items():
        if len(name) + len(value) > MAX_LABEL_BYTES:  # characters, not bytes: a quick check, not an exact one
            raise InvalidRequest("labels", name, f"is too long, with its value: {MAX_LABEL_BYTES} bytes at most")
    return dict(labels)


def page_size(request: pb.ListJobsReq) -> int:
    """
    The highest number of jobs on the page, MAX_PAGE_SIZE at most.

    Raises:
        InvalidRequest: it is negative.
    """
    if request.pageSize < 0:
        raise InvalidRequest("pageSize", request.pageSize, "is negative")
    return min(request.pageSize or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_start(request: pb.ListJobsReq, query: Query) -> int:
    """
    The page has jobs with numbers below the returned one.

    Raises:
        InvalidRequest: the token was not made by this worker, or for another query.
    """
    if not request.pageToken:
        return BEYOND_NEWEST
    with suppress(ValueError, struct.error):
        before, digest = _TOKEN.unpack(base64.b64decode(request.pageToken.encode(), b"-_", validate=True))
        if digest != _digest(query):
            same = "states, labels, idPrefix, since, until and owner must be the same"
            raise InvalidRequest("pageToken", request.pageToken, f"belongs to a list of other jobs: {same}")
        return int(before)
    raise InvalidRequest("pageToken", request.pageToken, "was not given by this worker")


def page_to_pb(jobs: Iterable[Job], most: int, query: Query, max_bytes: int = MAX_PAGE_BYTES) -> pb.ListJobsRes:
    """
    A page of the first `most` jobs, or fewer when more would exceed max_bytes, but one at least.

    nextPageToken is set when `jobs` has more: hand in one job more than `most` at least.
    """
    page = pb.ListJobsRes()
    size = 0
    last = 0
    for job in jobs:
        message = job_to_pb(job)
        size += message.ByteSize()
        if len(page.jobs) == most or (page.jobs and size > max_bytes):
            page.nextPageToken = base64.urlsafe_b64encode(_TOKEN.pack(last, _digest(query))).decode()
            break
        page.jobs.append(message)
        last = job.number
    return page


def _digest(query: Query) -> bytes:
    parts: tuple[object, ...] = (sorted(state.value for state in query.states), sorted(query.labels.items()))
    if query.id_prefix or query.has_window:  # tokens without these are as an older worker made them
        parts += (query.id_prefix, query.since, query.until)
    if query.owner:
        parts += (query.owner,)
    text = repr(parts)
    return hashlib.sha256(text.encode()).digest()[:8]
