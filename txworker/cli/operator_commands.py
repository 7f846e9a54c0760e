"""
`txworker drain`, `handover`, `reload` and `check`, over the socket in the worker's state directory. Return the exit
status.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from google.protobuf.message import Message

from txworker.base.quantities import counted
from txworker.cli import console
from txworker.cli.failures import REFUSED, UNREACHABLE, Failed
from txworker.cli.formatting import as_json
from txworker.pb import control_pb2 as pb
from txworker.pb.control_pb2_grpc import ControlStub

_UCRED = struct.Struct("iII")  # pid, uid, gid (unix(7))


def drain(stub: ControlStub, options: argparse.Namespace) -> int:
    """Make the worker refuse new jobs and end after its last job; with --wait, return when it has ended."""
    with _until_ended(options):
        answer = stub.Drain(pb.DrainReq(), timeout=options.deadline)
        _print(options, answer, lambda: [f"draining: {_running(answer.running)}"])
    return 0


def hand_over(stub: ControlStub, options: argparse.Namespace) -> int:
    """Make the worker end and leave its jobs to the next worker; with --wait, return when it has ended."""
    with _until_ended(options):
        answer = stub.Handover(pb.HandoverReq(), timeout=options.deadline)
        jobs = counted(answer.running, "job is", "jobs are")
        _print(options, answer, lambda: [f"handing over: {jobs} left to the next worker"])
    return 0


def reload(stub: ControlStub, options: argparse.Namespace) -> int:
    """Make the worker read its configuration again; print what has changed."""
    answer = stub.Reload(pb.ReloadReq(), timeout=options.deadline)
    _print(options, answer, lambda: _changes(answer, "is", "the configuration was read again: nothing has changed"))
    return 0


def check(stub: ControlStub, options: argparse.Namespace) -> int:
    """Print what a reload would change. Changes nothing."""
    answer = stub.Reload(pb.ReloadReq(checkOnly=True), timeout=options.deadline)
    nothing = "the configuration is valid; a reload would change nothing"
    _print(options, answer, lambda: _changes(answer, "would be", nothing))
    return 0


def _changes(answer: pb.ReloadRes, verb: str, nothing: str) -> list[str]:
    lines = [
        f"{one.key}: stays {one.before or 'not set'}; only a restart makes it {one.after or 'not set'}"
        if one.needsRestart
        else f"{one.key}: {verb} {one.after or 'not set'} from now on; it was {one.before or 'not set'}"
        for one in answer.changes
    ]
    return lines or [nothing]


def _print(options: argparse.Namespace, answer: Message, sentences: Callable[[], Sequence[str]]) -> None:
    console.print_lines(*([as_json(answer)] if options.json else sentences()))


@contextmanager
def _until_ended(options: argparse.Namespace) -> Iterator[None]:
    """
    With --wait, wait at the end of the block until the worker's process has ended.

    The process is opened before the block, while its pid is certain.
    """
    console.check_open()
    pidfd = _open_process(options.addr) if options.wait else None
    yield
    if pidfd is not None:
        select.select([pidfd], [], [])
        os.close(pidfd)


def _running(count: int) -> str:
    return f"{counted(count, 'job is', 'jobs are')} still running" if count else "no job is running"


def _open_process(addr: str) -> int:
    """
    A pidfd of the process that listens on a Unix socket; it becomes readable when the process ends.

    Raises:
        Failed: no process listens there, or it is not visible in this pid namespace.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(addr.removeprefix("unix:"))
            pid, _, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError as error:
        raise Failed(f"no worker answers at {addr}: {error.strerror or error}", UNREACHABLE) from error
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise Failed(
            f"the worker's process is not visible here, so --wait cannot wait for it: {error}", REFUSED
        ) from error
