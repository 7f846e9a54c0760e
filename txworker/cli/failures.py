"""Errors of a command, as one sentence and an exit status."""

from __future__ import annotations

from txworker.client import (
    ExecutableBusy,
    NoSuchExecutable,
    NoSuchJob,
    NotExecutable,
    NotPermitted,
    Unreachable,
    WorkerError,
)

REFUSED = 1
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
TIMED_OUT = 124  # as timeout(1)
NOT_RUN = 125  # as docker run: the job was not started, or how it ended is not known
NOT_EXECUTABLE = 126  # as a shell and docker run
NOT_FOUND = 127  # as a shell and docker run
INTERRUPTED = 130  # as a shell: 128 + SIGINT
READER_GONE = 141  # as a shell: 128 + SIGPIPE

_TOLD_SECONDS = 0.5
"""An error says how long the worker was waited for if it was longer than this."""

_NOT_CONNECTED = ("failed to connect", "errors resolving", "DNS resolution failed")
"""How the error of gRPC begins when it could not connect."""

_HUNG_UP = ("Socket closed", "Connection reset")
_NO_HANDSHAKE = ("handshake failed", "Verification", "verification")
"""What the error of gRPC contains when a server accepted the connection but TLS failed."""

_HTTP = "http1.x server"
"""The same when it answered by HTTP/1."""


class Failed(Exception):
    """Ends the command with this sentence and this exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def failure(error: WorkerError, addr: str, job_id: str = "", with_tls: bool = False) -> Failed:
    """The error of a call as a sentence for the user. job_id: a job that runs on without its `txworker run`."""
    last = error.__cause__ if isinstance(error, Unreachable) else error
    assert isinstance(last, WorkerError)
    refused = bool(last.reason) and not isinstance(error, Unreachable)
    waited, about = _waited(error), _about_job(job_id, "" if refused else " once it is back")
    more = "" if isinstance(error, NoSuchJob) else f"{waited}{about}"
    if last.reason:  # an error of the worker, not of a broken connection
        busy = isinstance(last, ExecutableBusy)  # the one refusal with that code which is about the request
        status = UNREACHABLE if last.code == "UNAVAILABLE" and not busy else REFUSED
        return Failed(f"{last} ({last.code}){more}", status)
    if last.code == "DEADLINE_EXCEEDED":
        return Failed(f"the worker at {addr} did not answer in time{more}", UNREACHABLE)
    if str(last).startswith(_NOT_CONNECTED):
        hint = _hint(str(last), with_tls) if not (job_id or addr.startswith("unix:")) else ""
        return Failed(f"no worker answers at {addr}: {str(last).rstrip('.')}{waited}{hint}{about}", UNREACHABLE)
    if last.code in ("UNAVAILABLE", "CANCELLED"):
        return Failed(f"lost the worker at {addr}: {last}{more}", UNREACHABLE)
    return Failed(f"{last} ({last.code}){more}", REFUSED)


def unsendable(error: UnicodeEncodeError) -> Failed:
    """An argument of ours is not UTF-8, as strings in protobuf are."""
    return Failed(f"{error.object!r} is not valid UTF-8, and cannot be sent", REFUSED)


def run_failure(error: WorkerError, addr: str, job_id: str = "", with_tls: bool = False) -> Failed:
    """The same for `txworker run`, with the exit statuses of docker run."""
    failed = failure(error, addr, job_id, with_tls)
    failed.status = NOT_RUN
    if isinstance(error, NoSuchExecutable):
        failed.status = NOT_FOUND
    elif isinstance(error, (NotPermitted, NotExecutable, ExecutableBusy)):
        failed.status = NOT_EXECUTABLE
    return failed


def _hint(details: str, with_tls: bool) -> str:
    """What the user may check when a server accepts the connection but does not serve it."""
    if any(words in details for words in _HUNG_UP):
        if with_tls:
            return "; does it require a client certificate (--tls-cert), or another one?"
        return "; does it require TLS (--tls-ca)?"
    if _HTTP in details:
        return "; that port speaks HTTP/1: is it that of web.addr, or of `txworker web`?"
    if any(words in details for words in _NO_HANDSHAKE):
        return "; does it speak TLS, and is its certificate for that address, and of that CA?"
    return ""


def _waited(error: WorkerError) -> str:
    waited = error.waited if isinstance(error, Unreachable) else 0.0
    return f"; waited {waited:.0f} s for it" if waited > _TOLD_SECONDS else ""


def _about_job(job_id: str, when: str) -> str:
    return f"; `txworker query {job_id}` tells what became of job {job_id}{when}" if job_id else ""
