"""The requests that every client sends, made of plain Python values."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TypedDict

from google.protobuf.timestamp_pb2 import Timestamp

from txworker.client.errors import AmbiguousJob, NoSuchJob
from txworker.client.values import JobState, Limits, to_duration
from txworker.pb import worker_pb2 as pb

PAGE = 500
"""The most jobs of one answer to ListJobs; a client fetches further pages by itself."""

_PREFIX = re.compile(r"[0-9a-f-]{1,35}")
"""The beginning of a UUID."""

_LEAST_CHARACTERS = 4
"""Of a job's id, when its beginning stands for it."""

PROBE = pb.ListJobsReq(pageSize=1)
"""A cheap request that tells whether the worker answers."""


class StartDetails(TypedDict, total=False):
    """The optional arguments of a start, by keyword. Times are in seconds."""

    args: Sequence[str]
    """The arguments after `path`, each exactly as it is: no shell and no splitting."""
    env: Mapping[str, str]
    """Added to the environment that the worker gives to jobs."""
    directory: str
    """Where the job runs; by default what the worker is configured for."""
    request_id: str
    """A start with an id that was used before returns that start's job. By default each start has an id of its own."""
    timeout: float
    """The job is stopped after this time."""
    quiet_timeout: float
    """The job is stopped when it has printed nothing for this time."""
    stdin: bytes
    """What the job reads from its standard input; at most 4 MiB together with the rest of the request."""
    feed: bool
    """The standard input stays open behind `stdin`, for the bytes of feed()."""
    limits: Limits
    """What the job and its children may use."""
    labels: Mapping[str, str]
    """Names and values by which jobs can be selected."""
    separate_stderr: bool
    """Keep stderr apart: follow() shows stdout, and follow(stderr=True) stderr."""
    leftovers: str
    """"end" or "keep": what happens to processes that the job leaves behind."""
    tty: tuple[int, int]
    """Rows and columns of a pseudo-terminal, which is the job's stdin, stdout and stderr; 0: 24 rows, 80 columns."""
    lease: float
    """The job is stopped when its lease was not renewed for this time; at least one second."""


def ids_of(job_ids: Iterable[str]) -> list[str]:
    """
    Job ids as a list.

    Raises:
        TypeError: they are one string, of which each character would be an id.
    """
    if isinstance(job_ids, str):
        raise TypeError("job_ids is one string; it must be a list of strings")
    return list(job_ids)


def start_request(command: str, path: str, details: StartDetails) -> pb.StartJobReq:
    """
    A start, with a request id of its own unless one is given: sent again, it starts nothing a second time.

    Raises:
        TypeError: there is no such argument, or args is one string.
        ValueError: a text cannot be sent because it is not UTF-8 (UnicodeEncodeError), or a time is not finite.
    """
    unknown = set(details) - set(StartDetails.__annotations__)
    if unknown:
        raise TypeError(f"a start has no {sorted(unknown)[0]!r}; it has {', '.join(StartDetails.__annotations__)}")
    if isinstance(details.get("args"), str):
        raise TypeError("args is one string; it must be a list of strings")
    limits = details.get("limits")
    tty = details.get("tty")
    rows, columns = tty or (0, 0)
    return pb.StartJobReq(
        command=command,
        path=path,
        args=details.get("args", ()),
        env=details.get("env"),
        directory=details.get("directory", ""),
        requestID=details.get("request_id") or str(uuid.uuid4()),
        timeout=to_duration(details.get("timeout")),
        quietTimeout=to_duration(details.get("quiet_timeout")),
        stdin=details.get("stdin", b""),
        limits=limits.to_pb() if limits else None,
        labels=details.get("labels"),
        separateStderr=details.get("separate_stderr", False),
        leftovers=details.get("leftovers", ""),
        tty=tty is not None,
        ttyRows=rows,
        ttyColumns=columns,
        feed=details.get("feed", False),
        lease=to_duration(details.get("lease")),
    )


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
        ValueError: one of these times cannot be sent.
    """
    return pb.ListJobsReq(
        states=[pb.JobState.ValueType(state) for state in states],
        labels=labels,
        pageSize=min(limit, PAGE) if limit else PAGE,
        since=_timestamp(since),
        until=_timestamp(until),
    )


def prefix_request(prefix: str, missing: NoSuchJob) -> pb.ListJobsReq:
    """
    Asks which jobs have an id that begins with this.

    Raises:
        NoSuchJob: no id begins so, which is `missing`; or more characters are needed.
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


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    try:
        in_utc = at.astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        sentence = f"the time {at.isoformat()} cannot be sent: in UTC its year is not one of 1 to 9999"
        raise ValueError(sentence) from error
    stamp = Timestamp()
    stamp.FromDatetime(in_utc)
    return stamp


def stop_request(job_id: str, grace: float | None) -> pb.StopJobReq:
    """A stop; grace in seconds, None for the worker's default, 0 for KILL at once."""
    return pb.StopJobReq(jobID=job_id, grace=to_duration(grace))
