"""The sentence and exit status for a call's error."""

from __future__ import annotations

from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.failures import NOT_EXECUTABLE, NOT_FOUND, NOT_RUN, REFUSED, UNREACHABLE, failure, run_failure
from txworker.client import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    Unreachable,
    WorkerError,
    WorkerStopping,
)
from txworker.client.errors import error_of
from txworker.jobs import errors
from txworker.rpc.wire.status import status_of


class Broken(grpc.RpcError):
    """An error as a stub raises it."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any = ()) -> None:
        self._answer = (code, details, metadata)

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]

    def trailing_metadata(self) -> Any:
        return self._answer[2]


def broken(code: grpc.StatusCode, details: str) -> WorkerError:
    """The error of a connection, as the library raises it."""
    return error_of(Broken(code, details))


def refused(error: errors.TxWorkerError) -> WorkerError:
    """The worker's own error, as the library raises it."""
    status = status_of(error)
    return error_of(Broken(status.code, status.details, status.trailing_metadata))


def given_up(last: WorkerError, waited: float) -> Unreachable:
    """The patience was over with that error."""
    error = Unreachable("starting a job: no worker answered")
    error.__cause__ = last
    error.waited = waited
    return error


class FailureTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        """The worker's own error text is printed unchanged; the exit status says whether to retry later."""
        table = [
            (errors.NoSuchJob("x"), "there is no job 'x' on this worker (NOT_FOUND)", REFUSED),
            (errors.InvalidRequest("states", 9, "is none"), "states: 9 is none (INVALID_ARGUMENT)", REFUSED),
            (errors.WorkerStopping(), "this worker is stopping and takes no new jobs (UNAVAILABLE)", UNREACHABLE),
            (errors.ExecutableBusy("x"), f"{errors.ExecutableBusy('x')} (UNAVAILABLE)", REFUSED),
            (errors.StoreBroken("x"), "this worker's store of jobs does not work: x (UNAVAILABLE)", UNREACHABLE),
        ]
        for error, sentence, status in table:
            failed = failure(refused(error), "here:1")
            self.assertEqual((sentence, status), (str(failed), failed.status))

    def test_job_runs_on(self) -> None:
        """An error that ends a command names the job that runs on without it; none is named that is not there."""
        about = "; `txworker query j` tells what became of job j"
        for error, more in ((errors.NotPermitted("x", "x"), about), (errors.NoSuchJob("j"), "")):
            sentence = f"{error} ({status_of(error).code.name}){more}"
            self.assertEqual(sentence, str(failure(refused(error), "here:1", "j")))

    def test_broken_connections(self) -> None:
        """The sentence tells a failed connection from a lost one and a timeout, and names the job that runs on."""
        code = grpc.StatusCode
        about = "; `txworker query j` tells what became of job j once it is back"
        table = [
            (broken(code.UNAVAILABLE, "failed to connect to x"), "no worker answers at here:1: failed to connect to x"),
            (broken(code.UNAVAILABLE, "errors resolving x"), "no worker answers at here:1: errors resolving x"),
            (broken(code.UNAVAILABLE, "Socket closed"), "lost the worker at here:1: Socket closed"),
            (broken(code.CANCELLED, "cut"), "lost the worker at here:1: cut"),
            (broken(code.DEADLINE_EXCEEDED, "x"), "the worker at here:1 did not answer in time"),
        ]
        for error, sentence in table:
            for job_id, more in (("", ""), ("j", about)):
                failed = failure(error, "here:1", job_id)
                self.assertEqual((sentence + more, UNREACHABLE), (str(failed), failed.status))

    def test_hints(self) -> None:
        """If a server closes the new connection, the sentence suggests TLS options; not for a Unix socket."""
        tls, other = (
            "; does it require TLS (--tls-ca)?",
            "; does it require a client certificate (--tls-cert), or another one?",
        )
        speak = "; does it speak TLS, and is its certificate for that address, and of that CA?"
        web = "; that port speaks HTTP/1: is it that of web.addr, or of `txworker web`?"
        table = [
            ("Socket closed", "here:1", False, tls),
            ("Socket closed", "here:1", True, other),
            ("Tls handshake failed (TSI_PROTOCOL_FAILURE): OK", "here:1", True, speak),
            ("Hostname Verification Check failed", "here:1", True, speak),
            ("Failed parsing HTTP/2 (Trying to connect an http1.x server (HTTP status 400))", "here:1", False, web),
            ("Connection refused", "here:1", True, ""),
            ("Connection refused", "here:1", False, ""),
            ("Socket closed", "unix:/x", False, ""),
        ]
        for details, addr, with_tls, hint in table:
            error = broken(grpc.StatusCode.UNAVAILABLE, f"failed to connect to x: {details}")
            expected = f"no worker answers at {addr}: failed to connect to x: {details}{hint}"
            self.assertEqual(expected, str(failure(error, addr, with_tls=with_tls)))

    def test_anything_else(self) -> None:
        """Any other error is printed with its code."""
        failed = failure(broken(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "here:1")
        self.assertEqual(("Method not found! (UNIMPLEMENTED)", REFUSED), (str(failed), failed.status))

    def test_waited(self) -> None:
        """A worker that was waited for: the sentence is about the last attempt, and says how long that was."""
        code = grpc.StatusCode
        table = [
            (
                given_up(broken(code.UNAVAILABLE, "failed to connect to x"), 60.2),
                "no worker answers at here:1: failed to connect to x; waited 60 s for it",
            ),
            (
                given_up(broken(code.UNAVAILABLE, "Socket closed"), 0.0),
                "lost the worker at here:1: Socket closed",
            ),
            (
                given_up(refused(errors.WorkerStopping()), 5.0),
                "this worker is stopping and takes no new jobs (UNAVAILABLE); waited 5 s for it",
            ),
        ]
        for error, sentence in table:
            failed = failure(error, "here:1")
            self.assertEqual((sentence, UNREACHABLE), (str(failed), failed.status))

    def test_run(self) -> None:
        """`run` ends as docker run does, with statuses that no job of ours is likely to have."""
        table: list[tuple[WorkerError, int]] = [
            (NoSuchExecutable("x", "EXECUTABLE_NOT_FOUND", "NOT_FOUND"), NOT_FOUND),
            (NotPermitted("x", "NOT_PERMITTED", "PERMISSION_DENIED"), NOT_EXECUTABLE),
            (refused(errors.NotExecutable("x")), NOT_EXECUTABLE),
            (refused(errors.ExecutableBusy("x")), NOT_EXECUTABLE),
            (NoSuchDirectory("x", "DIRECTORY_NOT_FOUND", "NOT_FOUND"), NOT_RUN),
            (InvalidRequest("x", "INVALID_ARGUMENT", "INVALID_ARGUMENT"), NOT_RUN),
            (WorkerStopping("x", "WORKER_STOPPING", "UNAVAILABLE"), NOT_RUN),
            (given_up(broken(grpc.StatusCode.UNAVAILABLE, "Socket closed"), 60.0), NOT_RUN),
        ]
        self.assertEqual([status for _, status in table], [run_failure(error, "here:1").status for error, _ in table])
