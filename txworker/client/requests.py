"""The requests that every client sends, made of plain Python values; that of a start is in starts.py."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from txworker.client.errors import AmbiguousJob, NoSuchJob
from txworker.client.parameters import NAMES, SECONDS, TRUE_OR_FALSE, WHOLE_NUMBER, check_type, parameter
from txworker.client.values import JobState, to_duration
from txworker.pb import worker_pb2 as pb

PAGE = 500
"""The most jobs of one answer to ListJobs; a client fetches further pages by itself."""

_PREFIX = re.compile(r"[0-9a-f-]{1,35}")
"""The beginning of a UUID."""

_LEAST_CHARACTERS = 4
"""The fewest characters of a job's id that may stand for the whole."""

PROBE = pb.ListJobsReq(pageSize=1)
"""A cheap request that tells whether the worker answers."""


def id_of(job_id: str) -> str:
    """
    A job's id.

    Raises:
        TypeError: it is not a string; a job's handle, perhaps.
    """
    check_type("job_id", "a string", job_id, str)
    return job_id


def ids_of(job_ids: Iterable[str]) -> list[str]:
    """
    Job ids as a list.

    Raises:
        TypeError: they are one string, of which each character would be an id, or one of them is not a string.
    """
    if isinstance(job_ids, str):
        raise TypeError("job_ids is one string; it must be a list of strings")
    with parameter("job_ids", "a list of strings", job_ids):
        return [id_of(job_id) for job_id in job_ids]


def list_request(
    states: Iterable[JobState],
    labels: Mapping[str, str] | None,
    limit: int = 0,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pb.ListJobsReq:
    """
    The first page of at most `limit` jobs (0: all) in one of these states (none: any) with all of these labels, created
    in [since, until).

    Raises:
        TypeError: one of these is of another type.
        ValueError: one of these times cannot be sent, or the limit is negative.
    """
    request = pb.ListJobsReq()
    with parameter("states", "a list of JobState", states):
        request.states.extend(map(_state, states))
    _put_labels(request, labels)
    with parameter("limit", WHOLE_NUMBER, limit):
        request.pageSize = min(limit, PAGE)
        if limit < 0:
            raise ValueError(f"{limit} is negative")
    request.pageSize = request.pageSize or PAGE
    for name, at in (("since", since), ("until", until)):
        with parameter(name, "a datetime", at):
            if at is not None:
                getattr(request, name).CopyFrom(_timestamp(at))
    return request


def watch_request(job_ids: Iterable[str], labels: Mapping[str, str] | None) -> pb.WatchJobsReq:
    """Watches these jobs (none: all) with all of these labels. Raises TypeError as list_request()."""
    request = pb.WatchJobsReq(jobIDs=ids_of(job_ids))
    _put_labels(request, labels)
    return request


def query_request(job_id: str) -> pb.QueryJobReq:
    """Asks for a job's record. Raises TypeError as id_of()."""
    return pb.QueryJobReq(jobID=id_of(job_id))


def prefix_request(prefix: str, missing: NoSuchJob) -> pb.ListJobsReq:
    """
    Asks which jobs have an id that begins with this.

    Raises:
        NoSuchJob: no id can begin with this (the error is `missing`), or more characters are needed.
    """
    if not _PREFIX.fullmatch(prefix):
        raise missing
    if len(prefix) < _LEAST_CHARACTERS:
        sentence = f"{missing}; to find it by the beginning of its id, give at least {_LEAST_CHARACTERS} characters"
        raise NoSuchJob(sentence, missing.reason, missing.code)
    return pb.ListJobsReq(idPrefix=prefix, pageSize=2)


def only_job(prefix: str, answer: pb.ListJobsRes) -> str:
    """
    The only job id that begins with this; "" if there is none.

    Raises:
        AmbiguousJob: there are several.
    """
    found = [job.jobID for job in answer.jobs if job.jobID.startswith(prefix)]  # an older worker ignores the prefix
    if len(found) > 1:
        raise AmbiguousJob(f"several jobs' ids begin with {prefix!r}", code="INVALID_ARGUMENT")
    return found[0] if found else ""


def next_page(request: pb.ListJobsReq, answer: pb.ListJobsRes, left: int) -> bool:
    """Turn the request into that for the next page, of `left` jobs at most (0: all); False: this was the last page."""
    request.pageToken = answer.nextPageToken
    if left:
        request.pageSize = min(left, PAGE)
    return bool(request.pageToken)


def _put_labels(request: pb.ListJobsReq | pb.WatchJobsReq, labels: Mapping[str, str] | None) -> None:
    with parameter("labels", NAMES, labels):
        if labels is not None:
            request.labels.update(labels.items())


def _state(state: JobState) -> pb.JobState.ValueType:
    if not isinstance(state, int):
        raise TypeError
    return pb.JobState.ValueType(state)


def _timestamp(at: datetime) -> Timestamp:
    try:
        in_utc = at.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        sentence = f"the time {at.isoformat()} cannot be sent: in UTC its year is not one of 1 to 9999"
        raise ValueError(sentence) from error
    stamp = Timestamp()
    stamp.FromDatetime(in_utc)
    return stamp


def stop_request(job_id: str, grace: float | None, wait: bool = False) -> pb.StopJobReq:
    """A stop; grace in seconds, None for the worker's default, 0 for KILL at once. wait is only checked."""
    check_type("wait", TRUE_OR_FALSE, wait, int)
    request = pb.StopJobReq(jobID=id_of(job_id))
    with parameter("grace", SECONDS, grace):
        if (duration := to_duration(grace)) is not None:
            request.grace.CopyFrom(duration)
    return request


def signal_request(job_id: str, number: int) -> pb.SignalJobReq:
    """A signal to a job's process group. Raises TypeError as list_request(), or ValueError."""
    request = pb.SignalJobReq(jobID=id_of(job_id))
    with parameter("number", WHOLE_NUMBER, number):
        request.signal = number
    return request


def resize_request(job_id: str, rows: int, columns: int) -> pb.ResizeJobReq:
    """Another size of a job's terminal. Raises TypeError as list_request(), or ValueError."""
    request = pb.ResizeJobReq(jobID=id_of(job_id))
    with parameter("rows", WHOLE_NUMBER, rows):
        request.rows = rows
    with parameter("columns", WHOLE_NUMBER, columns):
        request.columns = columns
    return request
