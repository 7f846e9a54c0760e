"""The requests that every client sends, made of plain Python values."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from txworker.client.values import JobState, Limits, to_duration
from txworker.pb import worker_pb2 as pb

PAGE = 500
"""Jobs of one answer to ListJobs; a client asks for the next page by itself."""


class StartDetails(TypedDict, total=False):
    """
    What may be said of a job beside its command and path, by keyword. Times are seconds.

    args are exact, after path. env is added to the worker's environment. request_id: the same id again brings the same
    job back. leftovers: "end" or "keep". separate_stderr keeps stderr in a file of its own.
    """

    args: Sequence[str]
    env: Mapping[str, str]
    directory: str
    request_id: str
    timeout: float
    quiet_timeout: float
    stdin: bytes
    limits: Limits
    labels: Mapping[str, str]
    separate_stderr: bool
    leftovers: str


def start_request(command: str, path: str, details: StartDetails) -> pb.StartJobReq:
    """
    A start, with a request id of its own unless one is given: sent again, it starts nothing a second time.

    Raises:
        TypeError: there is no such detail.
    """
    unknown = set(details) - set(StartDetails.__annotations__)
    if unknown:
        raise TypeError(f"a start has no {sorted(unknown)[0]!r}; it has {', '.join(StartDetails.__annotations__)}")
    limits = details.get("limits")
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
    )


def list_request(states: Iterable[JobState], labels: Mapping[str, str] | None) -> pb.ListJobsReq:
    """The first page of the jobs in one of these states (none: any) with all of these labels."""
    return pb.ListJobsReq(states=[pb.JobState.ValueType(state) for state in states], labels=labels, pageSize=PAGE)


def stop_request(job_id: str, grace: float | None) -> pb.StopJobReq:
    """A stop; grace in seconds, None for the worker's default, 0 for KILL at once."""
    return pb.StopJobReq(jobID=job_id, grace=to_duration(grace))
