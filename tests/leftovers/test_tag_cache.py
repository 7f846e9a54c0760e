"""What scans remember of processes: tags are read once, and count only as long as they are a job's."""

from __future__ import annotations

import errno
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.process_table import FakeProcessTable
from txworker.leftovers.attribution import JobLeader
from txworker.leftovers.tag_cache import MOST_UNTAGGED, UNTAGGED_AFTER_SECONDS, UNTAGGED_SECONDS, TagCache, Untagged
from txworker.leftovers.tags import Tag, rlimit_tag_for

SHIM = 50


class TagCacheTests(SynchronousTestCase):
    """Job "a" is the only one, unless a test says otherwise."""

    def setUp(self) -> None:
        self.clock, self.table = Clock(), FakeProcessTable(reaper=SHIM)
        self.sessions: dict[int, JobLeader] = {}
        self.untagged = Untagged(self.clock, self.table)
        self.cache = TagCache(self.sessions, self.untagged, SHIM, self.table)
        self.leader = JobLeader("a", None, lambda: 0)
        self.cache.add(self.leader)

    def seen(self, pid: int, tag: Tag = "", cgroup: str = "") -> tuple[Tag, ...]:
        process = self.table.add(pid, tag=tag)
        self.table.cgroups[pid] = cgroup
        self.cache.see(process)
        return self.cache.of(process)

    def test_first_that_is_a_jobs(self) -> None:
        """The first tag that is a job's counts: its id or its rlimit tag."""
        tag = rlimit_tag_for("a")
        self.assertEqual(("a",), self.seen(2, "x", "/worker/a"))
        self.assertEqual((tag,), self.seen(3, tag, "/worker/x"))
        self.assertEqual(("a",), self.seen(4, "a"))
        self.assertEqual(((), ()), (self.seen(5, "x"), self.seen(6, tag + 1)))

    def test_read_once(self) -> None:
        """The tags of a tagged process are not read again; those of another process with its pid are."""
        one = self.table.add(7, tag="a")
        for _ in range(3):
            self.cache.see(one)
        self.assertEqual([7], self.table.tag_reads)
        another = self.table.add(7, tag="a", start=501)
        self.assertEqual((), self.cache.of(another))
        self.cache.see(another)
        self.assertEqual([7, 7], self.table.tag_reads)

    def test_session_says_more(self) -> None:
        """The tags of a process in a job's session are not read."""
        self.sessions[7] = self.leader
        self.cache.see(self.table.add(7))
        self.assertEqual([], self.table.tag_reads)

    def test_job_over(self) -> None:
        """The tag of a job that is over says nothing; then the other tags are read."""
        one = self.table.add(7, tag="a")
        self.cache.see(one)
        self.cache.remove(self.leader)
        self.assertEqual((), self.cache.of(one))
        self.cache.add(JobLeader("b", None, lambda: 0))
        self.table.cgroups[7] = "/worker/b"
        self.cache.see(one)
        self.assertEqual(("b",), self.cache.of(one))

    def test_untagged(self) -> None:
        """An orphan without a tag is read twice and then known to be untagged; what is below it never is."""
        orphan, child = self.table.add(7), self.table.add(8, parent=7)
        for _ in range(3):
            self.cache.see(orphan)
            self.cache.see(child)
            self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.assertEqual((True, False), (7 in self.untagged, 8 in self.untagged))
        self.assertEqual((2, 3), (self.table.tag_reads.count(7), self.table.tag_reads.count(8)))

    def test_retain(self) -> None:
        """Processes that have gone are forgotten."""
        one, two = self.table.add(7, tag="a"), self.table.add(8, tag="a")
        for process in (one, two):
            self.cache.see(process)
        self.cache.retain([one])
        self.assertEqual((("a",), ()), (self.cache.of(one), self.cache.of(two)))


class UntaggedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.table = Clock(), FakeProcessTable(reaper=SHIM)
        self.untagged = Untagged(self.clock, self.table)
        self.one = self.table.add(7)

    def see_twice(self) -> None:
        self.untagged.saw(self.one)
        self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.untagged.saw(self.one)

    def assertKnown(self, known: bool) -> None:
        self.assertEqual((self.one if known else None, known), (self.untagged.get(7), 7 in self.untagged))
        self.assertEqual(int(known), self.table.watches)

    def test_seen_twice(self) -> None:
        """A process is known to be untagged when two reads that are some time apart found no tag."""
        self.untagged.saw(self.one)
        self.untagged.saw(self.one)
        self.assertKnown(False)
        self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.untagged.saw(self.one)
        self.assertKnown(True)

    def test_limited(self) -> None:
        """However many orphans there are, they do not use up the descriptors."""
        orphans = [self.table.add(pid) for pid in range(10_000, 10_000 + MOST_UNTAGGED + 5)]
        for _ in range(2):
            for process in orphans:
                self.untagged.saw(process)
            self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.assertEqual(MOST_UNTAGGED, self.table.watches)
        self.table.exits(orphans[0].pid, zombie=True)
        self.assertIsNone(self.untagged.get(orphans[0].pid))
        self.untagged.saw(orphans[-1])
        self.assertIs(orphans[-1], self.untagged.get(orphans[-1].pid))

    def test_no_descriptor(self) -> None:
        """Where no descriptor is left a process is read again in each scan, and the scan goes on."""
        self.patch(self.table, "watch_exit", mock.Mock(side_effect=OSError(errno.EMFILE, "no")))
        self.see_twice()
        self.assertKnown(False)

    def test_another_with_its_pid(self) -> None:
        """Another process with that pid has to be seen twice, too."""
        self.untagged.saw(self.one)
        self.clock.advance(UNTAGGED_AFTER_SECONDS)
        self.untagged.saw(self.table.add(7, start=501))
        self.assertKnown(False)

    def test_read_again(self) -> None:
        """After a while it is read again, because of an exec; then it is known again."""
        self.see_twice()
        self.clock.advance(UNTAGGED_SECONDS + 0.1)
        self.assertKnown(False)
        self.untagged.saw(self.one)
        self.assertKnown(True)

    def test_exited(self) -> None:
        """A process that has exited is not known any more."""
        self.see_twice()
        self.table.exits(7, zombie=True)
        self.assertKnown(False)

    def test_forgotten(self) -> None:
        """A process that is to be forgotten has to be seen twice again; close() leaves no watch open."""
        self.see_twice()
        self.untagged.forget(7)
        self.untagged.saw(self.one)
        self.assertKnown(False)
        self.see_twice()
        self.untagged.close()
        self.assertKnown(False)
