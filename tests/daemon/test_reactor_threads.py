"""The end of the reactor's threads; with real ones."""

from __future__ import annotations

import threading
import time

from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.reactor_threads import bound_join

LIMIT = 60.0
"""How long a hanging test waits."""

MANY = 40
"""Threads: to wait for each by itself takes far longer than a busy machine may."""


class BoundJoinTests(SynchronousTestCase):
    def test_stuck(self) -> None:
        """Threads that do not end are waited for so long at most, together; and no thread keeps the process alive."""
        pool = ThreadPool(0, MANY)
        bound_join(pool, 0.5)
        pool.start()
        disk_answers, begun = threading.Event(), threading.Barrier(MANY + 1)
        self.addCleanup(disk_answers.set)
        for _ in range(MANY):
            pool.callInThread(lambda: (begun.wait(LIMIT), disk_answers.wait(LIMIT)))
        begun.wait(LIMIT)
        self.assertEqual([True] * MANY, [thread.daemon for thread in pool.threads])
        before = time.monotonic()
        pool.stop()
        self.assertLess(time.monotonic() - before, MANY * 0.5)

    def test_work_is_done(self) -> None:
        """What was begun is waited for."""
        pool = ThreadPool(0, 1)
        bound_join(pool, 10.0)
        pool.start()
        may_end, done = threading.Event(), threading.Event()

        def work() -> None:
            may_end.wait(LIMIT)
            done.set()

        pool.callInThread(work)
        threading.Timer(0.05, may_end.set).start()
        pool.stop()
        self.assertTrue(done.is_set())
