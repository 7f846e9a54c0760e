"""Every deadline is on a clock that does not jump."""

from __future__ import annotations

import subprocess
import sys
import time

from twisted.trial.unittest import SynchronousTestCase

from txworker.service import use_monotonic_clock

JUMP = """
import time
wall, off = time.time, [0]
time.time = lambda: wall() + off[0]  # before Twisted takes it
from twisted.internet import reactor
from txworker.service import use_monotonic_clock
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
        """The reactor counts as time.monotonic does; from then on callLater does too."""

        class Reactor:
            seconds = staticmethod(time.time)

        reactor = Reactor()
        use_monotonic_clock(reactor)
        self.assertIs(reactor.seconds, time.monotonic)

    def test_wall_clock_jumps(self) -> None:
        """Timers of a real reactor come when they are due, wherever the wall clock jumps."""
        ran = subprocess.run([sys.executable, "-c", JUMP], capture_output=True, text=True, timeout=60)
        self.assertEqual(("True\n", ""), (ran.stdout, ran.stderr))
