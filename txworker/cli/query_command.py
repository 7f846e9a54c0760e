"""`txworker query` and `txworker inspect`. Both return the exit status."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration

from txworker.base.printable import cut
from txworker.base.quantities import counted
from txworker.cli import console
from txworker.cli.colours import with_state
from txworker.cli.formatting import MOST_CHARACTERS, as_json, command_line, state_name
from txworker.cli.named_jobs import for_each
from txworker.client import Client
from txworker.client.values import record_of
from txworker.pb import worker_pb2 as pb

_NAME_WIDTH = 12

_NOT_CUT = 2**31
"""A number of characters that no text has."""


def query(client: Client, options: argparse.Namespace) -> int:
    """Print the main fields of jobs' records; with --json the whole answers."""

    def query_one(word: str) -> None:
        record = client.get(word)
        error = record.done and not record.ok
        answer = pb.QueryJobRes(done=record.done, error=error, errorText=record.error_text, job=record.message)
        _print(
            options, [as_json(answer)] if options.json else _lines(options, _summary(record.message, MOST_CHARACTERS))
        )

    return for_each(options, options.jobs, query_one)


def inspect(client: Client, options: argparse.Namespace) -> int:
    """Print all of jobs' records, with how they were started; nothing is cut."""

    def inspect_one(word: str) -> None:
        job = client.get(word).message
        lines = _lines(options, [*_summary(job, _NOT_CUT), *_how_started(job)])
        _print(options, [as_json(job)] if options.json else lines)

    return for_each(options, options.jobs, inspect_one)


def _print(options: argparse.Namespace, lines: list[str]) -> None:
    """With an empty line after each of several jobs."""
    console.print_lines(*lines, *([""] if len(options.jobs) > 1 and not options.json else []))


def _lines(options: argparse.Namespace, fields: list[tuple[str, object]]) -> list[str]:
    return [_line(options, name, value) for name, value in fields if value]


def _line(options: argparse.Namespace, name: str, value: object) -> str:
    line = f"{name:<{_NAME_WIDTH}}{value}"
    return with_state(line, str(value), _NAME_WIDTH, options) if name == "state" else line


def _summary(job: pb.Job, most: int) -> list[tuple[str, object]]:
    """The fields that matter to most users; texts are truncated to that many characters."""
    known = record_of(job).done and job.state != pb.JOB_STATE_LOST  # how a lost job ended is unknown
    return [
        ("job", job.jobID),
        ("argv", command_line(job, most)),
        ("state", state_name(job)),
        ("error", cut(job.errorText, most)),
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
        ("labels", cut(" ".join(f"{name}={value}" for name, value in sorted(job.labels.items())), most)),
        ("request id", cut(job.requestID, most)),
    ]


def _how_started(job: pb.Job) -> list[tuple[str, object]]:
    return [
        ("directory", job.directory),
        ("user", job.user),
        ("timeout", _span(job.timeout)),
        ("quiet after", _span(job.quietTimeout)),
        ("stdout", "separate from stderr" if job.separateStderr else ""),
        ("environment", " ".join(job.envNames)),
        ("limits", " ".join(_limits(job.limits))),
        ("takeovers", job.takeovers),
        ("core dump", "yes" if job.coreDumped else ""),
    ]


def _limits(limits: pb.Limits) -> Iterator[str]:
    for field, value in limits.ListFields():
        yield f"{field.name}={_in_seconds(value) if isinstance(value, Duration) else value}"


def _span(time: Duration) -> str:
    return f"{_in_seconds(time)} s" if time.ToNanoseconds() else ""


def _left_over(count: int) -> str:
    return f"{counted(count, 'process', 'processes')}, ended" if count else ""


def _in_seconds(time: Duration) -> str:
    return f"{time.seconds + time.nanos / 1e9:.3f}"
