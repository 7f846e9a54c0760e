"""When leases are renewed, on a made-up clock; and that the thread and the task that renew them end."""

from __future__ import annotations

import asyncio
import threading
import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.client.errors import Closed, WorkerError
from txworker.client.leases import Renewals, RenewalTask, RenewalThread

LIMIT = 10.0
CUT = WorkerError("Socket closed", code="UNAVAILABLE")
UNKNOWN = WorkerError("no such method", code="UNIMPLEMENTED")


class RenewalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.renewals = Renewals(self.clock.seconds, jitter=lambda: 1.0)

    def due(self, after: float) -> list[str]:
        """What is due after so many seconds; it was not due before."""
        self.assertEqual(after, self.renewals.left())
        self.assertEqual([], self.renewals.due() if after else [])
        self.clock.advance(after)
        return self.renewals.due()

    def test_thirds(self) -> None:
        """A lease is renewed at once, then after each third of it, and all that are due at once are one request."""
        self.renewals.hold("a", 30)
        self.renewals.hold("b", 60)
        self.assertEqual(["a", "b"], self.due(0))
        self.assertEqual(["a"], self.due(10))
        self.assertEqual(["a", "b"], self.due(10))
        self.renewals.drop("a")
        self.assertEqual(["b"], self.due(20))
        self.renewals.drop("b")
        self.assertIsNone(self.renewals.left())

    def test_held_twice(self) -> None:
        """A job that is followed twice is renewed once, until neither follows it; the shorter lease counts."""
        self.renewals.hold("a", 60)
        self.due(0)
        self.renewals.hold("a", 30)
        self.assertEqual(["a"], self.due(10))
        self.renewals.drop("a")
        self.assertEqual(["a"], self.due(10))
        self.renewals.drop("a")
        self.assertIsNone(self.renewals.left())

    def test_gone(self) -> None:
        """A job that runs no longer is not renewed again, though it is still followed."""
        self.renewals.hold("a", 30)
        self.renewals.hold("b", 60)
        self.due(0)
        self.renewals.renewed(["a", "other"])
        self.assertEqual(["b"], self.due(20))
        self.renewals.drop("a")

    def test_failed(self) -> None:
        """A renewal that fails is tried again soon: a quarter of the usual time later, five seconds at most."""
        self.renewals.hold("a", 30)
        self.renewals.failed(self.due(0), CUT)
        self.assertEqual(["a"], self.due(2.5))
        self.renewals.drop("a")
        self.renewals.failed(["a"], CUT)
        self.renewals.hold("b", 3600)
        self.renewals.failed(self.due(0), CUT)
        self.assertEqual(["b"], self.due(5))

    def test_told(self) -> None:
        """A failure that does not pass by itself is told once, until a renewal succeeds; lost connections are not."""
        self.assertEqual("", self.renewals.failed([], CUT))
        self.assertEqual("renewing leases: no such method", self.renewals.failed([], UNKNOWN))
        self.assertEqual("", self.renewals.failed([], UNKNOWN))
        self.renewals.renewed([])
        self.assertEqual("renewing leases: no such method", self.renewals.failed([], UNKNOWN))

    def test_no_lease(self) -> None:
        """What is no length of a lease is refused."""
        for lease in (0, -1, float("nan")):
            self.assertRaises(ValueError, self.renewals.hold, "a", lease)


class Renewed:
    """Counts renewals; `often` is set at the third one. Raises `error`, if there is one."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.often = threading.Event()
        self.error: Exception | None = None

    def __call__(self, job_ids: list[str]) -> list[str]:
        self.asked.append(job_ids)
        if len(self.asked) >= 3:
            self.often.set()
        if self.error is not None:
            raise self.error
        return []

    async def later(self, job_ids: list[str]) -> list[str]:
        """The same, to be awaited."""
        return self(job_ids)


class RenewalThreadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.renewed = Renewed()
        self.told: list[str] = []
        self.leases = RenewalThread(self.renewed, self.told.append)

    def assertEnds(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "txworker-leases":
                thread.join(LIMIT)
                self.assertFalse(thread.is_alive())

    def test_runs_while_held(self) -> None:
        """The thread renews while a lease is held, and ends after that; another one begins with the next lease."""
        for _ in range(2):
            self.renewed.often.clear()
            self.renewed.asked.clear()
            with self.leases.renewing("a", 0.03):
                self.assertTrue(self.renewed.often.wait(LIMIT))
            self.assertEnds()
            self.assertEqual({("a",)}, set(map(tuple, self.renewed.asked)))

    def test_errors(self) -> None:
        """The thread goes on after an error."""
        self.renewed.error = UNKNOWN
        with self.leases.renewing("a", 0.03):
            self.assertTrue(self.renewed.often.wait(LIMIT))
        self.assertEnds()
        self.assertEqual(["renewing leases: no such method"], self.told)

    def test_closed(self) -> None:
        """close() ends the thread while leases are held, and so does a client that was closed."""
        with self.leases.renewing("a", 3600):
            self.leases.close()
            self.assertEnds()
        other = RenewalThread(self.renewed, self.told.append)
        self.renewed.error = Closed()
        with other.renewing("a", 3600), other.renewing("b", 3600):
            self.assertEnds()
        self.assertEqual([], self.told)

    def test_no_lease(self) -> None:
        """Without a lease there is no thread."""
        with self.leases.renewing("a", None):
            self.assertEnds()
        self.assertEqual([], self.renewed.asked)


class RenewalTaskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.renewed = Renewed()
        self.told: list[str] = []

    async def others_left(self) -> int:
        """How many tasks beside this one do not end."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        return len((await asyncio.wait(others, timeout=LIMIT))[1]) if others else 0

    async def often(self) -> None:
        """Waits until leases were renewed often."""
        end = time.monotonic() + LIMIT
        while not self.renewed.often.is_set():
            self.assertLess(time.monotonic(), end)
            await asyncio.sleep(0.001)

    def test_runs_while_held(self) -> None:
        """The task renews while a lease is held, also after an error, and ends after that."""

        async def run() -> int:
            leases = RenewalTask(self.renewed.later, self.told.append)
            for self.renewed.error in (None, UNKNOWN):
                self.renewed.often.clear()
                self.renewed.asked.clear()
                with leases.renewing("a", 0.03), leases.renewing("b", 3600):
                    await self.often()
            return await self.others_left()

        self.assertEqual(0, asyncio.run(run()))
        self.assertEqual(["renewing leases: no such method"], self.told)

    def test_another_lease(self) -> None:
        """A lease that is held while the task waits for one that is due later is renewed at once."""

        async def run() -> None:
            leases = RenewalTask(self.renewed.later, self.told.append)
            with leases.renewing("a", 3600):
                await asyncio.sleep(0)
                with leases.renewing("b", 0.03):
                    await self.often()

        asyncio.run(run())
        self.assertEqual([["a"], ["b"]], self.renewed.asked[:2])

    def test_closed(self) -> None:
        """close() ends the task while a lease is held, and so does a client that was closed."""

        async def run() -> int:
            leases = RenewalTask(self.renewed.later, self.told.append)
            with leases.renewing("a", 3600):
                await asyncio.sleep(0)
                leases.close()
                with leases.renewing("b", 3600):
                    return await self.others_left()

        self.assertEqual(0, asyncio.run(run()))
        self.renewed.error = Closed()

        async def closed() -> int:
            leases = RenewalTask(self.renewed.later, self.told.append)
            with leases.renewing("a", 3600):
                return await self.others_left()

        self.assertEqual(0, asyncio.run(closed()))
