"""`txworker drain` and `txworker handover`: over the socket in the worker's state directory."""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct

from txworker.cli import output
from txworker.cli.failures import REFUSED, UNREACHABLE, Failed
from txworker.cli.show import as_json
from txworker.pb import control_pb2 as pb
from txworker.pb.control_pb2_grpc import ControlStub

_UCRED = struct.Struct("iII")  # pid, uid, gid: unix(7)


def drain(stub: ControlStub, options: argparse.Namespace) -> int:
    """Have the worker take no new jobs, and end when those it has have ended; with --wait, until then."""
    output.check_open()
    process = _process_at(options.addr) if options.wait else None
    answer = stub.Drain(pb.DrainReq(), timeout=options.deadline)
    output.say(as_json(answer) if options.json else f"draining: {_running(answer.running)}")
    if process is not None:
        select.select([process], [], [])
        os.close(process)
    return 0


def hand_over(stub: ControlStub, options: argparse.Namespace) -> int:
    """Have the worker end and leave its jobs to the next one; with --wait, until it has ended."""
    output.check_open()
    process = _process_at(options.addr) if options.wait else None
    answer = stub.Handover(pb.HandoverReq(), timeout=options.deadline)
    jobs = "1 job is" if answer.running == 1 else f"{answer.running} jobs are"
    output.say(as_json(answer) if options.json else f"handing over: {jobs} left to the next worker")
    if process is not None:
        select.select([process], [], [])
        os.close(process)
    return 0


def _running(count: int) -> str:
    if count > 1:
        return f"{count} jobs are still running"
    return "1 job is still running" if count else "no job is running"


def _process_at(addr: str) -> int:
    """
    A descriptor (pidfd) of the process that listens on a Unix socket; readable when that has ended.

    Raises:
        Failed: nobody does, or it is none of this machine's.
    """
    if not addr.startswith("unix:"):
        raise Failed(f"--wait needs the worker's socket (--state-directory), not {addr}", REFUSED)
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
            f"the worker's process cannot be seen from here, so not be waited for: {error}", REFUSED
        ) from error
