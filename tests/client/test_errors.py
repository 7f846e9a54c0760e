"""A client's errors are the worker's, by name and by reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from twisted.trial.unittest import SynchronousTestCase

from txworker import client
from txworker.client.errors import CLASSES, PASSING, error_of, passes
from txworker.jobs import errors
from txworker.rpc.wire.status import status_of


class FakeCall(grpc.RpcError):
    """As a stub raises it, with the status of one of the worker's errors."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def code(self) -> Any:
        return self._status.code

    def details(self) -> str:
        return str(self._status.details)

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


TABLE = (
    errors.InvalidRequest("env", "", "is empty"),
    errors.NoSuchJob("1"),
    errors.JobRemoved("1"),
    errors.JobNotRunning("1", "is done"),
    errors.NoTerminal("1"),
    errors.NotFed("1"),
    errors.FeedInProgress("1"),
    errors.NoSuchExecutable("x"),
    errors.NoSuchDirectory("x"),
    errors.NotPermitted("command", "x"),
    errors.NotExecutable("x"),
    errors.ExecutableBusy("x"),
    errors.ShimEnded("x"),
    errors.OutOfResources("full"),
    errors.NotSupported("user", "x", "no"),
    errors.WorkerStopping(),
    errors.StoreBroken("no"),
    errors.StoreFull("no"),
    errors.RequestReused("1", "2", "path"),
    errors.OffsetBeyondEnd("1", 2, 1),
    errors.OutputGone("1", "deleted"),
    errors.DeadlineExceeded(),
)

OTHERS = {
    errors.MessageLate: "a DeadlineExceeded to the client",
    errors.CallerGone: "tried again, as a lost connection is",
    errors.CallerLeft: "the same",
    errors.HandoverRefused: "the operator's",
    errors.ReloadRefused: "the operator's",
    errors.WrongState: "a mistake in the worker",
}
"""Errors of the worker's without a class of the same name, and why."""


class ErrorTests(SynchronousTestCase):
    def test_complete(self) -> None:
        """The tables have every error of the worker's."""
        classes = [value for value in vars(errors).values() if isinstance(value, type)]
        every = {one for one in classes if issubclass(one, errors.TxWorkerError)} - {errors.TxWorkerError}
        self.assertEqual(every, {type(error) for error in TABLE} | set(OTHERS))

    def test_same_names(self) -> None:
        """Every error that a worker may answer with is raised as the class of the same name, with its reason."""
        for error in TABLE:
            found = error_of(FakeCall(status_of(error)))
            self.assertEqual(type(error).__name__, type(found).__name__)
            self.assertIs(getattr(client, type(error).__name__), type(found))
            self.assertEqual((error.reason, str(error)), (found.reason, str(found)))

    def test_which_pass(self) -> None:
        """A worker's refusal is final, except when it is stopping, gets a new shim, or was too slow."""
        final = [type(error).__name__ for error in TABLE if not passes(error_of(FakeCall(status_of(error))))]
        passing = (errors.WorkerStopping, errors.ShimEnded, errors.DeadlineExceeded)
        self.assertEqual([type(error).__name__ for error in TABLE if type(error) not in passing], final)

    def test_busy_worker(self) -> None:
        """A call that is refused because too many wait is tried again; one beyond max_streams is not."""
        for reason, again in (("TOO_MANY_CALLS", True), ("MAX_STREAMS", False)):
            self.assertEqual(again, passes(error_of(FakeCall(status_of(errors.OutOfResources("it is busy", reason))))))

    def test_unknown_reason(self) -> None:
        """A reason that is newer than the client is told by its status."""
        error = errors.OutOfResources("full", "SOMETHING_NEW")
        self.assertIs(client.OutOfResources, type(error_of(FakeCall(status_of(error)))))

    def test_connection(self) -> None:
        """An error without the worker's details is the connection's, and passes."""
        status = rpc_status.to_status(Status(code=14, message="Socket closed"))
        self.assertTrue(passes(error_of(FakeCall(status))))

    def test_what_passes_on_the_page(self) -> None:
        """docs/client.md names every reason for which a call is tried again."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
        sentence = page.partition("is tried again: lost connections, ")[2].partition(".\n")[0]
        self.assertEqual(PASSING, set(re.findall(r"`(\w+)`", sentence)))

    def test_page(self) -> None:
        """docs/client.md has a row for every class, with all of its reasons."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
        table = page.partition("| class | when | reason |")[2].partition("\n\n")[0]
        rows = re.findall(r"^\| `(\w+)`.*\|([^|]*)\|$", table, re.MULTILINE)
        found = {name: set(re.findall(r"`(\w+)`", reasons)) for name, reasons in rows}
        classes = {name for name, value in vars(client).items() if isinstance(value, type) and value in _errors()}
        self.assertEqual(classes, set(found))
        for reason, kind in CLASSES.items():
            self.assertIn(reason, found[kind.__name__])
        for name, error in ((type(error).__name__, error) for error in TABLE):
            self.assertIn(error.reason, found[name])


def _errors() -> set[type[client.WorkerError]]:
    """All classes of errors but their base."""
    found = set(client.WorkerError.__subclasses__())
    return found.union(*(kind.__subclasses__() for kind in found))
