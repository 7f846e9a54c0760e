"""Commands for single jobs: stop, query, stream. Each returns the exit status."""

from __future__ import annotations

import argparse
from typing import Any

from google.protobuf.duration_pb2 import Duration

from txworker.base.printable import cut
from txworker.cli import console
from txworker.cli.connect import with_tls
from txworker.cli.console import STDOUT
from txworker.cli.failures import UNREACHABLE, failure
from txworker.cli.formatting import MOST_CHARACTERS, as_json, command_line, state_name
from txworker.client import Client, NoSuchJob, WorkerError
from txworker.pb import worker_pb2 as pb


def stop(client: Client, options: argparse.Namespace) -> int:
    """Stop jobs, each independently of errors for the others; the highest exit status."""
    return max([_stop_one(client, options, job_id) for job_id in options.jobs])


def query(client: Client, options: argparse.Namespace) -> int:
    """Print the record of a job."""
    record = client.get(options.job)
    answer = pb.QueryJobRes(
        done=record.done, error=record.done and not record.ok, errorText=record.error_text, job=record.message
    )
    lines = (f"{name:<12}{value}" for name, value in _record(answer) if value)
    console.print_lines(*([as_json(answer)] if options.json else lines))
    return 0


def stream(client: Client, options: argparse.Namespace) -> int:
    """Copy a job's output to stdout."""
    console.check_open()
    job = client.job(_job_or_path(client, options.job))
    how: dict[str, Any] = {"stderr": options.stderr, "tail": options.tail, "live": not options.no_follow}
    if options.text:
        console.copy((text.encode() for text in job.text(options.offset, **how)), STDOUT)
    else:
        console.copy(job.follow(options.offset, **how), STDOUT)
    return 0


def _job_or_path(client: Client, name: str) -> str:
    """The id of the job with that id, or of the newest one that was started with that path."""
    try:
        return client.get(name).id
    except NoSuchJob:
        for record in client.jobs():
            if record.path == name:
                return record.id
        raise


def _stop_one(client: Client, options: argparse.Namespace, job_id: str) -> int:
    try:
        client.stop(job_id, options.grace)
    except WorkerError as error:
        failed = failure(error, options.addr, with_tls=with_tls(options))
        if failed.status == UNREACHABLE:
            raise failed from error
        console.print_error(str(failed))
        return failed.status
    if options.json:
        console.print_lines(as_json(pb.StopJobRes()))
    return 0


def _record(answer: pb.QueryJobRes) -> list[tuple[str, object]]:
    job = answer.job
    known = answer.done and job.state != pb.JOB_STATE_LOST  # how a lost job ended is unknown
    return [
        ("job", job.jobID),
        ("argv", command_line(job)),
        ("state", state_name(job)),
        ("error", cut(job.errorText, MOST_CHARACTERS)),
        ("exit code", str(job.exitCode) if known and not job.signal else ""),
        ("signal", job.signal),
        ("pid", job.pid),
        ("created", job.createdAt.ToJsonString()),
        ("started", job.startedAt.ToJsonString() if job.HasField("startedAt") else ""),
        ("finished", job.finishedAt.ToJsonString() if job.HasField("finishedAt") else ""),
        ("output", f"{job.outputBytes} bytes{', truncated' if job.outputTruncated else ''}"),
        ("CPU", f"{_in_seconds(job.userCPU)} s user, {_in_seconds(job.systemCPU)} s system" if known else ""),
        ("memory", f"{job.maxRSSBytes} bytes" if known else ""),
        ("left over", _left_over(job.leftoversEnded)),
        ("labels", cut(" ".join(f"{name}={value}" for name, value in sorted(job.labels.items())), MOST_CHARACTERS)),
        ("request id", cut(job.requestID, MOST_CHARACTERS)),
    ]


def _left_over(count: int) -> str:
    if count == 1:
        return "1 process, ended"
    return f"{count} processes, ended" if count else ""


def _in_seconds(time: Duration) -> str:
    return f"{time.seconds + time.nanos / 1e9:.3f}"
