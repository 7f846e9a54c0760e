"""Which processes belong to recorded jobs: decided on made-up processes."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.recorded_jobs import (
    RECORDING_TICKS,
    RecordedJob,
    RecordedJobs,
    ancestors_and_descendants,
)
from txworker.leftovers.tags import Tag, rlimit_tag_for
from txworker.linux.procfs import Process

ALIVE_UNTIL = 1000
OWN = 900


def a_process(pid: int, parent: int = 1, session: int | None = None, start: int = 500, zombie: bool = False) -> Process:
    return Process(pid, parent, pid if session is None else session, start, zombie)


class RecordedJobsTests(SynchronousTestCase):
    """One job, "job", whose leader was 100, started at 400; unless a test says otherwise."""

    def setUp(self) -> None:
        self.jobs = [RecordedJob("job", 100, 400)]
        self.environment_tags: dict[int, str] = {}
        self.rlimit_tags: dict[int, int] = {}
        self.read: list[int] = []

    def found(self, *processes: Process, spared: tuple[int, ...] = (), lost: str = "") -> list[int]:
        recorded = RecordedJobs(self.jobs, lambda job_id: job_id == lost, ALIVE_UNTIL)
        recorded.learn_sessions(processes)
        return sorted(process.pid for process in recorded.members(processes, self.tags, spared))

    def tags(self, process: Process) -> Iterable[Tag]:
        self.read.append(process.pid)
        return (self.rlimit_tags.get(process.pid, 0), *filter(None, [self.environment_tags.get(process.pid)]))

    def test_own_process(self) -> None:
        """The job leader is known by its pid, when it had that before its start was recorded."""
        self.assertEqual([100], self.found(a_process(100, start=400)))
        self.assertEqual([100], self.found(a_process(100, start=398)))
        self.assertEqual([], self.found(a_process(100, start=401)))

    def test_tagged_a_moment_before(self) -> None:
        """The start of the first job was recorded a tick late: what that job started before is found, too."""
        self.environment_tags = {200: "job"}
        self.assertEqual([200], self.found(a_process(200, start=399)))

    def test_environment_tag(self) -> None:
        """An environment tag counts when it names a recorded job, or one that is known to be lost; no other does."""
        self.environment_tags = {5: "job", 6: "other worker's", 7: "lost"}
        self.assertEqual([5, 7], self.found(a_process(5), a_process(6), a_process(7), a_process(8), lost="lost"))

    def test_rlimit_tag(self) -> None:
        """An rlimit tag counts when it is a recorded job's."""
        self.rlimit_tags = {5: rlimit_tag_for("job"), 6: rlimit_tag_for("other")}
        self.assertEqual([5], self.found(a_process(5), a_process(6)))

    def test_session_with_its_leader(self) -> None:
        """While the job leader runs, every process in its session is the job's, however young."""
        self.assertEqual([100, 200], self.found(a_process(100, start=400), a_process(200, session=100, start=9000)))

    def test_session_whose_leader_has_ended(self) -> None:
        """One member that was born while the worker ran makes the session the job's, with all its members."""
        old, young = a_process(200, session=100, start=ALIVE_UNTIL), a_process(300, session=100, start=9000)
        self.assertEqual([200, 300], self.found(old, young))
        self.assertEqual([], self.found(young))

    def test_session_pid_given_away(self) -> None:
        """Another process has the pid now: it is not the job's, nor is its session, even with an old member."""
        other = a_process(100, start=2000)
        self.assertEqual([], self.found(other, a_process(200, session=100, start=2001)))
        self.assertEqual([], self.found(other, a_process(200, session=100, start=600)))

    def test_pid_given_away_outside_a_session_of_its_own(self) -> None:
        """It is enough that the pid is taken, whatever session that process is in."""
        self.assertEqual([], self.found(a_process(100, session=50, start=2000), a_process(200, session=100, start=600)))

    def test_zombie_leader(self) -> None:
        """A job leader that has exited and is not reaped is as good as a running one."""
        self.assertEqual(
            [100, 200],
            self.found(a_process(100, start=400, zombie=True), a_process(200, session=100, start=9000)),
        )

    def test_start_unknown(self) -> None:
        """Without a recorded start only a process that was born while the worker ran can be the job's."""
        self.jobs = [RecordedJob("job", 100, None)]
        self.assertEqual([100, 200], self.found(a_process(100, start=700), a_process(200, session=100, start=9000)))
        self.assertEqual([], self.found(a_process(100, start=9000), a_process(200, session=100, start=9000)))
        self.assertEqual([200], self.found(a_process(200, session=100, start=700)))

    def test_pid_unknown(self) -> None:
        """When the pid of the job leader is unknown only tags tell."""
        self.jobs = [RecordedJob("job", None, None)]
        self.environment_tags = {200: "job"}
        self.assertEqual([200], self.found(a_process(100, start=400), a_process(200, start=1)))

    def test_worker_lived_when_it_launched(self) -> None:
        """A job that was launched later than the worker is otherwise known to have run proves that it ran then."""
        self.jobs = [RecordedJob("job", 100, 400), RecordedJob("late", 101, 2000)]
        self.assertEqual([200], self.found(a_process(200, session=101, start=2000)))

    def test_descent(self) -> None:
        """Descendants of members are members, in whatever order they are read."""
        self.environment_tags = {5: "job"}
        chain = [a_process(8, 7), a_process(7, 6), a_process(6, 5), a_process(5), a_process(9, 1)]
        self.assertEqual([5, 6, 7, 8], self.found(*chain))

    def test_spared(self) -> None:
        """A spared process is no member, whatever its tags, and descent does not pass through it."""
        self.environment_tags = {5: "job", 6: "job"}
        self.assertEqual([5], self.found(a_process(5), a_process(6, 5), a_process(7, 6), spared=(6,)))

    def test_init_and_kernel_threads(self) -> None:
        """Neither is ever a member, and their tags are not read."""
        self.environment_tags = {1: "job", 2: "job", 3: "job"}
        self.assertEqual([], self.found(a_process(1, 0), a_process(2, 0, 0), a_process(3, 2, 0)))
        self.assertEqual([], self.read)

    def test_older_than_every_job(self) -> None:
        """The tags of a process much older than the first job are not read, unless a job's start is unknown."""
        self.jobs = [RecordedJob("job", 100, 400 + RECORDING_TICKS)]
        self.environment_tags = {5: "job"}
        self.assertEqual([], self.found(a_process(5, start=399)))
        self.assertEqual([], self.read)
        self.jobs.append(RecordedJob("unknown", 300, None))
        self.assertEqual([5], self.found(a_process(5, start=399)))

    def test_remembered(self) -> None:
        """A process that was a member stays one when the reason for it has gone; so does a session."""
        recorded = RecordedJobs(self.jobs, lambda job_id: False, ALIVE_UNTIL)
        first = [a_process(100, start=400), a_process(5, 100), a_process(6, 5)]
        recorded.learn_sessions(first)
        self.assertEqual(3, len(recorded.members(first, self.tags, ())))
        recorded.learn_sessions([a_process(6)])
        later = [a_process(6), a_process(7, 1, session=100, start=9000), a_process(5, start=9000)]
        self.assertEqual([6, 7], [process.pid for process in recorded.members(later, self.tags, ())])

    def test_remembered_session_given_away(self) -> None:
        """A session whose id is another process's pid now is no longer the job's."""
        recorded = RecordedJobs(self.jobs, lambda job_id: False, ALIVE_UNTIL)
        recorded.learn_sessions([a_process(100, start=400)])
        later = [a_process(100, start=9000), a_process(7, 1, session=100, start=9001)]
        recorded.learn_sessions(later)
        self.assertEqual([], recorded.members(later, self.tags, ()))

    def test_ancestors_and_descendants(self) -> None:
        """A process, its ancestors and its descendants, but not its siblings."""
        processes = [
            a_process(1, 0),
            a_process(10, 1),
            a_process(20, 10),
            a_process(21, 10),
            a_process(31, 30),
            a_process(30, 20),
        ]
        self.assertEqual({1, 10, 20, 30, 31}, ancestors_and_descendants(20, processes))

    def test_process_1(self) -> None:
        """What descends from process 1 may be an orphan of a lost job, also where the worker is process 1."""
        self.assertEqual({1}, ancestors_and_descendants(1, [a_process(1, 0), a_process(10, 1)]))
