"""The same request id again: one process, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fakes import House, a_house
from tests.support.memory_store import MemoryStore
from txworker.jobs import JobSpec, JobState
from txworker.jobs.errors import (
    CallerGone,
    InvalidRequest,
    NoSuchExecutable,
    RequestReused,
    StoreFull,
)

TRUE = JobSpec("true", "a/path", timeout_seconds=60)


class RequestTests(SynchronousTestCase):
    """One request id, one process, whatever happens meanwhile."""

    SPEC = JobSpec("true", request_id="r")

    def house(self) -> House:
        house = a_house()
        house.store.slow = True
        return house

    def test_at_once(self) -> None:
        """A hundred times while the first is being started: one process, the same job for everybody."""
        house = self.house()
        answers = [house.worker.submit(self.SPEC) for _ in range(100)]
        house.store.catch_up()
        self.assertEqual({"job-1"}, {self.successResultOf(answer).id for answer in answers})
        self.assertEqual(["job-1"], list(house.launcher.running))

    def test_another_order_at_once(self) -> None:
        """Another order with that id is refused at once, also while the first is being started."""
        house = self.house()
        answer = house.worker.submit(self.SPEC)
        failure = self.failureResultOf(house.worker.submit(JobSpec("true", "x", request_id="r")), RequestReused)
        self.assertIn("different path", str(failure.value))
        house.store.catch_up()
        self.successResultOf(answer)

    def test_first_fails(self) -> None:
        """When the first could not be started the others are tried, and each is told why it cannot be."""
        house = self.house()
        house.launcher.refusal = NoSuchExecutable("true")
        answers = [house.worker.submit(self.SPEC) for _ in range(300)]
        for answer in answers:
            house.store.catch_up()
            self.failureResultOf(answer, NoSuchExecutable)
        self.assertEqual({}, house.store.kept)

    def test_second_succeeds(self) -> None:
        """A caller who was gone takes nobody with it: the next one's order is launched."""
        house = self.house()
        first = house.worker.submit(self.SPEC, lambda: False)
        second, third = house.worker.submit(self.SPEC), house.worker.submit(self.SPEC)
        house.store.slow = False
        house.store.catch_up()
        self.failureResultOf(first, CallerGone)
        self.assertEqual({"job-2"}, {self.successResultOf(answer).id for answer in (second, third)})
        self.assertEqual(["job-2"], list(house.launcher.running))

    def test_not_yet_forgotten(self) -> None:
        """A job that could not be launched is nobody's answer, also while the store cannot forget it yet."""
        house = self.house()

        def break_and_refuse() -> bool:
            house.store.broken = StoreFull("the disk is full")
            return False

        first = house.worker.submit(self.SPEC, break_and_refuse)
        second = house.worker.submit(self.SPEC)
        house.store.slow = False
        house.store.catch_up()
        self.failureResultOf(first, CallerGone)
        self.failureResultOf(second, StoreFull)
        self.assertIn("job-1", house.store.kept)
        self.assertIsNone(house.catalog.submitted(self.SPEC))
        house.store.mend()
        self.assertEqual("job-3", self.successResultOf(house.worker.submit(self.SPEC)).id)

    def test_submitted(self) -> None:
        """Asked from a thread: none while it is being started, then the job as it stands, also when it is done."""
        house = self.house()
        answer = house.worker.submit(self.SPEC)
        self.assertIsNone(house.catalog.submitted(self.SPEC))
        house.store.catch_up()
        job = self.successResultOf(answer)
        self.assertEqual(job, house.catalog.submitted(self.SPEC))
        house.launcher.running[job.id].exit()
        self.assertEqual(house.catalog.get(job.id), house.catalog.submitted(self.SPEC))
        self.assertRaises(RequestReused, house.catalog.submitted, JobSpec("false", request_id="r"))
        self.assertIsNone(house.catalog.submitted(TRUE))

    def test_long_order(self) -> None:
        """Of a long order all is compared, though hardly any of it is held: at once, while it runs and ever after."""
        house = a_house()
        spec = JobSpec("true", args=("x" * 10_000, "a"), env={"A": "y" * 10_000}, request_id="r")
        others = {
            "args": replace(spec, args=("x" * 10_000, "b")),
            "env": replace(spec, env={"A": "y" * 9_999 + "z"}),
        }
        job = self.successResultOf(house.worker.submit(spec))
        self.assertLess(len(str(job.spec)), 20_000)
        self.assertEqual("x" * 10_000, house.launcher.specs[job.id].args[0])
        for done in (False, True):
            if done:
                house.launcher.running[job.id].exit()
            self.assertEqual(job.id, self.successResultOf(house.worker.submit(replace(spec))).id)
            for name, other in others.items():
                failure = self.failureResultOf(house.worker.submit(other), RequestReused)
                self.assertIn(f"with a different {name}", str(failure.value))
                self.assertRaises(RequestReused, house.catalog.submitted, other)
            found = house.catalog.submitted(spec)
            self.assertEqual(job.spec, found and found.spec)
            self.assertEqual("", house.catalog.with_full_spec(house.catalog.get(job.id)).spec.difference(spec))

    def test_impossible(self) -> None:
        """What no process can be made of is refused before anything is written."""
        house = self.house()
        house.launcher.impossible = InvalidRequest("args", 3_000_000, "bytes are too long")
        self.failureResultOf(house.worker.submit(self.SPEC), InvalidRequest)
        house.store.catch_up()
        self.assertEqual(({}, {}), (house.store.kept, house.shelf.outputs))

    def test_while_draining(self) -> None:
        """The same request brings its job back also when no new ones are taken, or there is no room."""
        house = a_house(max_running=1)
        job = self.successResultOf(house.worker.submit(self.SPEC))
        self.assertEqual(job.id, self.successResultOf(house.worker.submit(self.SPEC)).id)
        house.worker.refuse()
        self.assertEqual(job.id, self.successResultOf(house.worker.submit(self.SPEC)).id)

    def test_across_a_restart(self) -> None:
        """The same request brings the same job back from another worker's time, however it ended."""
        store = MemoryStore()
        before = a_house(store=store)
        job = self.successResultOf(before.worker.submit(self.SPEC))
        after = a_house(store=store)
        after.take_over()
        again = self.successResultOf(after.worker.submit(self.SPEC))
        self.assertEqual((job.id, JobState.LOST), (again.id, again.state))
        self.failureResultOf(after.worker.submit(JobSpec("false", request_id="r")), RequestReused)
        self.assertEqual({}, after.launcher.running)
