"""What went wrong, as one sentence and an exit status."""

from __future__ import annotations

import grpc
from grpc_status import rpc_status

REFUSED = 1
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
TIMED_OUT = 124  # as timeout(1) has it
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT

_NEVER_THERE = ("failed to connect", "DNS resolution failed")
"""How gRPC begins when it is the connecting that failed."""


class Failed(Exception):
    """The command ends here: with this sentence, and this exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def failure(error: grpc.RpcError, addr: str, job_id: str = "") -> Failed:
    """What a call's error means to somebody at a terminal; job_id: of the job that is left to itself by it."""
    code, details = error.code(), error.details() or ""
    if _said_by_worker(error):
        return Failed(f"{details} ({code.name})", UNREACHABLE if code is grpc.StatusCode.UNAVAILABLE else REFUSED)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failed(f"the worker at {addr} did not answer in time{_about(job_id)}", UNREACHABLE)
    if details.startswith(_NEVER_THERE):
        return Failed(f"no worker answers at {addr}: {details}{_about(job_id)}", UNREACHABLE)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Failed(f"the worker at {addr} has gone: {details}{_about(job_id)}", UNREACHABLE)
    return Failed(f"{details} ({code.name})", REFUSED)


def _said_by_worker(error: grpc.RpcError) -> bool:
    """Its own errors carry details (google.rpc.ErrorInfo); those of a broken connection do not."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # what a stub raises is a Call, too
    return status is not None and bool(status.details)


def _about(job_id: str) -> str:
    return f"; `txworker query {job_id}` tells what became of job {job_id} once it is back" if job_id else ""
