"""Whose an orphan is, decided on made-up processes."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.owners import Main, Sign, owners
from txworker.linux.procfs import Process

WORKER = 1


def a_process(pid: int, parent: int = WORKER, session: int | None = None, start: int = 500) -> Process:
    return Process(pid, parent, pid if session is None else session, start, False)


class OwnerTests(SynchronousTestCase):
    """Job "a" is process 100, started at 100; "b" is 200, started at 200. "a" has exited."""

    def setUp(self) -> None:
        self.mains = {100: Main("a", 1001, lambda: 100, exited=True), 200: Main("b", 1002, lambda: 200)}
        self.signs: dict[int, list[Sign]] = {}
        self.asked: list[int] = []

    def owners(self, *forest: Process, guess: bool = True) -> dict[int, tuple[str, ...]]:
        return owners(forest, self.mains, self.say, guess)

    def say(self, process: Process) -> Iterable[Sign]:
        self.asked.append(process.pid)
        return self.signs.get(process.pid, [])

    def test_session(self) -> None:
        """Who is in a job's session is the job's, whatever else it says, and is not asked."""
        self.signs = {300: ["b"]}
        self.assertEqual({300: ("a",)}, self.owners(a_process(300, session=100)))
        self.assertEqual([], self.asked)

    def test_signs(self) -> None:
        """The first sign that names a job of ours decides: its cgroup, its brand, its mark."""
        self.signs = {300: ["", "txworker-1", "a", 1002, "b"], 301: ["", 1001, "b"], 302: [0, "b"]}
        found = self.owners(a_process(300), a_process(301), a_process(302))
        self.assertEqual({300: ("a",), 301: ("a",), 302: ("b",)}, found)

    def test_sign_of_a_child(self) -> None:
        """A child that says it is another job's is: what it carries weighs more than whom it descends from."""
        self.signs = {300: ["a"], 301: ["b"]}
        self.assertEqual({300: ("a",), 301: ("b",)}, self.owners(a_process(300), a_process(301, 300)))

    def test_foreign_sign(self) -> None:
        """A mark that names no job of ours, a nested worker's or a made-up one, counts for nothing: descent decides."""
        self.signs = {300: ["a"], 301: ["nested"], 302: ["nested"], 303: ["made up"]}
        forest = (a_process(300), a_process(301, 300), a_process(302, 301), a_process(303, start=150))
        self.assertEqual({300: ("a",), 301: ("a",), 302: ("a",), 303: ("a",)}, self.owners(*forest))

    def test_descent(self) -> None:
        """Whoever says nothing is whose its parent is, at any depth."""
        chain = [a_process(pid, pid - 1) for pid in range(301, 2000)]
        found = self.owners(a_process(300, session=200), *chain)
        self.assertEqual({("b",)}, set(found.values()))

    def test_elimination(self) -> None:
        """An orphan that says nothing is a job's when no other that ran at its birth is still running."""
        self.assertEqual({300: ("a",)}, self.owners(a_process(300, start=150)))
        self.assertEqual({300: ()}, self.owners(a_process(300, start=250)))
        self.mains[200].exited = True
        self.assertEqual({300: ("a", "b")}, self.owners(a_process(300, start=250)))

    def test_older_than_every_job(self) -> None:
        """Who was born before every job is nobody's."""
        self.mains[200].exited = True
        self.assertEqual({300: ()}, self.owners(a_process(300, start=99)))

    def test_same_tick(self) -> None:
        """The clock counts hundredths: a child born in its job's first is its child all the same."""
        self.assertEqual({300: ()}, self.owners(a_process(300, start=200)))
        self.mains[200].exited = True
        self.assertEqual({300: ("a", "b")}, self.owners(a_process(300, start=200)))

    def test_no_guessing(self) -> None:
        """Where others than jobs may leave orphans, elimination says nothing."""
        self.signs = {301: ["a"]}
        self.assertEqual({300: (), 301: ("a",)}, self.owners(a_process(300, start=150), a_process(301), guess=False))

    def test_below_nobody(self) -> None:
        """Of an orphan of nobody's, a child that says something is its job's all the same."""
        self.signs = {301: ["b"]}
        self.assertEqual({300: (), 301: ("b",)}, self.owners(a_process(300, start=250), a_process(301, 300)))

    def test_start_is_asked_when_needed(self) -> None:
        """To know when a job started costs a read; it is asked only when elimination needs it."""

        def never() -> int:
            raise AssertionError("asked")

        self.mains = {100: Main("a", 1001, never)}
        self.assertEqual({300: ("a",)}, self.owners(a_process(300, session=100)))
