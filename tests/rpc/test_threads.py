"""The threads that RPCs run in. Real threads: there is nothing else to show."""

from __future__ import annotations

import threading

from twisted.trial.unittest import SynchronousTestCase

from txworker.rpc.threads import RpcThreads

LIMIT = 10.0


def count() -> int:
    return sum(thread.name == "txworker-rpc" for thread in threading.enumerate())


class RpcThreadsTests(SynchronousTestCase):
    def test_as_many_as_needed(self) -> None:
        """Work finds a thread at once up to the ceiling; what is above waits its turn and is done."""
        threads = RpcThreads(3, idle_seconds=0.05)
        gate, inside = threading.Event(), threading.Semaphore(0)

        def work(number: int) -> int:
            inside.release()
            gate.wait(LIMIT)
            return number

        futures = [threads.submit(work, number) for number in range(8)]
        for _ in range(3):
            self.assertTrue(inside.acquire(timeout=LIMIT))
        self.assertFalse(inside.acquire(blocking=False))
        gate.set()
        self.assertEqual(list(range(8)), [future.result(LIMIT) for future in futures])

    def test_idle_threads_end(self) -> None:
        """Threads that have nothing to do are given back; new work finds a new one."""
        threads = RpcThreads(4, idle_seconds=0.01)
        for _ in range(3):
            self.assertEqual(1, threads.submit(lambda: 1).result(LIMIT))
            for thread in threading.enumerate():
                if thread.name == "txworker-rpc":
                    thread.join(LIMIT)
        self.assertEqual(0, count())

    def test_failure_belongs_to_the_future(self) -> None:
        """What fails fails its own future, and the thread goes on."""
        threads = RpcThreads(1, idle_seconds=0.05)
        self.assertIsInstance(threads.submit(lambda: 1 / 0).exception(LIMIT), ZeroDivisionError)
        self.assertEqual(2, threads.submit(lambda: 2).result(LIMIT))
