"""Which processes are of a dead worker's jobs: decided on made-up processes."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.evidence import MOMENT_TICKS, DeadJob, Evidence, family
from txworker.leftovers.owners import Sign
from txworker.leftovers.tags import tag_of
from txworker.linux.procfs import Process

ALIVE_UNTIL = 1000
OWN = 900


def a_process(pid: int, parent: int = 1, session: int | None = None, start: int = 500, zombie: bool = False) -> Process:
    return Process(pid, parent, pid if session is None else session, start, zombie)


class OrphanTests(SynchronousTestCase):
    """One dead job, id "job", whose process was 100, started at 400; unless a test says otherwise."""

    def setUp(self) -> None:
        self.jobs = [DeadJob("job", 100, 400)]
        self.marks: dict[int, str] = {}
        self.tags: dict[int, int] = {}
        self.asked: list[int] = []

    def found(self, *processes: Process, spared: tuple[int, ...] = (), also: str = "") -> list[int]:
        evidence = Evidence(self.jobs, lambda mark: mark == also, ALIVE_UNTIL)
        evidence.learn_sessions(processes)
        return sorted(process.pid for process in evidence.belonging(processes, self.signs, spared))

    def signs(self, process: Process) -> Iterable[Sign]:
        self.asked.append(process.pid)
        return (self.tags.get(process.pid, 0), *filter(None, [self.marks.get(process.pid)]))

    def test_own_process(self) -> None:
        """The job's own process is known by its number, when it had that already as its start was written down."""
        self.assertEqual([100], self.found(a_process(100, start=400)))
        self.assertEqual([100], self.found(a_process(100, start=398)))
        self.assertEqual([], self.found(a_process(100, start=401)))

    def test_marked_a_moment_before(self) -> None:
        """The start of the first job was written down a tick late: what that job started before is found, too."""
        self.marks = {200: "job"}
        self.assertEqual([200], self.found(a_process(200, start=399)))

    def test_mark(self) -> None:
        """A mark counts when it names a dead job, or one that is known to be lost; no other mark does."""
        self.marks = {5: "job", 6: "other worker's", 7: "lost"}
        self.assertEqual([5, 7], self.found(a_process(5), a_process(6), a_process(7), a_process(8), also="lost"))

    def test_rlimit_tag(self) -> None:
        """An rlimit tag counts when it is a dead job's."""
        self.tags = {5: tag_of("job"), 6: tag_of("other")}
        self.assertEqual([5], self.found(a_process(5), a_process(6)))

    def test_session_with_its_leader(self) -> None:
        """While the job's own process lives, whoever is in its session is the job's, however young."""
        self.assertEqual([100, 200], self.found(a_process(100, start=400), a_process(200, session=100, start=9000)))

    def test_session_whose_leader_has_ended(self) -> None:
        """One member born while the worker lived makes the session the job's, and then all of it."""
        old, young = a_process(200, session=100, start=ALIVE_UNTIL), a_process(300, session=100, start=9000)
        self.assertEqual([200, 300], self.found(old, young))
        self.assertEqual([], self.found(young))

    def test_session_number_given_away(self) -> None:
        """Somebody else has the number now: neither he nor his session is the job's, nor does one old member help."""
        other = a_process(100, start=2000)
        self.assertEqual([], self.found(other, a_process(200, session=100, start=2001)))
        self.assertEqual([], self.found(other, a_process(200, session=100, start=600)))

    def test_number_given_away_outside_a_session_of_its_own(self) -> None:
        """It is enough that the number is taken, whatever session that process is in."""
        self.assertEqual([], self.found(a_process(100, session=50, start=2000), a_process(200, session=100, start=600)))

    def test_zombie_leader(self) -> None:
        """An exited leader that nobody has waited for is as good as a living one."""
        self.assertEqual(
            [100, 200],
            self.found(a_process(100, start=400, zombie=True), a_process(200, session=100, start=9000)),
        )

    def test_start_unknown(self) -> None:
        """Without a recorded start only who was born while the worker lived can be the job's."""
        self.jobs = [DeadJob("job", 100, None)]
        self.assertEqual([100, 200], self.found(a_process(100, start=700), a_process(200, session=100, start=9000)))
        self.assertEqual([], self.found(a_process(100, start=9000), a_process(200, session=100, start=9000)))
        self.assertEqual([200], self.found(a_process(200, session=100, start=700)))

    def test_pid_unknown(self) -> None:
        """Of a job of which no process is known only marks tell."""
        self.jobs = [DeadJob("job", None, None)]
        self.marks = {200: "job"}
        self.assertEqual([200], self.found(a_process(100, start=400), a_process(200, start=1)))

    def test_worker_lived_when_it_launched(self) -> None:
        """A job launched after the last other sign of life proves a later one."""
        self.jobs = [DeadJob("job", 100, 400), DeadJob("late", 101, 2000)]
        self.assertEqual([200], self.found(a_process(200, session=101, start=2000)))

    def test_descent(self) -> None:
        """Children of those that belong do, too, and their children, in whatever order they are seen."""
        self.marks = {5: "job"}
        chain = [a_process(8, 7), a_process(7, 6), a_process(6, 5), a_process(5), a_process(9, 1)]
        self.assertEqual([5, 6, 7, 8], self.found(*chain))

    def test_spared(self) -> None:
        """Who is spared is not found, whatever speaks for it, and descent does not pass through it."""
        self.marks = {5: "job", 6: "job"}
        self.assertEqual([5], self.found(a_process(5), a_process(6, 5), a_process(7, 6), spared=(6,)))

    def test_init_and_kernel_threads(self) -> None:
        """Neither is ever found, nor asked for a mark."""
        self.marks = {1: "job", 2: "job", 3: "job"}
        self.assertEqual([], self.found(a_process(1, 0), a_process(2, 0, 0), a_process(3, 2, 0)))
        self.assertEqual([], self.asked)

    def test_older_than_every_job(self) -> None:
        """Who was born well before the first job is not even asked for a mark, unless a job's start is unknown."""
        self.jobs = [DeadJob("job", 100, 400 + MOMENT_TICKS)]
        self.marks = {5: "job"}
        self.assertEqual([], self.found(a_process(5, start=399)))
        self.assertEqual([], self.asked)
        self.jobs.append(DeadJob("unknown", 300, None))
        self.assertEqual([5], self.found(a_process(5, start=399)))

    def test_remembered(self) -> None:
        """Who belonged once, still does when what spoke for it is gone; so does a session."""
        evidence = Evidence(self.jobs, lambda mark: False, ALIVE_UNTIL)
        first = [a_process(100, start=400), a_process(5, 100), a_process(6, 5)]
        evidence.learn_sessions(first)
        self.assertEqual(3, len(evidence.belonging(first, self.signs, ())))
        evidence.learn_sessions([a_process(6)])
        later = [a_process(6), a_process(7, 1, session=100, start=9000), a_process(5, start=9000)]
        self.assertEqual([6, 7], [process.pid for process in evidence.belonging(later, self.signs, ())])

    def test_remembered_session_given_away(self) -> None:
        """A session's number that somebody else has now is no longer the job's."""
        evidence = Evidence(self.jobs, lambda mark: False, ALIVE_UNTIL)
        evidence.learn_sessions([a_process(100, start=400)])
        later = [a_process(100, start=9000), a_process(7, 1, session=100, start=9001)]
        evidence.learn_sessions(later)
        self.assertEqual([], evidence.belonging(later, self.signs, ()))

    def test_family(self) -> None:
        """A process, what it descends from and what descends from it: not its siblings."""
        everybody = [
            a_process(1, 0),
            a_process(10, 1),
            a_process(20, 10),
            a_process(21, 10),
            a_process(31, 30),
            a_process(30, 20),
        ]
        self.assertEqual({1, 10, 20, 30, 31}, family(20, everybody))
