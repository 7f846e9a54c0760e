"""Bad requests: each has its status and reason, and none leaves anything behind."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

Code = grpc.StatusCode

STARTS: list[tuple[dict[str, Any], grpc.StatusCode, str, str]] = [
    ({}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "command: ''"),
    ({"command": "a 'b"}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "quotation"),
    ({"command": "a\0b"}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "NUL"),
    ({"command": "ls", "path": "\0"}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "path: "),
    ({"command": "ls", "args": ["\0"]}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "args[0]: "),
    ({"command": "ls", "args": ["x" * 131_072]}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "too long"),
    ({"command": "ls", "args": ["x" * 100_000] * 38}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "too long"),
    ({"command": "ls", "env": {"A=B": "C"}}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "env: 'A=B'"),
    ({"command": "ls", "env": {"": "C"}}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "env: ''"),
    ({"command": "ls", "env": {"A": "\0"}}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "env[A]"),
    ({"command": "ls", "timeout": Duration(seconds=-1)}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "timeout: -1"),
    ({"command": "ls", "timeout": Duration()}, Code.INVALID_ARGUMENT, "INVALID_ARGUMENT", "timeout: 0"),
    ({"command": "no-such-program"}, Code.NOT_FOUND, "EXECUTABLE_NOT_FOUND", "'no-such-program'"),
    ({"path": "./no-such-script"}, Code.NOT_FOUND, "EXECUTABLE_NOT_FOUND", "'./no-such-script'"),
    ({"command": "ls", "directory": "/no/such"}, Code.NOT_FOUND, "DIRECTORY_NOT_FOUND", "directory: '/no/such'"),
    ({"path": "/etc/passwd"}, Code.PERMISSION_DENIED, "NOT_PERMITTED", "'/etc/passwd'"),
    ({"path": "/"}, Code.PERMISSION_DENIED, "NOT_PERMITTED", "'/'"),
    ({"command": "ls", "user": "other"}, Code.FAILED_PRECONDITION, "NOT_OFFERED", "user: 'other'"),
    ({"command": "ls", "envFiles": {"A": "/f"}}, Code.FAILED_PRECONDITION, "NOT_OFFERED", "envFiles: ['A']"),
    ({"command": "ls", "limits": pb.Limits(maxTotalCPUs=2)}, Code.FAILED_PRECONDITION, "NOT_OFFERED", "CPUs: 2.0"),
]


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value  # a Call, too
    status = rpc_status.from_call(error)
    assert status is not None
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "txworker"
    return error.code(), info.reason, error.details()


def test_start(daemon: Daemon) -> None:
    """What cannot be started says why, and leaves no job, no file, no descriptor and no thread."""
    daemon.end(daemon.start("true"))
    before = daemon.descriptors()
    for request, code, reason, words in STARTS:
        message = pb.StartJobReq(**request)
        got_code, got_reason, sentence = refused(partial(daemon.stub.StartJob, message))
        assert (got_code, got_reason) == (code, reason), request
        assert words in sentence
    wait_until(lambda: daemon.descriptors() <= before)
    assert len(os.listdir(daemon.output)) == 1


def test_repeated_with_what_is_not_offered(daemon: Daemon) -> None:
    """A request id with fields that are not offered is refused, whether or not a job has it; no job gets it by that."""
    other = pb.StartJobReq(command="true", requestID="again", user="other")
    for _ in range(2):
        assert refused(partial(daemon.stub.StartJob, other))[1] == "NOT_OFFERED"
        job_id = daemon.start("true", requestID="again")
    assert daemon.start("true", requestID="again", user=pwd.getpwuid(os.getuid()).pw_name) == job_id


def test_owner(daemon: Daemon) -> None:
    """No job has an owner: one owner's list is empty, and the record has none."""
    job_id = daemon.start("true")
    assert not daemon.stub.ListJobs(pb.ListJobsReq(owner="me"), timeout=LIMIT).jobs
    assert daemon.end(job_id).job.owner == ""
    assert not daemon.stub.ListJobs(pb.ListJobsReq(owner="me"), timeout=LIMIT).jobs


def test_others(daemon: Daemon) -> None:
    """Unknown jobs are NOT_FOUND; numbers that cannot be meant are INVALID_ARGUMENT."""
    job_id = daemon.start("echo", "hi")
    daemon.end(job_id)
    stub = daemon.stub
    stream: Callable[..., Any] = lambda **request: lambda: list(stub.StreamJob(pb.StreamJobReq(**request)))  # noqa: E731
    feed: Callable[..., Any] = lambda *messages: lambda: stub.FeedJob(iter(messages), timeout=LIMIT)  # noqa: E731
    table: list[tuple[Callable[[], Any], grpc.StatusCode]] = [
        (lambda: stub.StopJob(pb.StopJobReq(jobID="nobody")), Code.NOT_FOUND),
        (lambda: stub.StopJob(pb.StopJobReq()), Code.INVALID_ARGUMENT),
        (lambda: stub.StopJob(pb.StopJobReq(jobID=job_id, grace=Duration(seconds=-1))), Code.INVALID_ARGUMENT),
        (lambda: stub.QueryJob(pb.QueryJobReq(jobID="nobody")), Code.NOT_FOUND),
        (lambda: stub.QueryJob(pb.QueryJobReq()), Code.INVALID_ARGUMENT),
        (stream(path="nobody"), Code.NOT_FOUND),
        (stream(jobID="hi"), Code.NOT_FOUND),
        (stream(), Code.INVALID_ARGUMENT),
        (stream(jobID=job_id, offset=-1), Code.INVALID_ARGUMENT),
        (stream(jobID=job_id, tailLines=-1), Code.INVALID_ARGUMENT),
        (stream(jobID=job_id, offset=1, tailLines=1), Code.INVALID_ARGUMENT),
        (stream(jobID=job_id, stderr=True), Code.INVALID_ARGUMENT),
        (stream(jobID=job_id, offset=4), Code.OUT_OF_RANGE),
        (feed(), Code.INVALID_ARGUMENT),
        (feed(pb.FeedJobReq()), Code.INVALID_ARGUMENT),
        (feed(pb.FeedJobReq(jobID="nobody")), Code.NOT_FOUND),
        (feed(pb.FeedJobReq(jobID=job_id)), Code.FAILED_PRECONDITION),
    ]
    for number, (call, code) in enumerate(table):
        assert refused(call)[0] is code, number


def test_ceiling(a_daemon: Callable[..., Daemon]) -> None:
    """Above jobs.max_running a start is refused; a place that is given back can be taken again."""
    worker = a_daemon("[jobs]\nmax_running = 1")
    first = worker.start("sleep", "100")
    code, reason, sentence = refused(lambda: worker.start("true"))
    assert (code, reason) == (Code.RESOURCE_EXHAUSTED, "MAX_RUNNING")
    assert "jobs.max_running: 1" in sentence
    worker.stub.StopJob(pb.StopJobReq(jobID=first))
    worker.end(first)
    worker.start("true")


def test_expired_call_launches_nothing(a_daemon: Callable[..., Daemon]) -> None:
    """A start whose deadline passes before the worker comes to it starts nothing."""
    worker = a_daemon()
    worker.end(worker.start("true"))
    os.kill(worker.process.pid, 19)
    try:
        with pytest.raises(grpc.RpcError) as caught:
            worker.stub.StartJob(pb.StartJobReq(command="touch", path="launched"), timeout=0.2)
    finally:
        os.kill(worker.process.pid, 18)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    worker.end(worker.start("true"))
    assert not (worker.place / "launched").exists()
