"""The order in which services start and stop."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.lifetime import StagedServices, StopStep


class Noted(Service):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes
        self.stopped: Deferred[None] = Deferred()

    def startService(self) -> None:
        self.notes.append(f"{self.name} starts")

    def stopService(self) -> Deferred[None]:
        self.notes.append(f"{self.name} stops")
        return self.stopped


class StagedServicesTests(SynchronousTestCase):
    def test_one_after_another(self) -> None:
        """Stages stop last to first, each after the one before has stopped; within a stage all stop together."""
        notes: list[str] = []
        store, jobs, door = (Noted(name, notes) for name in ("store", "jobs", "door"))
        house = StagedServices([[store], [jobs, door]])
        house.startService()
        over = house.stopService()
        self.assertEqual(["store starts", "jobs starts", "door starts", "jobs stops", "door stops"], notes)
        jobs.stopped.callback(None)
        self.assertNotIn("store stops", notes)
        door.stopped.callback(None)
        self.assertIn("store stops", notes)
        self.assertNoResult(over)
        store.stopped.callback(None)
        self.successResultOf(over)

    def test_failing_to_stop(self) -> None:
        """An error while stopping is logged, and the other services stop all the same."""
        notes: list[str] = []
        store = Noted("store", notes)
        house = StagedServices([[store], [StopStep("broken", lambda: 1 / 0)]])
        over = house.stopService()
        store.stopped.callback(None)
        self.successResultOf(over)
        self.assertEqual(["store stops"], notes)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
