"""The sentence and exit status for a call's error."""

from __future__ import annotations

from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.failures import REFUSED, UNREACHABLE, failure
from txworker.jobs.errors import InvalidRequest, NoSuchJob, StoreBroken, TxWorkerError, WorkerStopping
from txworker.wire.status import status_of


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


def refused(error: TxWorkerError) -> Broken:
    status = status_of(error)
    return Broken(status.code, status.details, status.trailing_metadata)


class FailureTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        """The worker's own error text is printed unchanged; the exit status says whether to retry later."""
        table = [
            (NoSuchJob("x"), "there is no job 'x' on this worker (NOT_FOUND)", REFUSED),
            (InvalidRequest("states", 9, "is none"), "states: 9 is none (INVALID_ARGUMENT)", REFUSED),
            (WorkerStopping(), "this worker is stopping and takes no new jobs (UNAVAILABLE)", UNREACHABLE),
            (StoreBroken("x"), "this worker's store of jobs does not work: x (UNAVAILABLE)", UNREACHABLE),
        ]
        for error, sentence, status in table:
            failed = failure(refused(error), "here:1", "job-1")
            self.assertEqual((sentence, status), (str(failed), failed.status))

    def test_broken_connections(self) -> None:
        """The sentence tells a failed connection from a lost one and a timeout, and names the job that runs on."""
        code = grpc.StatusCode
        about = "; `txworker query j` tells what became of job j once it is back"
        table = [
            (Broken(code.UNAVAILABLE, "failed to connect to x"), "no worker answers at here:1: failed to connect to x"),
            (Broken(code.UNAVAILABLE, "errors resolving x"), "no worker answers at here:1: errors resolving x"),
            (Broken(code.UNAVAILABLE, "Socket closed"), "the worker at here:1 has gone: Socket closed"),
            (Broken(code.CANCELLED, "cut"), "the worker at here:1 has gone: cut"),
            (Broken(code.DEADLINE_EXCEEDED, "x"), "the worker at here:1 did not answer in time"),
        ]
        for error, sentence in table:
            for job_id, more in (("", ""), ("j", about)):
                failed = failure(error, "here:1", job_id)
                self.assertEqual((sentence + more, UNREACHABLE), (str(failed), failed.status))

    def test_hints(self) -> None:
        """If a server closes the new connection, the sentence suggests TLS options; not for a Unix socket."""
        tls, other = (
            "; does it want TLS (--tls-ca)?",
            "; does it want a certificate of ours (--tls-cert), or another one?",
        )
        speak = "; does it speak TLS, and is its certificate for that address, and of that CA?"
        table = [
            ("Socket closed", "here:1", False, tls),
            ("Socket closed", "here:1", True, other),
            ("Tls handshake failed (TSI_PROTOCOL_FAILURE): OK", "here:1", True, speak),
            ("Hostname Verification Check failed", "here:1", True, speak),
            ("Connection refused", "here:1", True, ""),
            ("Connection refused", "here:1", False, ""),
            ("Socket closed", "unix:/x", False, ""),
        ]
        for details, addr, with_tls, hint in table:
            error = Broken(grpc.StatusCode.UNAVAILABLE, f"failed to connect to x: {details}")
            expected = f"no worker answers at {addr}: failed to connect to x: {details}{hint}"
            self.assertEqual(expected, str(failure(error, addr, with_tls=with_tls)))

    def test_anything_else(self) -> None:
        """Any other error is printed with its code."""
        failed = failure(Broken(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "here:1")
        self.assertEqual(("Method not found! (UNIMPLEMENTED)", REFUSED), (str(failed), failed.status))
