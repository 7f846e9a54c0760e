"""A watcher misses no change and gets none twice, however slowly it reads."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import EndReason, EndRequested, Exit, Exited, Fact, Job, JobSpec, Lost, Started, after
from txworker.jobs.errors import WorkerStopping
from txworker.worker import change_feed
from txworker.worker.change_feed import ChangeBatch, ChangeFeed

STARTED, ENDED, STOPPING = Started(1.0, 42), Exited(2.0, Exit(0), 0), EndRequested(EndReason.REQUESTED)


class ChangeFeedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.feed = ChangeFeed(0, self.soon.append)
        self.jobs: dict[str, Job] = {}
        self.revision = 0

    def publish(self, job_id: str, *facts: Fact) -> None:
        for fact in facts:
            self.revision += 1
            job = self.jobs.get(job_id) or Job(job_id, JobSpec("true"), 0.0)
            self.jobs[job_id] = after(job, fact, self.revision)
            self.feed.publish(self.jobs[job_id])

    def run_soon(self) -> None:
        calls, self.soon[:] = list(self.soon), []
        for call in calls:
            call()

    def since(self, beyond: int) -> ChangeBatch:
        return self.successResultOf(self.feed.since(beyond))

    def ids(self, beyond: int) -> list[str]:
        return [job.id for job in self.since(beyond).jobs]

    def test_all_there_is(self) -> None:
        """From revision 0: every job once, in its newest record, ordered by last change."""
        self.publish("a", STARTED)
        self.publish("b", STARTED, ENDED)
        self.publish("a", STOPPING)
        changed = self.since(0)
        self.assertEqual((self.jobs["b"], self.jobs["a"]), changed.jobs)
        self.assertEqual((0, self.revision), (changed.in_store_upto, changed.upto))

    def test_beyond(self) -> None:
        """Beyond a known revision: only what changed since."""
        self.publish("a", STARTED)
        known = self.since(0).upto
        self.publish("b", STARTED)
        self.assertEqual(["b"], self.ids(known))
        self.publish("a", ENDED)
        self.assertEqual(["b", "a"], self.ids(known))

    def test_batches(self) -> None:
        """A batch is bounded; the next ones, and the store, have the rest, and no job comes twice."""
        self.patch(change_feed, "BATCH_JOBS", 2)
        self.patch(change_feed, "HELD_ENDS", 2)
        self.patch(change_feed, "HELD_CHANGES", 3)
        self.publish("a", STARTED)
        for job_id in "bcdef":
            self.publish(job_id, STARTED, ENDED)
        self.publish("a", STOPPING)
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
        self.publish("e2", STARTED, ENDED)
        self.publish("a", ENDED)
        known = {"a": self.jobs["a"].revision - 3, "e2": self.jobs["e2"].revision - 2}
        batch = self.successResultOf(self.feed.of(known, self.revision - 3))
        self.assertEqual((["e2", "e2"], self.revision - 1), ([job.id for job in batch.jobs], batch.upto))
        known["e2"] = self.jobs["e2"].revision
        batch = self.successResultOf(self.feed.of(known, batch.upto))
        self.assertEqual((["a"], self.revision), ([job.id for job in batch.jobs], batch.upto))

    def test_waiting(self) -> None:
        """A watcher that is up to date waits for the next change, and many changes wake it once."""
        self.publish("a", STARTED)
        waiting = self.feed.since(self.revision)
        self.assertNoResult(waiting)
        self.publish("a", STOPPING, ENDED)
        self.publish("b", STARTED)
        self.assertEqual(1, len(self.soon))
        self.assertNoResult(waiting)
        self.run_soon()
        self.assertEqual([2, 3, 4], [job.revision for job in self.successResultOf(waiting).jobs])

    def test_without_watchers(self) -> None:
        """Without watchers no wake-up is scheduled."""
        self.publish("a", STARTED, ENDED)
        self.assertEqual([], self.soon)

    def test_cancel(self) -> None:
        """Cancelling one watcher does not affect another."""
        first, second = self.feed.since(0), self.feed.since(0)
        first.addErrback(lambda failure: None)
        first.cancel()
        self.publish("a", STARTED)
        self.run_soon()
        self.successResultOf(second)

    def test_each(self) -> None:
        """A watcher that keeps up gets every change, and none twice."""
        self.publish("a", STARTED)
        waiting = self.feed.since(1, each=True)
        self.publish("a", STOPPING, ENDED)
        self.publish("b", STARTED)
        self.run_soon()
        changed = self.successResultOf(waiting)
        self.assertEqual([2, 3, 4], [job.revision for job in changed.jobs])
        self.assertEqual((4, True), (changed.upto, changed.in_store_upto <= 1))
        self.assertNoResult(self.feed.since(4, each=True))

    def test_each_is_bounded(self) -> None:
        """A watcher that is later than the held changes gets the newest record of each job."""
        self.patch(change_feed, "HELD_CHANGES", 3)
        self.publish("a", STARTED, STOPPING, ENDED)
        self.publish("b", STARTED)
        self.publish("c", STARTED)
        for beyond, revisions in [(1, [3, 4, 5]), (2, [3, 4, 5]), (0, [3, 4, 5])]:
            changed = self.successResultOf(self.feed.since(beyond, each=True))
            self.assertEqual(revisions, [job.revision for job in changed.jobs])
        self.publish("c", STOPPING, ENDED)
        self.assertEqual([5, 6, 7], [job.revision for job in self.successResultOf(self.feed.since(4, True)).jobs])
        self.assertEqual([4, 7], [job.revision for job in self.successResultOf(self.feed.since(3, True)).jobs])

    def test_each_of_named(self) -> None:
        """A watcher of named jobs gets each change, or the ids of the jobs to look up."""
        self.patch(change_feed, "HELD_CHANGES", 3)
        self.publish("a", STARTED)
        for number in range(5):
            self.publish(f"job-{number}", STARTED)
        waiting = self.feed.of({"a": 1, "job-4": 6})
        self.publish("a", STOPPING, ENDED)
        self.publish("b", STARTED)
        self.run_soon()
        changed = self.successResultOf(waiting)
        self.assertEqual(([7, 8], [], 9), ([job.revision for job in changed.jobs], changed.late, changed.upto))
        changed = self.successResultOf(self.feed.of({"a": 7, "job-4": 6}, upto=6))
        self.assertEqual([8], [job.revision for job in changed.jobs])
        changed = self.successResultOf(self.feed.of({"a": 1, "job-4": 6}, upto=5))
        self.assertEqual(([], ["a"], 9), (changed.jobs, changed.late, changed.upto))

    def test_bounded(self) -> None:
        """Ends that are no longer held are in the store; held and stored jobs together are all there are."""
        self.patch(change_feed, "HELD_ENDS", 3)
        self.publish("runs", STARTED)
        for number in range(5):
            self.publish(f"job-{number}", STARTED, ENDED)
        changed = self.since(0)
        self.assertEqual(["runs", "job-2", "job-3", "job-4"], [job.id for job in changed.jobs])
        in_store = [job.id for job in self.jobs.values() if job.done and job.revision <= changed.in_store_upto]
        self.assertEqual(["job-0", "job-1"], in_store)

    def test_earlier_worker(self) -> None:
        """Changes of an earlier worker are in the store only; nothing has changed since."""
        self.feed = ChangeFeed(7, self.soon.append)
        changed = self.since(0)
        self.assertEqual(((), 7, 7), (changed.jobs, changed.in_store_upto, changed.upto))
        self.assertNoResult(self.feed.since(7))

    def test_named(self) -> None:
        """Only changes of the named jobs wake their watcher."""
        self.publish("a", STARTED)
        self.publish("b", STARTED)
        waiting = self.feed.of({"a": self.jobs["a"].revision})
        self.publish("b", ENDED)
        self.run_soon()
        self.assertNoResult(waiting)
        self.publish("a", ENDED)
        self.run_soon()
        self.successResultOf(waiting)
        self.successResultOf(self.feed.of({"a": 1}))

    def test_named_and_not_published_yet(self) -> None:
        """A watcher may know a newer record than the feed (it is still being written): it waits."""
        self.publish("a", STARTED)
        waiting = self.feed.of({"a": 2, "b": 3})
        self.run_soon()
        self.assertNoResult(waiting)

    def test_named_long_ago(self) -> None:
        """The end of a job that is no longer held is in the store: its watcher does not wait."""
        self.patch(change_feed, "HELD_ENDS", 1)
        self.publish("a", STARTED)
        known = self.revision
        waiting = self.feed.of({"a": known})
        self.publish("a", ENDED)
        self.publish("b", STARTED, ENDED)
        self.run_soon()
        self.successResultOf(waiting)
        self.successResultOf(self.feed.of({"a": known}))

    def test_close(self) -> None:
        """After close() watchers get what they have not seen yet, and then WorkerStopping."""
        self.publish("a", STARTED)
        behind, waiting, named = self.feed.since(0), self.feed.since(1), self.feed.of({"a": 1})
        self.feed.close()
        self.assertEqual(1, len(self.successResultOf(behind).jobs))
        self.failureResultOf(waiting, WorkerStopping)
        self.failureResultOf(named, WorkerStopping)
        self.assertEqual(["a"], self.ids(0))
        self.failureResultOf(self.feed.since(1), WorkerStopping)

    def test_lost(self) -> None:
        """A lost job is published like any other end."""
        self.publish("a", STARTED, Lost(2.0, "lost", 0))
        self.assertEqual(["a"], self.ids(0))
