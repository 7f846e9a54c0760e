"""What the page keeps: jobs, the last hour, and samples of running jobs. All of it is bounded."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.page.fakes import NOW, record
from txworker.client import LiveUsage
from txworker.page.history import BUCKET_SECONDS, BUCKETS, History, added
from txworker.page.samples import MOST_JOBS, MOST_SAMPLES, Samples
from txworker.page.selection import Selection
from txworker.page.table import JobTable
from txworker.page.values import Key, row_of
from txworker.pb import worker_pb2 as pb

RUNNING, FAILED, SUCCEEDED, STOPPED = (
    pb.JOB_STATE_RUNNING,
    pb.JOB_STATE_FAILED,
    pb.JOB_STATE_SUCCEEDED,
    pb.JOB_STATE_STOPPED,
)


class JobTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.table = JobTable(most=10)
        self.changed: list[Key] = []
        self.leave = self.table.subscribe(self.changed.append)

    def test_changes(self) -> None:
        """Subscribers are told of each change and of nothing else, until they leave."""
        row = row_of("w", record("a"))
        self.assertIsNone(self.table.put(row))
        self.assertEqual(row, self.table.put(row))
        self.table.put(row_of("w", record("a", FAILED)))
        self.table.remove(("w", "a"))
        self.table.remove(("w", "a"))
        self.leave()
        self.table.put(row)
        self.assertEqual([("w", "a")] * 3, self.changed)

    def test_counts(self) -> None:
        """Running jobs are counted by worker, through all changes."""
        for job in (record("a"), record("b"), record("c", pb.JOB_STATE_STOPPING), record("b", SUCCEEDED)):
            self.table.put(row_of("w", job))
        self.table.put(row_of("v", record("a")))
        self.assertEqual((2, 1, 0), tuple(map(self.table.running, ("w", "v", "x"))))
        self.assertEqual((3, 1, 0), tuple(map(self.table.total, ("w", "v", "x"))))

    def test_bounded(self) -> None:
        """The oldest jobs that are done are forgotten; one that runs never is."""
        self.table.put(row_of("w", record("old", RUNNING, ago=1000)))
        for number in range(50):
            self.table.put(row_of("w", record(f"{number}", SUCCEEDED, ago=100 - number)))
        self.assertLessEqual(self.table.total("w"), 11)
        kept = {row.id for row in self.table.matching(Selection(), NOW)}
        self.assertLessEqual({"old", "49", "48", "47"}, kept)
        self.assertNotIn("0", kept)


class HistoryTests(SynchronousTestCase):
    def test_series(self) -> None:
        """Launches, failures and running jobs come from the records' own times."""
        history = History()
        for job in (
            record("a", SUCCEEDED, ago=100),
            record("b", FAILED, ago=100),
            record("c", STOPPED, ago=100),
            record("d", RUNNING, ago=50),
            record("e", SUCCEEDED, ago=7200),
        ):
            history.learn(None, row_of("w", job), NOW)
        series = history.series(NOW, running=1)
        self.assertEqual({BUCKETS}, {len(column) for column in series.values()})
        self.assertEqual(NOW, series["time"][-1] - BUCKET_SECONDS)
        self.assertAlmostEqual(4, sum(series["launches"]) * BUCKET_SECONDS)
        self.assertEqual(1, sum(series["failures"]))
        self.assertEqual([1] * 6, series["running"][-6:])
        self.assertEqual(0, series["running"][-8])

    def test_once(self) -> None:
        """A start and an end are each counted once, however often the record comes."""
        history = History()
        running, failed = row_of("w", record("a", RUNNING)), row_of("w", record("a", FAILED))
        for old, new in ((None, running), (running, running), (running, failed), (failed, failed)):
            history.learn(old, new, NOW)
        series = history.series(NOW, running=0)
        self.assertAlmostEqual(1, sum(series["launches"]) * BUCKET_SECONDS)
        self.assertEqual(1, sum(series["failures"]))

    def test_bounded(self) -> None:
        """What is older than the hour is forgotten, also while no browser asks for the series."""
        history = History()
        for number in range(5 * BUCKETS):
            row = row_of("w", record(f"{number}", FAILED, ago=0))
            at = NOW + number * BUCKET_SECONDS
            history.learn(None, replace(row, started=at, finished=at), at)
        counted = sum(len(counter) for counter in (history._started, history._ended, history._failed))
        self.assertLessEqual(counted, 3 * (2 * BUCKETS + 1))

    def test_several(self) -> None:
        """The series of several workers are added; the times are those of one."""
        one = History().series(NOW, running=2)
        both = added([one, History().series(NOW, running=3)])
        self.assertEqual((one["time"], 5), (both["time"], both["running"][-1]))
        self.assertEqual([], added([])["time"])


class SamplesTests(SynchronousTestCase):
    def test_cpu(self) -> None:
        """CPU is what was used between two samples, in CPUs; the first sample only begins."""
        samples = Samples()
        for second, cpu in enumerate((5.0, 5.5, 7.5)):
            samples.add(("w", "a"), NOW + second, LiveUsage(1, 100, cpu, 0.0), 7)
        expected = {"time": [NOW + 1, NOW + 2], "cpu": [0.5, 2.0], "memory": [100] * 2, "output": [7] * 2}
        self.assertEqual(expected, samples.of(("w", "a")))
        self.assertEqual([], samples.of(("w", "b"))["time"])

    def test_bounded(self) -> None:
        """A long job has samples from its beginning on, fewer of them; the jobs are bounded, too."""
        samples = Samples()
        for second in range(5 * MOST_SAMPLES):
            samples.add(("w", "long"), NOW + second, LiveUsage(1, 1, 0.0, 0.0), 0)
        times = samples.of(("w", "long"))["time"]
        self.assertEqual((NOW + 1, NOW + 5 * MOST_SAMPLES - 1), (times[0], times[-1]))
        self.assertLessEqual(len(times), MOST_SAMPLES)
        for number in range(MOST_JOBS):
            samples.add(("w", str(number)), NOW, LiveUsage(1, 1, 0.0, 0.0), 0)
        self.assertEqual([], samples.of(("w", "long"))["time"])
