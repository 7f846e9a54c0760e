"""Errors of a command, as one sentence and an exit status."""

from __future__ import annotations

import grpc
from grpc_status import rpc_status

REFUSED = 1
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
TIMED_OUT = 124  # as timeout(1)
INTERRUPTED = 130  # as a shell: 128 + SIGINT
READER_GONE = 141  # as a shell: 128 + SIGPIPE

_NOT_CONNECTED = ("failed to connect", "errors resolving", "DNS resolution failed")
"""How gRPC's error begins when it could not connect."""

_HUNG_UP = ("Socket closed", "Connection reset")
_NO_HANDSHAKE = ("handshake failed", "Verification", "verification")
"""What the error contains when a server accepted the connection but TLS did not match."""


class Failed(Exception):
    """Ends the command with this sentence and this exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def failure(error: grpc.RpcError, addr: str, job_id: str = "", with_tls: bool = False) -> Failed:
    """The error of a call in words for a user; job_id: a job that runs on without its `txworker run`."""
    code, details = error.code(), error.details() or ""
    if _is_from_worker(error):
        return Failed(f"{details} ({code.name})", UNREACHABLE if code is grpc.StatusCode.UNAVAILABLE else REFUSED)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Failed(f"the worker at {addr} did not answer in time{_about_job(job_id)}", UNREACHABLE)
    if details.startswith(_NOT_CONNECTED):
        hint = _hint(details, with_tls) if not (job_id or addr.startswith("unix:")) else ""
        return Failed(f"no worker answers at {addr}: {details.rstrip('.')}{hint}{_about_job(job_id)}", UNREACHABLE)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return Failed(f"the worker at {addr} has gone: {details}{_about_job(job_id)}", UNREACHABLE)
    return Failed(f"{details} ({code.name})", REFUSED)


def _is_from_worker(error: grpc.RpcError) -> bool:
    """The worker's own errors carry details (google.rpc.ErrorInfo), those of a broken connection do not."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # the error that a stub raises is also a Call
    return status is not None and bool(status.details)


def _hint(details: str, with_tls: bool) -> str:
    """What the user may check when a server accepts the connection but closes it."""
    if any(words in details for words in _HUNG_UP):
        if with_tls:
            return "; does it want a certificate of ours (--tls-cert), or another one?"
        return "; does it want TLS (--tls-ca)?"
    if any(words in details for words in _NO_HANDSHAKE):
        return "; does it speak TLS, and is its certificate for that address, and of that CA?"
    return ""


def _about_job(job_id: str) -> str:
    return f"; `txworker query {job_id}` tells what became of job {job_id} once it is back" if job_id else ""
