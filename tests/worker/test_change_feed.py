"""Who watches misses nothing and hears nothing twice, however slowly it reads."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import EndAsked, EndReason, Exited, Fact, Job, JobSpec, Lost, Started, Usage, after
from txworker.jobs.errors import WorkerStopping
from txworker.worker import change_feed as changes
from txworker.worker.change_feed import Changed, Changes

STARTED, ENDED, STOPPING = Started(1.0, 42), Exited(2.0, 0, None, Usage(), 0), EndAsked(EndReason.ASKED)


class ChangesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.changes = Changes(0, self.soon.append)
        self.jobs: dict[str, Job] = {}
        self.revision = 0

    def tell(self, job_id: str, *facts: Fact) -> None:
        for fact in facts:
            self.revision += 1
            job = self.jobs.get(job_id) or Job(job_id, JobSpec("true"), 0.0)
            self.jobs[job_id] = after(job, fact, self.revision)
            self.changes.tell(self.jobs[job_id])

    def moment(self) -> None:
        calls, self.soon[:] = list(self.soon), []
        for call in calls:
            call()

    def since(self, beyond: int) -> Changed:
        return self.successResultOf(self.changes.since(beyond))

    def ids(self, beyond: int) -> list[str]:
        return [job.id for job in self.since(beyond).jobs]

    def test_all_there_is(self) -> None:
        """From the beginning: every job once, in its newest record, in the order of their last changes."""
        self.tell("a", STARTED)
        self.tell("b", STARTED, ENDED)
        self.tell("a", STOPPING)
        changed = self.since(0)
        self.assertEqual((self.jobs["b"], self.jobs["a"]), changed.jobs)
        self.assertEqual((0, self.revision), (changed.in_store_upto, changed.upto))

    def test_beyond(self) -> None:
        """Beyond what is known already: only what changed since."""
        self.tell("a", STARTED)
        known = self.since(0).upto
        self.tell("b", STARTED)
        self.assertEqual(["b"], self.ids(known))
        self.tell("a", ENDED)
        self.assertEqual(["b", "a"], self.ids(known))

    def test_so_many_at_once(self) -> None:
        """One answer has only so many; who asks on gets the rest, from the store, too, and nothing twice."""
        self.patch(changes, "TOLD_AT_ONCE", 2)
        self.patch(changes, "ENDED_HELD", 2)
        self.patch(changes, "CHANGES_HELD", 3)
        self.tell("a", STARTED)
        for job_id in "bcdef":
            self.tell(job_id, STARTED, ENDED)
        self.tell("a", STOPPING)
        found, beyond, from_store = [], 0, []
        while beyond < self.revision:
            changed = self.since(beyond)
            self.assertEqual(self.revision, changed.newest)
            self.assertLessEqual(len(changed.jobs), 2)
            ended = (job for job in self.jobs.values() if job.done)
            from_store += [job.id for job in ended if beyond < job.revision <= changed.in_store_upto]
            found += [job.id for job in changed.jobs]
            beyond = changed.upto
        self.assertEqual((["e", "f", "a"], ["b", "c", "d"]), (found, from_store))
        self.tell("e2", STARTED, ENDED)
        self.tell("a", ENDED)
        known = {"a": self.jobs["a"].revision - 3, "e2": self.jobs["e2"].revision - 2}
        told = self.successResultOf(self.changes.of(known, self.revision - 3))
        self.assertEqual((["e2", "e2"], self.revision - 1), ([job.id for job in told.jobs], told.upto))
        known["e2"] = self.jobs["e2"].revision
        told = self.successResultOf(self.changes.of(known, told.upto))
        self.assertEqual((["a"], self.revision), ([job.id for job in told.jobs], told.upto))

    def test_waiting(self) -> None:
        """Who knows everything waits for the next change, and is woken once for many of them."""
        self.tell("a", STARTED)
        waiting = self.changes.since(self.revision)
        self.assertNoResult(waiting)
        self.tell("a", STOPPING, ENDED)
        self.tell("b", STARTED)
        self.assertEqual(1, len(self.soon))
        self.assertNoResult(waiting)
        self.moment()
        self.assertEqual([2, 3, 4], [job.revision for job in self.successResultOf(waiting).jobs])

    def test_nobody_watches(self) -> None:
        """Without watchers nobody has to be woken."""
        self.tell("a", STARTED, ENDED)
        self.assertEqual([], self.soon)

    def test_leaving(self) -> None:
        """One that leaves takes nobody with it."""
        first, second = self.changes.since(0), self.changes.since(0)
        first.addErrback(lambda failure: None)
        first.cancel()
        self.tell("a", STARTED)
        self.moment()
        self.successResultOf(second)

    def test_each(self) -> None:
        """Who keeps up is told of each change, and of none twice."""
        self.tell("a", STARTED)
        waiting = self.changes.since(1, each=True)
        self.tell("a", STOPPING, ENDED)
        self.tell("b", STARTED)
        self.moment()
        changed = self.successResultOf(waiting)
        self.assertEqual([2, 3, 4], [job.revision for job in changed.jobs])
        self.assertEqual((4, True), (changed.upto, changed.in_store_upto <= 1))
        self.assertNoResult(self.changes.since(4, each=True))

    def test_each_is_bounded(self) -> None:
        """Who is so late that a change is not held any more is told how each job stands."""
        self.patch(changes, "CHANGES_HELD", 3)
        self.tell("a", STARTED, STOPPING, ENDED)
        self.tell("b", STARTED)
        self.tell("c", STARTED)
        for beyond, revisions in [(1, [3, 4, 5]), (2, [3, 4, 5]), (0, [3, 4, 5])]:
            changed = self.successResultOf(self.changes.since(beyond, each=True))
            self.assertEqual(revisions, [job.revision for job in changed.jobs])
        self.tell("c", STOPPING, ENDED)
        self.assertEqual([5, 6, 7], [job.revision for job in self.successResultOf(self.changes.since(4, True)).jobs])
        self.assertEqual([4, 7], [job.revision for job in self.successResultOf(self.changes.since(3, True)).jobs])

    def test_each_of_named(self) -> None:
        """So is who names jobs: each change, or which jobs to look up."""
        self.patch(changes, "CHANGES_HELD", 3)
        self.tell("a", STARTED)
        for number in range(5):
            self.tell(f"job-{number}", STARTED)
        waiting = self.changes.of({"a": 1, "job-4": 6})
        self.tell("a", STOPPING, ENDED)
        self.tell("b", STARTED)
        self.moment()
        changed = self.successResultOf(waiting)
        self.assertEqual(([7, 8], [], 9), ([job.revision for job in changed.jobs], changed.late, changed.upto))
        changed = self.successResultOf(self.changes.of({"a": 7, "job-4": 6}, upto=6))
        self.assertEqual([8], [job.revision for job in changed.jobs])
        changed = self.successResultOf(self.changes.of({"a": 1, "job-4": 6}, upto=5))
        self.assertEqual(([], ["a"], 9), (changed.jobs, changed.late, changed.upto))

    def test_bounded(self) -> None:
        """Ends beyond those that are held are in the store; together with what is held they are all there is."""
        self.patch(changes, "ENDED_HELD", 3)
        self.tell("runs", STARTED)
        for number in range(5):
            self.tell(f"job-{number}", STARTED, ENDED)
        changed = self.since(0)
        self.assertEqual(["runs", "job-2", "job-3", "job-4"], [job.id for job in changed.jobs])
        in_store = [job.id for job in self.jobs.values() if job.done and job.revision <= changed.in_store_upto]
        self.assertEqual(["job-0", "job-1"], in_store)

    def test_earlier_worker(self) -> None:
        """What was known before this worker is in the store only; nothing has changed since."""
        self.changes = Changes(7, self.soon.append)
        changed = self.since(0)
        self.assertEqual(((), 7, 7), (changed.jobs, changed.in_store_upto, changed.upto))
        self.assertNoResult(self.changes.since(7))

    def test_named(self) -> None:
        """Who names jobs is woken by those alone."""
        self.tell("a", STARTED)
        self.tell("b", STARTED)
        waiting = self.changes.of({"a": self.jobs["a"].revision})
        self.tell("b", ENDED)
        self.moment()
        self.assertNoResult(waiting)
        self.tell("a", ENDED)
        self.moment()
        self.successResultOf(waiting)
        self.successResultOf(self.changes.of({"a": 1}))

    def test_named_and_not_told_yet(self) -> None:
        """A job that is known newer than was told here (it is being written) is waited for."""
        self.tell("a", STARTED)
        waiting = self.changes.of({"a": 2, "b": 3})
        self.moment()
        self.assertNoResult(waiting)

    def test_named_long_ago(self) -> None:
        """A job whose end is not held any more is in the store: whoever asks for it need not wait."""
        self.patch(changes, "ENDED_HELD", 1)
        self.tell("a", STARTED)
        known = self.revision
        waiting = self.changes.of({"a": known})
        self.tell("a", ENDED)
        self.tell("b", STARTED, ENDED)
        self.moment()
        self.successResultOf(waiting)
        self.successResultOf(self.changes.of({"a": known}))

    def test_close(self) -> None:
        """At the end everybody is told the rest, and then that there will be nothing more."""
        self.tell("a", STARTED)
        behind, waiting, named = self.changes.since(0), self.changes.since(1), self.changes.of({"a": 1})
        self.changes.close()
        self.assertEqual(1, len(self.successResultOf(behind).jobs))
        self.failureResultOf(waiting, WorkerStopping)
        self.failureResultOf(named, WorkerStopping)
        self.assertEqual(["a"], self.ids(0))
        self.failureResultOf(self.changes.since(1), WorkerStopping)

    def test_lost(self) -> None:
        """A job that was lost has ended like any other."""
        self.tell("a", STARTED, Lost(2.0, "lost", 0))
        self.assertEqual(["a"], self.ids(0))
