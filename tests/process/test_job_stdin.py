"""The stdin of a job that is fed, as the worker sees it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from txworker.process.job_stdin import JobStdin


def record(taken: int, busy: bool = False, is_open: bool = True) -> dict[str, Any]:
    """As Feeding.record() has it."""
    return {"taken": taken, "busy": busy, "open": is_open}


class JobStdinTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handed: list[tuple[bytes, bool]] = []
        self.problem: OSError | None = None
        self.stdin = JobStdin(self.hand_over, record(0))

    def hand_over(self, data: bytes, end: bool) -> None:
        if self.problem is not None:
            raise self.problem
        self.handed.append((data, end))

    def test_in_order(self) -> None:
        """A piece is handed over when the one before is in the pipe; each tells how much was taken of it."""
        first, second = self.stdin.feed(b"abc", False), self.stdin.feed(b"de", True)
        self.assertNoResult(first)
        self.assertEqual([(b"abc", False)], self.handed)
        self.stdin.fed(record(3))
        self.assertEqual(3, self.successResultOf(first))
        self.assertEqual([(b"abc", False), (b"de", True)], self.handed)
        self.stdin.fed(record(5, is_open=False))
        self.assertEqual(2, self.successResultOf(second))
        self.successResultOf(self.stdin.closed())

    def test_behind_the_request(self) -> None:
        """While the bytes of the request are not in the pipe, nothing is handed over."""
        self.stdin = JobStdin(self.hand_over, record(0, busy=True))
        waiting = self.stdin.feed(b"a", False)
        self.assertEqual([], self.handed)
        self.stdin.fed(record(0))
        self.assertEqual([(b"a", False)], self.handed)
        self.stdin.fed(record(1))
        self.assertEqual(1, self.successResultOf(waiting))

    def test_job_closes_it(self) -> None:
        """The piece under way says how much of it was taken, the next one that nothing was."""
        under_way, behind = self.stdin.feed(b"abc", False), self.stdin.feed(b"de", False)
        closed = self.stdin.closed()
        self.stdin.fed(record(2, is_open=False))
        self.assertEqual((2, 0, 2), (self.successResultOf(under_way), self.successResultOf(behind), self.stdin.taken))
        self.successResultOf(closed)
        self.assertEqual(0, self.successResultOf(self.stdin.feed(b"f", False)))

    def test_cancel(self) -> None:
        """Cancelling leaves what was handed over, and takes back what was not."""
        under_way, behind = self.stdin.feed(b"abc", False), self.stdin.feed(b"de", False)
        for waiting in (under_way, behind):
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
        self.assertEqual((3, [(b"abc", False)]), (self.stdin.taken, self.handed))
        self.stdin.fed(record(3))
        self.assertEqual(1, len(self.handed))

    def test_taken_over(self) -> None:
        """The next worker goes on where the last one was."""
        self.stdin = JobStdin(self.hand_over, record(7, busy=True))
        waiting = self.stdin.feed(b"ab", False)
        self.stdin.fed(record(7))
        self.stdin.fed(record(9))
        self.assertEqual((2, 9), (self.successResultOf(waiting), self.stdin.taken))

    def test_no_descriptor(self) -> None:
        """What cannot be handed over is not taken, and can be tried again."""
        self.problem = OSError(24, "Too many open files")
        self.failureResultOf(self.stdin.feed(b"abc", False), OSError)
        self.problem = None
        again = self.stdin.feed(b"abc", False)
        self.stdin.fed(record(3))
        self.assertEqual((3, 3), (self.successResultOf(again), self.stdin.taken))

    def test_refused(self) -> None:
        """What the shim has no descriptor for is not taken, and can be tried again."""
        refused = self.stdin.feed(b"abc", True)
        self.stdin.fed({**record(0), "refused": True})
        self.failureResultOf(refused, OSError)
        again = self.stdin.feed(b"abc", True)
        self.stdin.fed(record(3, is_open=False))
        self.assertEqual((3, 3), (self.successResultOf(again), self.stdin.taken))

    def test_job_over(self) -> None:
        """Whoever waits is told when the job is over."""
        waiting, closed = self.stdin.feed(b"abc", False), self.stdin.closed()
        self.stdin.close()
        self.successResultOf(waiting)
        self.successResultOf(closed)
