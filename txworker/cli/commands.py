"""Commands about one job: one short function each, which returns the exit status."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from txworker.cli.failures import failure
from txworker.cli.show import command_line, exit_status, printable, state_name
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub


def start(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Start a job and print its id."""
    answer = stub.StartJob(_start_request(options), timeout=options.deadline)
    _say(options, answer, answer.jobID)
    return 0


def stop(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Ask a job to end."""
    answer = stub.StopJob(pb.StopJobReq(jobID=options.job, grace=_duration(options.grace)), timeout=options.deadline)
    _say(options, answer, "")
    return 0


def query(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Print how a job stands."""
    answer = stub.QueryJob(pb.QueryJobReq(jobID=options.job), timeout=options.deadline)
    _say(options, answer, "\n".join(f"{name:<12}{value}" for name, value in _record(answer) if value))
    return 0


def stream(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Copy a job's output to stdout."""
    request = pb.StreamJobReq(
        path=options.job,
        offset=options.offset,
        tailLines=options.tail,
        noFollow=options.no_follow,
        stderr=options.stderr,
        raw=not options.text,
    )
    _copy(stub, request)
    return 0


def run(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Start a job, copy its output, and end as it does; SIGINT and SIGTERM stop it, a second one kills it."""
    with _signals_noted() as asked:
        job_id = stub.StartJob(_start_request(options), timeout=options.deadline).jobID
        threading.Thread(target=_stop_when_asked, args=(stub, job_id, asked), daemon=True).start()
        try:
            answer = _followed(stub, options, job_id)
        except grpc.RpcError as error:
            raise failure(error, options.addr, job_id) from error
    if answer.error:
        print(f"txworker: job {job_id}: {answer.errorText}", file=sys.stderr)
    return exit_status(answer.job)


def _followed(stub: WorkerStub, options: argparse.Namespace, job_id: str) -> pb.QueryJobRes:
    _copy(stub, pb.StreamJobReq(jobID=job_id, raw=True))
    if options.separate_stderr:
        _copy(stub, pb.StreamJobReq(jobID=job_id, raw=True, stderr=True), sys.stderr.buffer)
    return stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=options.deadline)


def _start_request(options: argparse.Namespace) -> pb.StartJobReq:
    command, *rest = options.argv
    return pb.StartJobReq(
        command=command,
        path=rest[0] if rest else "",
        args=rest[1:],
        env=options.env,
        labels=options.label,
        directory=options.directory,
        requestID=options.request_id,
        timeout=_duration(options.timeout),
        quietTimeout=_duration(options.quiet_timeout),
        stdin=_stdin(options.stdin),
        separateStderr=options.separate_stderr,
        limits=pb.Limits(
            maxOutputBytes=options.max_output,
            maxMemoryBytes=options.max_memory,
            maxCPU=_duration(options.max_cpu),
            maxOpenFiles=options.max_open_files,
            maxProcesses=options.max_processes,
        ),
    )


def _copy(stub: WorkerStub, request: pb.StreamJobReq, to: Any = None) -> None:
    out = sys.stdout.buffer if to is None else to
    for message in stub.StreamJob(request):
        out.write(message.data or message.output.encode())
        out.flush()


@contextmanager
def _signals_noted() -> Iterator[threading.Semaphore]:
    """While inside, SIGINT and SIGTERM only count up the semaphore."""
    asked = threading.Semaphore(0)
    before = {number: signal.signal(number, lambda *_: asked.release()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_when_asked(stub: WorkerStub, job_id: str, asked: threading.Semaphore) -> None:
    for grace in (None, 0.0):
        asked.acquire()
        try:
            stub.StopJob(pb.StopJobReq(jobID=job_id, grace=_duration(grace)), timeout=10)
        except grpc.RpcError as error:
            print(f"txworker: stopping job {job_id}: {error.details()}", file=sys.stderr)


def _record(answer: pb.QueryJobRes) -> list[tuple[str, object]]:
    job = answer.job
    known = answer.done and job.state != pb.JOB_STATE_LOST  # of a lost job nobody knows how it ended
    return [
        ("job", job.jobID),
        ("argv", command_line(job)),
        ("state", state_name(job)),
        ("error", printable(job.errorText)),
        ("exit code", str(job.exitCode) if known and not job.signal else ""),
        ("signal", job.signal),
        ("pid", job.pid),
        ("created", job.createdAt.ToJsonString()),
        ("started", job.startedAt.ToJsonString() if job.HasField("startedAt") else ""),
        ("finished", job.finishedAt.ToJsonString() if job.HasField("finishedAt") else ""),
        ("output", f"{job.outputBytes} bytes{', truncated' if job.outputTruncated else ''}"),
        ("CPU", f"{_in_seconds(job.userCPU)} s user, {_in_seconds(job.systemCPU)} s system" if known else ""),
        ("memory", f"{job.maxRSSBytes} bytes" if known else ""),
        ("left over", f"{job.leftoversEnded} processes, ended" if job.leftoversEnded else ""),
        ("labels", printable(" ".join(f"{name}={value}" for name, value in sorted(job.labels.items())))),
        ("request id", printable(job.requestID)),
    ]


def _say(options: argparse.Namespace, answer: Message, text: str) -> None:
    if options.json:
        print(json.dumps(MessageToDict(answer, preserving_proto_field_name=True)))
    elif text:
        print(text)


def _stdin(name: str | None) -> bytes:
    if name is None:
        return b""
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _duration(seconds: float | None) -> Duration | None:
    return None if seconds is None else Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _in_seconds(duration: Duration) -> str:
    return f"{duration.seconds + duration.nanos / 1e9:.3f}"
