"""To which job an orphan belongs, decided on made-up processes."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.attribution import JobLeader, attribute
from txworker.leftovers.tags import Tag, rlimit_tag_for
from txworker.linux.procfs import Process

SHIM = 1


def a_process(pid: int, parent: int = SHIM, session: int | None = None, start: int = 500) -> Process:
    return Process(pid, parent, pid if session is None else session, start, False)


class AttributionTests(SynchronousTestCase):
    """Job "a" is process 100, started at 100; "b" is 200, started at 200. "a" has exited."""

    def setUp(self) -> None:
        self.leaders = {
            100: JobLeader("a", 100, lambda: 100, exited=True),
            200: JobLeader("b", 200, lambda: 200),
        }
        self.others: list[JobLeader] = []
        self.tags: dict[int, list[Tag]] = {}
        self.read: list[int] = []

    def attributed(self, *forest: Process, eliminate: bool = True) -> dict[int, tuple[str, ...]]:
        return attribute(forest, self.leaders, self.others, self.say, eliminate)

    def say(self, process: Process) -> Iterable[Tag]:
        self.read.append(process.pid)
        return self.tags.get(process.pid, [])

    def test_session(self) -> None:
        """A process in a job's session is the job's, whatever its tags, which are not read."""
        self.tags = {300: ["b"]}
        self.assertEqual({300: ("a",)}, self.attributed(a_process(300, session=100)))
        self.assertEqual([], self.read)

    def test_tags(self) -> None:
        """The first tag that names a job decides: cgroup, rlimit tag, environment tag."""
        self.tags = {
            300: ["", "txworker-1", "a", rlimit_tag_for("b")],
            301: ["", rlimit_tag_for("a"), "b"],
            302: [0, "b"],
        }
        found = self.attributed(a_process(300), a_process(301), a_process(302))
        self.assertEqual({300: ("a",), 301: ("a",), 302: ("b",)}, found)

    def test_tag_of_a_child(self) -> None:
        """A child with another job's tag is the other job's: tags weigh more than descent."""
        self.tags = {300: ["a"], 301: ["b"]}
        self.assertEqual({300: ("a",), 301: ("b",)}, self.attributed(a_process(300), a_process(301, 300)))

    def test_foreign_tag(self) -> None:
        """A tag that names no job, a nested worker's or a made-up one, does not count: descent decides."""
        self.tags = {300: ["a"], 301: ["nested"], 302: ["nested"], 303: ["made up"]}
        forest = (a_process(300), a_process(301, 300), a_process(302, 301), a_process(303, start=150))
        self.assertEqual({300: ("a",), 301: ("a",), 302: ("a",), 303: ("a",)}, self.attributed(*forest))

    def test_descent(self) -> None:
        """A process without tags belongs to the job of its parent, at any depth."""
        chain = [a_process(pid, pid - 1) for pid in range(301, 2000)]
        found = self.attributed(a_process(300, session=200), *chain)
        self.assertEqual({("b",)}, set(found.values()))

    def test_elimination(self) -> None:
        """An orphan without tags is a job's when no other job that ran at its birth still runs."""
        self.assertEqual({300: ("a",)}, self.attributed(a_process(300, start=150)))
        self.assertEqual({300: ()}, self.attributed(a_process(300, start=250)))
        self.leaders[200].exited = True
        self.assertEqual({300: ("a", "b")}, self.attributed(a_process(300, start=250)))

    def test_older_than_every_job(self) -> None:
        """A process that was born before every job belongs to none."""
        self.leaders[200].exited = True
        self.assertEqual({300: ()}, self.attributed(a_process(300, start=99)))

    def test_same_tick(self) -> None:
        """The clock counts hundredths: a child may be born in the same tick as its job leader."""
        self.assertEqual({300: ()}, self.attributed(a_process(300, start=200)))
        self.leaders[200].exited = True
        self.assertEqual({300: ("a", "b")}, self.attributed(a_process(300, start=200)))

    def test_without_elimination(self) -> None:
        """Elimination can be switched off; tags still count."""
        self.tags = {301: ["a"]}
        self.assertEqual(
            {300: (), 301: ("a",)}, self.attributed(a_process(300, start=150), a_process(301), eliminate=False)
        )

    def test_below_unattributed(self) -> None:
        """A tagged child of an orphan that belongs to no job is its own job's."""
        self.tags = {301: ["b"]}
        self.assertEqual({300: (), 301: ("b",)}, self.attributed(a_process(300, start=250), a_process(301, 300)))

    def test_start_is_read_when_needed(self) -> None:
        """The start of a job leader costs a read; it is read only for elimination."""

        def never() -> int:
            raise AssertionError("asked")

        self.leaders = {100: JobLeader("a", 100, never)}
        self.assertEqual({300: ("a",)}, self.attributed(a_process(300, session=100)))

    def test_leader_without_a_process(self) -> None:
        """The tags of a job that is being launched count, and elimination knows it."""
        self.leaders[200].exited = True
        self.others = [JobLeader("c", None, lambda: 240)]
        self.tags = {301: ["c"]}
        found = self.attributed(a_process(300, start=250), a_process(301), a_process(302, start=230))
        self.assertEqual({300: (), 301: ("c",), 302: ("a", "b")}, found)
