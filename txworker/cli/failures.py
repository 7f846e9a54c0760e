"""What went wrong, as one sentence and an exit status."""

from __future__ import annotations

import grpc
from grpc_status import rpc_status

REFUSED = 1
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
TIMED_OUT = 124  # as timeout(1) has it
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT
UNREAD = 141  # the same: 128 + SIGPIPE

_NEVER_THERE = ("failed to connect", "errors resolving", "DNS resolution failed")
"""How gRPC begins when it is the connecting that failed."""

_HUNG_UP = ("Socket closed", "Connection reset")
_NO_HANDSHAKE = ("handshake failed", "Verification", "verification")
"""What it says then of one who was there, but would not speak with us, or we with him."""


class Failed(Exception):
    """The command ends here: with this sentence, and this exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def failure(error: grpc.RpcError, addr: str, job_id: str = "", with_tls: bool = False) -> Failed:
    """What a call's error means to somebody at a terminal; job_id: of the job that is left to itself by it."""
    code, details = error.code(), error.details() or ""
    if _said_by_worker(error):
        return Failed(f"{details} ({code.name})", UNREACHABLE if code is grpc.StatusCode.UNAVAILABLE else REFUSED)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failed(f"the worker at {addr} did not answer in time{_about(job_id)}", UNREACHABLE)
    if details.startswith(_NEVER_THERE):
        hint = _hint(details, with_tls) if not (job_id or addr.startswith("unix:")) else ""
        return Failed(f"no worker answers at {addr}: {details.rstrip('.')}{hint}{_about(job_id)}", UNREACHABLE)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Failed(f"the worker at {addr} has gone: {details}{_about(job_id)}", UNREACHABLE)
    return Failed(f"{details} ({code.name})", REFUSED)


def _said_by_worker(error: grpc.RpcError) -> bool:
    """Its own errors carry details (google.rpc.ErrorInfo); those of a broken connection do not."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # what a stub raises is a Call, too
    return status is not None and bool(status.details)


def _hint(details: str, with_tls: bool) -> str:
    """What to look at first when somebody is there, but no worker answers."""
    if any(words in details for words in _HUNG_UP):
        if with_tls:
            return "; does it want a certificate of ours (--tls-cert), or another one?"
        return "; does it want TLS (--tls-ca)?"
    if any(words in details for words in _NO_HANDSHAKE):
        return "; does it speak TLS, and is its certificate for that address, and of that CA?"
    return ""


def _about(job_id: str) -> str:
    return f"; `txworker query {job_id}` tells what became of job {job_id} once it is back" if job_id else ""
