"""Timers, durations and job times while the wall clock is set."""

from __future__ import annotations

import subprocess
import sys
import time

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from tests.support.fakes import worker_fixture
from tests.support.memory_store import MemoryStore
from txworker.daemon.clockwatch import ClockWatch
from txworker.daemon.service import use_monotonic_clock
from txworker.jobs import Exit, Exited, Job, JobSpec, Lost, Started, after

JUMP = """
import time
wall, off = time.time, [0]
time.time = lambda: wall() + off[0]  # before Twisted takes it
from twisted.internet import reactor
from txworker.daemon.service import use_monotonic_clock
use_monotonic_clock(reactor)
reactor.callLater(0.1, off.__setitem__, 0, -100_000)
reactor.callLater(0.2, off.__setitem__, 0, 100_000)
reactor.callLater(30, print, "jumped")
reactor.callLater(0.3, reactor.stop)
begun = time.monotonic()
reactor.run()
print(time.monotonic() - begun >= 0.3)
"""


class ClockTests(SynchronousTestCase):
    def test_monotonic(self) -> None:
        """The reactor's seconds() is time.monotonic, which callLater uses."""

        class Reactor:
            seconds = staticmethod(time.time)

        reactor = Reactor()
        use_monotonic_clock(reactor)
        self.assertIs(reactor.seconds, time.monotonic)

    def test_wall_clock_jumps(self) -> None:
        """A real reactor's timers fire when they are due, wherever the wall clock jumps."""
        ran = subprocess.run([sys.executable, "-c", JUMP], capture_output=True, text=True, timeout=60)
        self.assertEqual(("True\n", ""), (ran.stdout, ran.stderr))


class JumpTests(SynchronousTestCase):
    """The wall clock jumps by more than a year while jobs are started, run and end."""

    def setUp(self) -> None:
        self.wall = self.elapsed = 1_700_000_000.0
        self.store = MemoryStore()
        self.fixture = worker_fixture(store=self.store, wall=lambda: self.wall, elapsed=lambda: self.elapsed)

    def advance(self, seconds: float, jump: float = 0.0) -> None:
        self.elapsed += seconds
        self.wall += seconds + jump

    def test_while_it_runs(self) -> None:
        """A job's times differ by the elapsed time; only the next job's creation follows the wall clock."""
        for jump in (-400 * 86_400, 400 * 86_400):
            job = self.successResultOf(self.fixture.worker.submit(JobSpec("true")))
            self.assertEqual(self.wall, job.created_at)
            self.advance(7, jump)
            self.fixture.launcher.running[job.id].exit()
            done = self.fixture.catalog.get(job.id)
            self.assertEqual((job.created_at, job.created_at + 7), (done.started_at, done.finished_at))
            self.assertEqual(self.elapsed, done.ended_elapsed)

    def test_while_it_is_launched(self) -> None:
        """The start is later than the creation by as long as the launch took."""
        self.fixture.launcher.slow = launched = Deferred[None]()
        submitted = self.fixture.worker.submit(JobSpec("true"))
        self.advance(3, -400 * 86_400)
        launched.callback(None)
        job = self.successResultOf(submitted)
        self.assertEqual(job.created_at + 3, job.started_at)

    def test_lost(self) -> None:
        """A lost job never ends before it started, whatever the next worker's clock says."""
        started = self.successResultOf(self.fixture.worker.submit(JobSpec("true")))
        self.advance(5, -400 * 86_400)
        again = worker_fixture(store=self.store, wall=lambda: self.wall, elapsed=lambda: self.elapsed)
        again.take_over()
        lost = again.catalog.get(started.id)
        self.assertEqual((started.started_at, self.elapsed), (lost.finished_at, lost.ended_elapsed))

    def test_in_order(self) -> None:
        """A job's times are in order, whatever times the facts have."""
        pending = Job("job", JobSpec("true"), 100.0)
        running = after(pending, Started(50.0, 1), 2)
        self.assertEqual(100.0, running.started_at)
        self.assertEqual(100.0, after(running, Exited(60.0, Exit(0), 0), 3).finished_at)
        self.assertEqual(100.0, after(running, Lost(60.0, "lost", 0), 3).finished_at)
        self.assertEqual(100.0, after(pending, Lost(60.0, "lost", 0), 2).finished_at)


class ClockWatchTests(SynchronousTestCase):
    def test_told(self) -> None:
        """A step of the clock is logged once, with direction and size; slewing is not logged."""
        wall, elapsed = [1000.0], [1000.0]
        said: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            said.append(formatEvent(event))

        self.patch(ClockWatch, "_log", Logger(observer=observer))
        watch = ClockWatch(lambda: wall[0], lambda: elapsed[0], 0.0)
        for step, words in (
            (0.01, ""),
            (400 * 86_400, "ahead by 400.0 days."),
            (0, ""),
            (-10_000, "back by 2.8 hours."),
        ):
            wall[0] += 1 + step
            elapsed[0] += 1
            watch.look()
            self.assertEqual(bool(words), len(said) == 1, (step, said))
            self.assertIn(words, "".join(said))
            said.clear()
        ClockWatch(lambda: 0.0, lambda: 0.0, -7.0)
        self.assertIn("went back by 7 s while no worker ran here.", said[0])
