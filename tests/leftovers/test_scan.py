"""What is left of a job that no shim has, in a made-up table of processes."""

from __future__ import annotations

from collections.abc import Callable, Container

from twisted.trial.unittest import SynchronousTestCase

from txworker.leftovers.owners import Sign
from txworker.leftovers.scan import Scan, Seen
from txworker.leftovers.tags import tag_of
from txworker.linux.procfs import Process

INIT = Process(1, 0, 1, 0, False)
JOB, OTHER = 100, 200


class ScanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 10_000
        self.table: dict[int, Process] = {1: INIT}
        self.carried: dict[int, Sign] = {}
        self.asked: list[int] = []
        self.looks = 0
        self.missed: list[Callable[[], bool]] = []
        self.scan = Scan(self.everybody, self.signs, lambda: self.now)

    def everybody(self, skipped: Container[int], seen: Seen) -> tuple[list[Process], bool]:
        self.looks += 1
        found = [process for pid, process in self.table.items() if pid not in skipped]
        for process in found:
            seen(process)
        return found, self.missed.pop(0)() if self.missed else False

    def signs(self, process: Process) -> list[Sign]:
        self.asked.append(process.pid)
        return [self.carried[process.pid]] if process.pid in self.carried else []

    def there_is(self, pid: int, parent: int = 1, session: int = 0, sign: Sign = "", zombie: bool = False) -> None:
        """A process that begins now."""
        self.table[pid] = Process(pid, parent, session or pid, self.now, zombie)
        if sign:
            self.carried[pid] = sign

    def a_job(self, pid: int = JOB, job_id: str = "job") -> None:
        self.there_is(pid)
        self.scan.enter(pid, job_id)
        self.now += 100

    def exits(self, pid: int = JOB) -> None:
        del self.table[pid]
        self.scan.exited(pid)

    def left(self, job_id: str = "job") -> list[int]:
        return sorted(process.pid for process in self.successResultOf(self.scan.of(job_id)))

    def test_nothing(self) -> None:
        """Processes of others, older or younger, are none of its."""
        self.there_is(50, session=50)
        self.a_job()
        self.there_is(150)
        self.exits()
        self.assertEqual([], self.left())

    def test_found(self) -> None:
        """By session, by its tags, and by descent from one of these; whatever has ended is not."""
        self.a_job()
        self.there_is(110, session=JOB)
        self.there_is(111, sign="job")
        self.there_is(112, sign=tag_of("job"))
        self.there_is(113, parent=112)
        self.there_is(114, session=JOB, zombie=True)
        self.exits()
        self.assertEqual([110, 111, 112, 113], self.left())

    def test_others(self) -> None:
        """What another job has, which runs, is the other's; and so is that job's own process."""
        self.a_job()
        self.a_job(OTHER, "other")
        self.there_is(110, session=JOB)
        self.there_is(210, session=OTHER)
        self.there_is(211, sign="other")
        self.exits()
        self.assertEqual([110], self.left())

    def test_number_given_away(self) -> None:
        """Another process with its number, and all in that one's session, are not its."""
        self.a_job()
        self.exits()
        self.now += 10
        self.there_is(JOB)
        self.there_is(110, parent=JOB, session=JOB)
        self.assertEqual([], self.left())

    def test_session_in_use(self) -> None:
        """As long as one of the session lives its number is given to nothing else: what is born in it later is its."""
        self.a_job()
        self.there_is(110, session=JOB)
        self.exits()
        self.now += 1000
        self.there_is(111, session=JOB)
        self.assertEqual([110, 111], self.left())
        del self.table[110]
        self.now += 1000
        self.there_is(112, session=JOB)
        self.assertEqual([111, 112], self.left())

    def test_gone_before_it_was_read(self) -> None:
        """What forks and exits may leave a successor that was not in the list: then new ones are looked for again."""

        def successor() -> bool:
            self.there_is(300 + self.looks, sign="job")
            return True

        self.a_job()
        self.exits()
        self.missed = [successor, successor]
        self.assertEqual([301, 302], self.left())
        self.assertEqual(3, self.looks)

    def test_read_at_once(self) -> None:
        """What one carries counts though it cannot be read any more a moment later."""

        def exits() -> bool:
            del self.carried[110]
            return False

        self.a_job()
        self.there_is(110, sign="job")
        self.exits()
        self.missed = [exits]
        self.assertEqual([110], self.left())

    def test_before_its_exit(self) -> None:
        """One that was killed and is not seen to exit: what it left already, without itself."""
        self.a_job()
        self.there_is(110, parent=JOB, session=JOB)
        self.assertEqual([110], self.left())

    def test_old_ones_are_not_read(self) -> None:
        """Of processes that are much older than the job nothing more is read than how they stand."""
        self.there_is(50)
        self.now += 100_000
        self.a_job()
        self.exits()
        self.left()
        self.assertNotIn(50, self.asked)

    def test_left(self) -> None:
        """After a job is over nothing of it is kept; a launch that failed leaves nothing either."""
        self.scan.leave(self.scan.expect("failed"))
        self.a_job()
        self.exits()
        self.scan.leave(JOB)
        self.scan.kill_everybody()
        self.failureResultOf(self.scan.of("job"))
