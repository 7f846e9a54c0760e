"""What is salvaged of a store with damaged pages, and what is logged."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from tests.store.fake_reactor import FakeReactor
from tests.store.open_files import any_open_below
from txworker.base.quantities import counted
from txworker.jobs import Exit, Exited, Job, JobSpec, Query, Started, after
from txworker.jobs.errors import RequestReused
from txworker.store.files import connect
from txworker.store.jobs import FILE_NAME, JobStore
from txworker.worker.catalog import check_same

JOBS = 200
PAGE = 4096


class SalvageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.path = self.directory / FILE_NAME
        self.said: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            self.said.append(formatEvent(event) or "")

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        store = self.a_store()
        for number in range(1, JOBS + 1):
            spec = JobSpec("bash", f"path/{number}", ("x" * 100,), request_id=f"r-{number}", labels={"a": "1"})
            job = Job(f"job-{number:04}", spec, 1.0, number, revision=3 * number - 2)
            store.add(job)
            job = after(job, Started(2.0, 7, 9), 3 * number - 1)
            store.save(after(job, Exited(3.0, Exit(0), 5), 3 * number))
        self.reactor.advance(1)
        store.beat()
        store.close()
        # SQLite removes the log when the last connection is closed, which a thread of the store may have
        self.reactor.run_until(lambda: not any_open_below(self.directory))
        with closing(connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def a_store(self) -> JobStore:
        self.reactor = FakeReactor()
        return JobStore(self.directory, False, self.reactor, lambda trouble: None)

    def pages(self, name: str) -> list[int]:
        """The leaf pages of that table or index."""
        with closing(sqlite3.connect(self.path)) as connection:
            root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
        data = self.path.read_bytes()
        page = data[(root - 1) * PAGE : root * PAGE]
        if page[0] in (10, 13):
            return [root]
        cells = [int.from_bytes(page[12 + 2 * cell :][:2], "big") for cell in range(int.from_bytes(page[3:5], "big"))]
        return [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]

    def restore(self, data: bytes) -> None:
        for left in self.directory.glob("jobs*"):
            left.unlink(missing_ok=True)  # its store may be about to remove it
        self.path.write_bytes(data)
        self.said.clear()

    def spoil(self, page: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(data)

    def after_that(self) -> tuple[JobStore, set[int]]:
        """A new store in place of the damaged one, and the numbers of the jobs that it has."""
        store = self.a_store()
        self.addCleanup(store.close)
        self.assertTrue(store.forgot)
        number, revision = store.last()
        self.assertGreaterEqual(number, JOBS)
        self.assertGreaterEqual(revision, 3 * JOBS)
        return store, {job.number for job in store.finished_page(Query(), 2**62, 1000)}

    def assert_said(self, *words: str) -> None:
        said = "\n".join(self.said)
        for word in words:
            self.assertIn(word, said)

    def test_leaf_of_jobs(self) -> None:
        """A damaged page costs only the jobs on it. The others keep their labels, and the lost ones are logged."""
        for data in (os.urandom(PAGE), bytes(PAGE)):
            before = self.path.read_bytes()
            leaves = self.pages("jobs")
            self.spoil(leaves[len(leaves) // 2], data)
            store, known = self.after_that()
            self.assertIn(len(known), range(JOBS - 30, JOBS))
            lost = set(range(1, JOBS + 1)) - known
            self.assertEqual(known, {job.number for job in store.finished_page(Query(labels={"a": "1"}), 2**62, 1000)})
            ids = ", ".join(f"job-{number:04}" for number in sorted(lost))
            self.assert_said(
                f"Records that could be read of it: {len(known)} of jobs",
                f"Records of {counted(len(lost), 'job', 'jobs')} could not be read: {ids}.",
                "a request with a requestID of theirs starts a new job",
            )
            self.assertIsNone(store.with_request_id(f"r-{min(lost)}"))
            store.close()
            self.restore(before)

    def add_long(self) -> JobSpec:
        """Adds a job whose full spec has a row of its own, with labels that its record leaves out."""
        spec = JobSpec(
            "bash", "long", ("y" * 9000,), request_id="r-long", labels={f"n{n}": "v" * 400 for n in range(20)}
        )
        store = self.a_store()
        job = Job("job-long", spec, 1.0, JOBS + 1, revision=3 * JOBS + 1)
        store.add(job)
        job = after(job, Started(2.0, 7, 9), 3 * JOBS + 2)
        store.save(after(job, Exited(3.0, Exit(0), 5), 3 * JOBS + 3))
        self.reactor.advance(1)
        store.beat()
        store.close()
        with closing(connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return spec

    def test_long_spec(self) -> None:
        """A long spec is salvaged whole, with all of its labels."""
        spec = self.add_long()
        self.spoil(self.pages("jobs")[0], os.urandom(PAGE))
        store, known = self.after_that()
        self.assertIn(JOBS + 1, known)
        self.assertEqual(spec, store.full_spec("job-long"))
        query = Query(labels={"n19": "v" * 400})
        self.assertEqual([JOBS + 1], [job.number for job in store.finished_page(query, 2**62, 10)])

    def test_long_spec_lost(self) -> None:
        """When a full spec cannot be read, the shortened one is left, and its request id stays in use."""
        spec = self.add_long()
        with closing(sqlite3.connect(self.path)) as connection:
            root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'orders'").fetchone()[0]
        self.spoil(root, os.urandom(PAGE))
        store, known = self.after_that()
        self.assertEqual(JOBS + 1, len(known))
        job = store.get("job-long")
        assert job is not None
        self.assertEqual((spec.shortened(), spec.shortened()), (job.spec, store.full_spec("job-long")))
        check_same(job, spec)
        self.assertRaises(RequestReused, check_same, job, JobSpec("bash", "other", request_id="r-long"))

    def test_index(self) -> None:
        """A damaged page of an index costs nothing."""
        for name in ("jobs_by_path", "sqlite_autoindex_jobs_1", "jobs_by_request"):
            before = self.path.read_bytes()
            self.spoil(self.pages(name)[0], os.urandom(PAGE))
            store, known = self.after_that()
            self.assertEqual(JOBS, len(known))
            store.close()
            self.restore(before)

    def test_empty(self) -> None:
        """An empty or missing file is logged. Numbers and revisions continue above the earlier worker's."""
        deeds: list[Callable[[], object]] = [lambda: os.truncate(self.path, 0), self.path.unlink]
        for deed in deeds:
            deed()
            store, known = self.after_that()
            self.assertEqual(set(), known)
            self.assert_said("was empty or not there, though a worker was here before", "Other jobs are forgotten")
            self.said.clear()
            store.forgot_settled()
            store.close()
            again = self.a_store()
            self.assertFalse(again.forgot)
            self.assertGreaterEqual(again.last(), (JOBS, 3 * JOBS))
            again.close()
            self.assertEqual([], self.said)

    def test_empty_beside_its_log(self) -> None:
        """The log of an empty file is set aside with it."""
        with closing(connect(self.path)) as connection:
            connection.execute("UPDATE jobs SET lost_text = 'x'")
            log = Path(f"{self.path}-wal").read_bytes()
        self.path.write_bytes(b"")
        Path(f"{self.path}-wal").write_bytes(log)
        self.after_that()
        self.assert_said("it is empty, and its log is not")
        (kept,) = self.directory.glob("*.damaged-*-wal")
        self.assertEqual(log, kept.read_bytes())

    def test_older_copy(self) -> None:
        """A restored backup is sound. Numbers and revisions that it lacks are not used again."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DELETE FROM jobs WHERE number > 50")
            connection.commit()
        store = self.a_store()
        self.addCleanup(store.close)
        self.assertFalse(store.forgot)
        self.assertEqual((JOBS, 3 * JOBS), store.last())

    def test_nothing_left(self) -> None:
        """Nothing is salvaged of garbage. Counting continues above the lease's numbers."""
        self.path.write_bytes(b"garbage" * 10_000)
        _, known = self.after_that()
        self.assertEqual(set(), known)
        self.assert_said("Records that could be read of it: 0 of jobs")
