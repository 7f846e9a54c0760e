"""Why a worker takes no jobs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.worker.readiness import SHIM, STOPPING, STORE, Readiness


class ReadinessTests(SynchronousTestCase):
    def test_reasons(self) -> None:
        """Only the first reason that comes and the last that goes change what health says; all are there to read."""
        told: list[bool] = []
        readiness = Readiness(told.append)
        readiness.begin(STORE, "the disk is full")
        readiness.begin(SHIM, "it has ended")
        readiness.end(STORE)
        self.assertEqual(([False], {SHIM: "it has ended"}), (told, readiness.reasons))
        readiness.end(SHIM)
        readiness.end(SHIM)
        self.assertEqual(([False, True], {}), (told, readiness.reasons))

    def test_stopping_stays(self) -> None:
        """A store that works again does not make a worker that stops take jobs."""
        told: list[bool] = []
        readiness = Readiness(told.append)
        readiness.begin(STORE, "the disk is full")
        readiness.begin(STOPPING, "it stops")
        readiness.end(STORE)
        self.assertEqual([False], told)

    def test_newest_sentence(self) -> None:
        """A reason that changes has its newest sentence."""
        readiness = Readiness(lambda ready: None)
        readiness.begin(STORE, "one")
        readiness.begin(STORE, "two")
        self.assertEqual({STORE: "two"}, readiness.reasons)
