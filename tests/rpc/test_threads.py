"""RpcThreads, with real threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextvars import Context
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import wait_until
from txworker.rpc.threads import IS_START, MAX_WAITING, MAX_WAITING_BYTES, RpcThreads

LIMIT = 10.0


def count() -> int:
    return sum(thread.name == "txworker-rpc" for thread in threading.enumerate())


def a_start() -> Context:
    """The context of a StartJob call."""
    context = Context()
    context.run(IS_START.set, True)
    return context


def all_over() -> None:
    """Wait until the idle threads have ended."""
    for thread in threading.enumerate():
        if thread.name == "txworker-rpc":
            thread.join(LIMIT)


class RpcThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        all_over()

    def test_as_many_as_needed(self) -> None:
        """Work gets a thread at once up to max_threads; further work waits for one."""
        threads = RpcThreads(3, 3, idle_seconds=0.05)
        gate, inside = threading.Event(), threading.Semaphore(0)

        def work(number: int) -> int:
            inside.release()
            gate.wait(LIMIT)
            return number

        futures = [threads.submit(work, number) for number in range(8)]
        for _ in range(3):
            self.assertTrue(inside.acquire(timeout=LIMIT))
        self.assertEqual(3, count())
        gate.set()
        self.assertEqual(list(range(8)), [future.result(LIMIT) for future in futures])

    def test_idle_threads_end(self) -> None:
        """Idle threads end; later work gets a new one."""
        threads = RpcThreads(4, 4, idle_seconds=0.01)
        for _ in range(3):
            self.assertEqual(1, threads.submit(lambda: 1).result(LIMIT))
            all_over()
        self.assertEqual(0, count())

    def test_failure_belongs_to_the_future(self) -> None:
        """An exception fails its own future, and the thread goes on."""
        threads = RpcThreads(1, 1, idle_seconds=0.05)
        self.assertIsInstance(threads.submit(lambda: 1 / 0).exception(LIMIT), ZeroDivisionError)
        self.assertEqual(2, threads.submit(lambda: 2).result(LIMIT))

    def test_starts(self) -> None:
        """StartJob calls hold max_starts threads at most. Other calls overtake them, and each has its turn."""
        threads = RpcThreads(4, 2, idle_seconds=0.05)
        gate, inside = threading.Event(), threading.Semaphore(0)

        def work(number: int) -> int:
            inside.release()
            gate.wait(LIMIT)
            return number

        starts: list[Future[int]] = [threads.submit(a_start().run, work, number) for number in range(5)]
        for _ in range(2):
            self.assertTrue(inside.acquire(timeout=LIMIT))
        for context in (Context(), Context()):
            self.assertEqual(7, threads.submit(context.run, lambda: 7).result(LIMIT))
        self.assertFalse(inside.acquire(blocking=False))
        gate.set()
        self.assertEqual(list(range(5)), [start.result(LIMIT) for start in starts])

    def test_too_many(self) -> None:
        """StartJob and other calls beyond a number, or a size of their messages, are not taken, each kind by itself."""
        threads = RpcThreads(1, 1, idle_seconds=0.05)
        gate = threading.Event()
        self.addCleanup(gate.set)
        threads.submit(gate.wait, LIMIT)

        def taken(size: int, context: Context) -> bool:
            return threads.take((Future(), context.run, (gate.wait, LIMIT), {}, size))

        for context in (Context, a_start):
            self.assertTrue(taken(MAX_WAITING_BYTES - 10, context()))
            self.assertFalse(taken(11, context()))
            for _ in range(MAX_WAITING - 1):
                self.assertTrue(taken(0, context()))
            self.assertFalse(taken(0, context()))
        self.assertEqual(2 * MAX_WAITING, threads.waiting)
        ours = threads.submit(lambda: 7)
        gate.set()
        self.assertEqual(7, ours.result(LIMIT))
        wait_until(lambda: not threads.waiting)
        self.assertTrue(taken(MAX_WAITING_BYTES, Context()))

    def test_first_threads(self) -> None:
        """min_threads threads exist from the beginning and stay."""
        threads = RpcThreads(4, 4, min_threads=2, idle_seconds=0.01)
        self.addCleanup(setattr, threads, "_min_threads", 0)
        self.assertEqual(2, count())
        gate = threading.Event()
        futures = [threads.submit(gate.wait, LIMIT) for _ in range(4)]
        gate.set()
        for future in futures:
            self.assertTrue(future.result(LIMIT))
        wait_until(lambda: count() <= 2)
        for thread in threading.enumerate():
            if thread.name == "txworker-rpc":
                thread.join(0.05)  # five times as long as an idle one stays
        self.assertEqual(2, count())

    def test_no_thread_to_be_had(self) -> None:
        """When the machine has no thread left, work waits for the existing ones; later a thread is created again."""
        threads = RpcThreads(4, 4, min_threads=1, idle_seconds=0.05)
        self.addCleanup(setattr, threads, "_min_threads", 0)
        gate, inside = threading.Event(), threading.Event()

        def first() -> int:
            inside.set()
            gate.wait(LIMIT)
            return 1

        futures = [threads.submit(first)]
        self.assertTrue(inside.wait(LIMIT))
        with patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread")):
            futures += [threads.submit(lambda: 2), threads.submit(a_start().run, lambda: 3)]
        self.assertEqual(4, threads.submit(lambda: 4).result(LIMIT))
        gate.set()
        self.assertEqual([1, 2, 3], [future.result(LIMIT) for future in futures])
