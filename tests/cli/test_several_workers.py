"""`txworker watch` of several workers; tests/live/test_cli_workers.py has it with real ones."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.client.scripted_worker import LIMIT, ScriptedWorker, Silence, event, says
from txworker.cli import console, several_workers
from txworker.cli.parser import parse
from txworker.pb import worker_pb2 as pb


class SeveralWorkersTests(SynchronousTestCase):
    def test_interrupted(self) -> None:
        """Ctrl-C ends the calls to all workers, so that the program need not wait for its threads."""
        silences = [Silence(), Silence()]
        place = Path(self.mktemp())
        (place / "txworker").mkdir(parents=True)
        names = ""
        for number, silence in enumerate(silences):
            worker = ScriptedWorker()
            self.addCleanup(worker.close)
            worker.on("WatchJobs", says(event(str(number), pb.JOB_STATE_RUNNING), then=silence))
            names += f'[workers.w{number}]\naddr = "{worker.addr}"\n'
        (place / "txworker" / "client.toml").write_text(names)
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(place.absolute())}):
            options = parse(["watch", "--all-workers"])

        def interrupted(*_: str) -> None:
            for silence in silences:
                silence.began.wait(LIMIT)
            raise KeyboardInterrupt

        self.patch(console, "print_lines", interrupted)
        self.assertRaises(KeyboardInterrupt, several_workers.watch, options)
        for silence in silences:
            self.assertTrue(silence.ended.wait(LIMIT / 2))  # at LIMIT it ends by itself
