"""Ending a job of the shim, while no worker is there."""

from __future__ import annotations

import os
from signal import SIGCONT, SIGHUP, SIGTERM
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.shim.held_job import HeldJob
from txworker.shim.spawn_thread import Result

REQUEST: dict[str, Any] = {
    **{"job": "id", "ahead": 0.0, "timeout": None, "quiet": None, "grace": 1.0, "cgroup": None},
    **{"separate_stderr": False, "max_output": 0, "terminal": None, "feed": False},
}


class EndTests(SynchronousTestCase):
    def ended_by(self, **more: Any) -> list[int]:
        """The signals that a job gets when it is ended."""
        signals: list[int] = []
        self.patch(os, "killpg", lambda pid, number: signals.append(number))
        job = HeldJob(Result({**REQUEST, **more}, 77), {})
        job.end("timeout")
        self.assertIsNotNone(job.kill_at)
        return signals

    def test_term(self) -> None:
        """TERM, and CONT for a stopped process; a job with a terminal gets HUP first, because shells ignore TERM."""
        self.assertEqual([SIGTERM, SIGCONT], self.ended_by())
        self.assertEqual([SIGHUP, SIGTERM, SIGCONT], self.ended_by(terminal=[5, 9]))
