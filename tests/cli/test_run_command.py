"""`txworker run` against a worker that answers as the test says; tests/live has it with real jobs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import grpc
from twisted.trial.unittest import SynchronousTestCase

from tests.client.scripted_worker import LIMIT, ScriptedWorker, Silence, block, cut, event, refuses, says
from txworker.base.standard_streams import STDOUT
from txworker.cli import connect as connect_module
from txworker.cli import console, run_command
from txworker.cli.connect import connect
from txworker.cli.console import CannotWrite
from txworker.cli.failures import INTERRUPTED, NOT_RUN, Failed
from txworker.cli.parser import parse
from txworker.cli.run_command import run
from txworker.jobs import errors
from txworker.pb import worker_pb2 as pb

NO_ROOM = errors.OutOfResources("no further stream", "MAX_STREAMS")
DONE = event("j", pb.JOB_STATE_SUCCEEDED)


class RunTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.worker = ScriptedWorker()
        self.addCleanup(self.worker.close)
        self.worker.on("StartJob", says(pb.StartJobRes(jobID="j")))
        self.said: list[str] = []
        self.patch(console, "print_error", self.said.append)
        self.patch(run_command, "_POLL_SECONDS", 0.01)
        self.patch(run_command, "_UNANSWERED_SECONDS", 0.01)

    def status(self, *words: str, copied: Exception | None = None) -> int:
        """The exit status of a run, of which nothing is printed; copied: what the attempt raises."""
        options = parse(["--addr", self.worker.addr, "run", "--stdin", "/dev/null", *words, "true"])

        def copy(pieces: Iterable[bytes], _: int) -> None:
            list(pieces)
            if copied is not None:
                raise copied

        with connect(options) as client, mock.patch.object(console, "copy", copy):
            return run(client, options)

    def test_no_room(self) -> None:
        """A worker that has no room for the stream is asked again, from where the output was; it is told once."""
        refused = refuses(NO_ROOM)
        self.worker.on("StreamJob", refused, refused, says(block(0, b"ab"), then=refused), says(block(2, b"cd")))
        self.worker.on("WatchJobs", says(DONE))
        self.assertEqual(0, self.status())
        asked = [request.offset for request in self.worker.requests if isinstance(request, pb.StreamJobReq)]
        self.assertEqual([0, 0, 0, 2], asked)
        self.assertEqual(["following job j: no further stream; trying again until there is room"], self.said)

    def test_refused_output(self) -> None:
        """When the output is refused, the job runs on, and the error names it."""
        self.worker.on("StreamJob", refuses(errors.OutputGone("j", "deleted")))
        error = self.assertRaises(Failed, self.status)
        self.assertEqual(NOT_RUN, error.status)
        self.assertRegex(str(error), r"\(DATA_LOSS\); `txworker query j` tells what became of job j$")

    def test_refused_input(self) -> None:
        """When its input is refused, the job is stopped: it may wait for it for ever."""
        path = Path(self.mktemp())
        path.write_bytes(bytes(2 * 1024 * 1024))  # more than goes with the start
        stopped = threading.Event()

        def stop(_: grpc.ServicerContext) -> list[pb.StopJobRes]:
            stopped.set()
            return [pb.StopJobRes()]

        def until_stopped(_: grpc.ServicerContext) -> list[pb.JobEvent]:
            return [DONE] if stopped.wait(LIMIT) else []

        self.worker.on("FeedJob", refuses(errors.NotFed("j")))
        self.worker.on("StopJob", stop)
        self.worker.on("StreamJob", says())
        self.worker.on("WatchJobs", until_stopped)
        self.assertEqual(0, self.status("--stdin", str(path)))
        self.assertRegex(self.said[0], "^feeding job j: .*; the job is stopped$")

    def test_interrupted_while_stopping(self) -> None:
        """A job whose output cannot be written is told to end; a signal ends the wait for the worker meanwhile."""
        self.worker.on("StreamJob", says(block(0, b"ab")))
        self.worker.on("WatchJobs", Silence())

        def stop(_: grpc.ServicerContext) -> list[pb.StopJobRes]:
            os.kill(os.getpid(), signal.SIGINT)
            return list(Silence()(_))

        self.worker.on("StopJob", stop)
        error = self.assertRaises(Failed, self.status, copied=CannotWrite(STDOUT, BrokenPipeError()))
        self.assertEqual(INTERRUPTED, error.status)
        self.assertEqual("interrupted; the worker has not answered whether job j was told to end", str(error))

    def test_first_patience(self) -> None:
        """Once the start was answered, the worker is waited for with all patience, by every call."""
        self.patch(connect_module, "FIRST_PATIENCE_SECONDS", 0.1)
        answers = iter([cut] * 4)
        self.worker.probed = lambda context: next(answers, says(pb.ListJobsRes()))(context)
        self.worker.on("StreamJob", says(block(0, b"ab")))
        self.worker.on("WatchJobs", cut, says(DONE))
        self.assertEqual(0, self.status())
