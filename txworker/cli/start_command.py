"""`txworker start`, and what it shares with `txworker run`: the request, and the job's standard input."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from txworker.cli import console
from txworker.cli.console import CannotWrite
from txworker.cli.failures import REFUSED, Failed, failure
from txworker.cli.formatting import as_json
from txworker.cli.shell_hint import shell_hint
from txworker.client import Client, Limits, NoSuchExecutable
from txworker.client.starts import MOST_BYTES, RequestTooLarge, StartDetails, start_request
from txworker.pb import worker_pb2 as pb

_SILENT_SECONDS = 2.0
"""After this time without the end of standard input, a line on stderr says what is waited for."""


@dataclass(frozen=True)
class Start:
    """What to start. The details have a request id, so the request may be repeated."""

    command: str
    path: str
    details: StartDetails

    def send(self, client: Client) -> str:
        """Start the job; returns its id. Raises WorkerError."""
        with console.waiting_for(client.addr):
            return client.start(self.command, self.path, **self.details).id


def start(client: Client, options: argparse.Namespace) -> int:
    """Start a job and print its id."""
    console.check_open()
    what = what_to_start(options, _stdin(options.stdin))
    try:
        print_started(options, what.send(client))
    except NoSuchExecutable as error:
        raise with_hint(failure(error, options.addr), options) from error
    return 0


def with_hint(failed: Failed, options: argparse.Namespace) -> Failed:
    """The error of a start without such an executable, with a hint at what to run instead."""
    hint = shell_hint(options.argv, not_found=True)
    return Failed(f"{failed}; {hint}", failed.status) if hint else failed


def print_started(options: argparse.Namespace, job_id: str) -> None:
    """
    Print the id of a job that runs on without this program.

    Raises:
        Failed: it cannot be written. The sentence has the id, so that the job can be found.
    """
    try:
        console.print_lines(as_json(pb.StartJobRes(jobID=job_id)) if options.json else job_id)
    except CannotWrite as error:
        raise Failed(f"{error}; job {job_id} was started, and runs on", error.status) from error


def what_to_start(options: argparse.Namespace, stdin: bytes) -> Start:
    """
    What these options ask to start.

    Raises:
        Failed: the request is too long.
    """
    command, *rest = options.argv
    details: StartDetails = {
        "args": rest[1:],
        "env": options.env,
        "labels": options.label,
        "directory": options.directory,
        "request_id": options.request_id,
        "stdin": stdin,
        "separate_stderr": options.separate_stderr,
        "leftovers": options.leftovers,
        "limits": Limits(
            max_output_bytes=options.max_output,
            max_memory_bytes=options.max_memory,
            max_cpu_seconds=options.max_cpu or 0.0,
            max_open_files=options.max_open_files,
            max_processes=options.max_processes,
        ),
    }
    if options.timeout is not None:
        details["timeout"] = options.timeout
    if options.quiet_timeout is not None:
        details["quiet_timeout"] = options.quiet_timeout
    if options.lease is not None:
        details["lease"] = options.lease
    path = rest[0] if rest else ""
    try:
        details["request_id"] = start_request(command, path, details).requestID
    except RequestTooLarge as error:
        raise Failed(_too_long(options.stdin, len(stdin), error.size), REFUSED) from error
    return Start(command, path, details)


def with_terminal(what: Start, size: tuple[int, int]) -> Start:
    """The same with a terminal of that size, and with our $TERM."""
    ours = {"TERM": os.environ["TERM"]} if os.environ.get("TERM") else {}
    env = {**ours, **what.details.get("env", {})}
    return Start(what.command, what.path, {**what.details, "tty": size, "feed": True, "env": env})


def run_stdin(name: str | None) -> bytes:
    """
    As --stdin says; without it our own standard input, where that is a pipe, a socket or a file.

    Nothing is read from a terminal or another device (/dev/null). Raises as _stdin().
    """
    if name is not None:
        return _stdin(name)
    if sys.stdin is None or not is_forwarded(sys.stdin.fileno()):
        return b""
    with _told_when_silent():
        return _stdin("-")


def is_forwarded(fd: int) -> bool:
    """Whether our own stdin, with that descriptor, is forwarded by default."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


@contextmanager
def _told_when_silent() -> Iterator[None]:
    sentence = "reading standard input to its end for the job; with --stdin /dev/null the job gets none"
    timer = threading.Timer(_SILENT_SECONDS, console.print_error, [sentence])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stdin(name: str | None) -> bytes:
    """
    The job's standard input; of a longer one only as much is read as shows that it is too long.

    Raises:
        OSError: the file cannot be read.
        Failed: "-", and stdin is closed.
    """
    if name is None:
        return b""
    if name != "-":
        with Path(name).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    if sys.stdin is None:
        raise Failed("--stdin: standard input is closed", REFUSED)
    return sys.stdin.buffer.read(MOST_BYTES + 1)


def _too_long(name: str | None, length: int, whole: int) -> str:
    if not length:
        return f"the request has {whole} bytes; at most about 4 MiB fit into one"
    known = f"{length}" if length <= MOST_BYTES else f"more than {MOST_BYTES}"
    what = "standard input" if name is None else f"--stdin: {name}"
    return f"{what} has {known} bytes; at most about 4 MiB fit into a request"
