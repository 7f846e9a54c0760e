"""`txworker start`, and the request that it shares with `txworker run`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from txworker.cli import console
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.formatting import as_json
from txworker.cli.values import duration
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_MOST_BYTES = 4 * 2**20
"""The largest message that the worker accepts."""


def start(stub: WorkerStub, options: argparse.Namespace) -> int:
    """Start a job and print its id."""
    console.check_open()
    answer = stub.StartJob(start_request(options), timeout=options.deadline)
    console.print_lines(as_json(answer) if options.json else answer.jobID)
    return 0


def start_request(options: argparse.Namespace) -> pb.StartJobReq:
    """
    The StartJob request of these options.

    Raises:
        OSError: the file for --stdin cannot be read.
        Failed: stdin is closed, or the request is too long.
    """
    request = _request(options, _stdin(options.stdin))
    if (whole := request.ByteSize()) > _MOST_BYTES:
        raise Failed(_too_long(options.stdin, len(request.stdin), whole), REFUSED)
    return request


def _request(options: argparse.Namespace, stdin: bytes) -> pb.StartJobReq:
    command, *rest = options.argv
    return pb.StartJobReq(
        command=command,
        path=rest[0] if rest else "",
        args=rest[1:],
        env=options.env,
        labels=options.label,
        directory=options.directory,
        requestID=options.request_id,
        timeout=duration(options.timeout),
        quietTimeout=duration(options.quiet_timeout),
        stdin=stdin,
        separateStderr=options.separate_stderr,
        leftovers=options.leftovers,
        limits=pb.Limits(
            maxOutputBytes=options.max_output,
            maxMemoryBytes=options.max_memory,
            maxCPU=duration(options.max_cpu),
            maxOpenFiles=options.max_open_files,
            maxProcesses=options.max_processes,
        ),
    )


def _stdin(name: str | None) -> bytes:
    """The job's standard input, of which no more is read than shows that it is too long."""
    if name is None:
        return b""
    if name != "-":
        with Path(name).open("rb") as file:
            return file.read(_MOST_BYTES + 1)
    if sys.stdin is None:
        raise Failed("--stdin: standard input is closed", REFUSED)
    return sys.stdin.buffer.read(_MOST_BYTES + 1)


def _too_long(name: str | None, length: int, whole: int) -> str:
    if not length:
        return f"the request has {whole} bytes; at most about 4 MiB fit into one"
    known = f"{length}" if length <= _MOST_BYTES else f"more than {_MOST_BYTES}"
    return f"--stdin: {name} has {known} bytes; at most about 4 MiB fit into a request"
