"""`txworker run`: starts a job, copies its output, and stops it when the program is interrupted."""

from __future__ import annotations

import argparse
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from txworker.base.standard_streams import STDERR, STDOUT
from txworker.cli import console
from txworker.cli.attached_terminal import AttachedTerminal
from txworker.cli.connect import connect, with_tls
from txworker.cli.console import CannotWrite
from txworker.cli.failures import INTERRUPTED, READER_GONE, Failed, run_failure
from txworker.cli.forwarded_stdin import ForwardedStdin, forwarded_stdin
from txworker.cli.local_terminal import size
from txworker.cli.shell_hint import shell_hint
from txworker.cli.start_command import Start, print_started, run_stdin, what_to_start, with_hint, with_terminal
from txworker.client import Client, Closed, JobResult, NoSuchExecutable, NoSuchJob, OutOfResources, WorkerError

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_POLL_SECONDS = 1.0
_WAIT_SECONDS = 0.2
_UNANSWERED_SECONDS = 2.0
"""How long after a signal the answer to the start or the stop is still waited for, so that the job does not run on."""

_GRACES = (None, 0.0)
"""The first signal stops the job, the second kills it, the third leaves it to itself."""


@dataclass(frozen=True)
class _Signalled:
    """A signal asks for the end of the job."""


@dataclass(frozen=True)
class _Started:
    job_id: str


@dataclass(frozen=True)
class _Left:
    """The user has left the job to itself (`~.`)."""


@dataclass(frozen=True)
class _Copied:
    """One of the job's streams was copied to its end."""


@dataclass(frozen=True)
class _Ended:
    result: JobResult


@dataclass(frozen=True)
class _StopAnswered:
    """The job was told to end because its output cannot be written; sentence: with what result."""

    sentence: str


_Event = _Signalled | _Started | _Left | _Copied | _Ended | _StopAnswered | Exception
_Events = SimpleQueue[_Event]  # put() may be called by a signal handler


def run(client: Client, options: argparse.Namespace) -> int:
    """
    Start a job, copy its output, and return its exit status.

    SIGINT, SIGTERM, SIGHUP and SIGQUIT stop the job, a second one kills it; where the worker does not answer the start,
    the program ends soon after the first. The job is also stopped when its output cannot be written. With --tty the
    job's terminal is connected to ours. With --detach print its id, and leave it to itself. With --lease the worker
    stops it when this program has been gone for that long.
    """
    console.check_open()
    if options.detach:
        what = what_to_start(options, b"" if options.tty else run_stdin(options.stdin))
        what = with_terminal(what, size()) if options.tty else what
        try:
            print_started(options, what.send(client))
        except WorkerError as error:
            raise _failure(error, options) from error
        return 0
    stdin = ForwardedStdin() if options.tty else forwarded_stdin(options.stdin)
    what = what_to_start(options, stdin.in_request)
    what.details["feed"] = stdin.fd is not None
    # a silent one: the follower of the output reports lost connections
    with connect(options, tell=lambda _: None, reached=True) as silent:
        result = _Run(client, silent, options, stdin).result(what)
    if result.error_text and not result.ok:
        console.print_error(f"job {result.id}: {result.error_text}")
    if result.exit_code and (hint := shell_hint(options.argv, not_found=False)):
        console.print_error(hint)
    return result.exit_status


def _failure(error: WorkerError, options: argparse.Namespace, job_id: str = "") -> Failed:
    failed = run_failure(error, options.addr, job_id, with_tls(options))
    return with_hint(failed, options) if isinstance(error, NoSuchExecutable) else failed


class _Run:
    """
    One run. Its threads and the signal handlers put events into a queue, and the main thread acts on them.

    The end of the job is watched for while its output is copied: a worker that shuts down reports how its jobs end, but
    answers no later call.
    """

    def __init__(self, client: Client, silent: Client, options: argparse.Namespace, stdin: ForwardedStdin) -> None:
        self._stdin = stdin
        self._client = client
        self._silent = silent
        self._options = options
        self._events = _Events()
        self._job_id = ""
        self._signals = 0
        self._give_up = math.inf
        self._terminal = (
            AttachedTerminal(silent, lambda: self._events.put(_Left()), self._events.put) if options.tty else None
        )
        self._to_copy = [(False, STDOUT), (True, STDERR)] if options.separate_stderr else [(False, STDOUT)]

    def result(self, what: Start) -> JobResult:
        """
        Start the job; returns how it ended, once all of its output was copied.

        Raises:
            Failed: it could not be started, its end or its output could not be learned, or the user has left it.
        """
        try:
            return self._result(what if self._terminal is None else with_terminal(what, self._terminal.size))
        finally:
            self._stdin.stop()
            if self._terminal is not None:
                self._terminal.close()

    def _result(self, what: Start) -> JobResult:
        with _handled_signals(lambda: self._events.put(_Signalled())):
            self._in_thread(lambda: _Started(what.send(self._client)))
            copying, ended = len(self._to_copy), None
            while copying or ended is None:
                match self._next_event():
                    case _Signalled():
                        self._signalled()
                    case _Started(job_id):
                        self._started(job_id)
                    case _Left():
                        raise Failed(f"job {self._job_id} is left to itself, and runs on", 0)
                    case _Copied():
                        copying -= 1
                    case _Ended(result):
                        ended = result
                    case CannotWrite() as error:
                        raise self._stop_unread(error) from error
                    case WorkerError() as error:
                        raise _failure(error, self._options, self._job_id) from error
                    case Exception() as error:
                        raise error
        return ended

    def _next_event(self) -> _Event:
        """
        Python calls a signal's handler between two of the main thread's instructions. A signal that comes just before
        the thread begins to wait does not end the wait, so this one ends now and then by itself.

        Raises:
            Failed: the run is to end, and the worker has not answered the start, or the stop of an unread job.
        """
        while True:
            with suppress(Empty):
                return self._events.get(timeout=_WAIT_SECONDS)
            if time.monotonic() >= self._give_up:
                what = f"job {self._job_id} was told to end" if self._job_id else "the job was started"
                raise Failed(f"interrupted; the worker has not answered whether {what}", INTERRUPTED)

    def _started(self, job_id: str) -> None:
        self._job_id = job_id
        self._give_up = math.inf
        self._in_thread(self._end)
        for stderr, to in self._to_copy:
            self._in_thread(partial(self._copy, stderr, to))
        if self._terminal is not None:
            self._terminal.attach(job_id)
        else:
            threading.Thread(target=self._feed, daemon=True).start()
        for grace in _GRACES[: self._signals]:
            self._stop(grace)

    def _signalled(self) -> None:
        self._signals += 1
        if self._signals > len(_GRACES):
            what = f"job {self._job_id} is left to itself" if self._job_id else "whether it was started is not known"
            raise Failed(f"interrupted {self._signals} times: {what}", INTERRUPTED)
        if self._job_id:
            self._stop(_GRACES[self._signals - 1])
        else:
            self._give_up_soon()

    def _give_up_soon(self) -> None:
        self._give_up = min(self._give_up, time.monotonic() + _UNANSWERED_SECONDS)

    def _copy(self, stderr: bool, to: int) -> _Copied:
        console.copy(self._output(stderr), to)
        return _Copied()

    def _output(self, stderr: bool) -> Iterator[bytes]:
        """What the job prints. A worker that has no room for the stream is asked again, as long as it takes."""
        position, told = 0, False
        while True:
            try:
                for piece in self._client.follow(self._job_id, position, stderr=stderr):
                    position += len(piece)
                    yield piece
                return
            except OutOfResources as error:
                if not told:
                    console.print_error(f"following job {self._job_id}: {error}; trying again until there is room")
                told = True
            time.sleep(_POLL_SECONDS)

    def _feed(self) -> None:
        """If its input cannot be sent, the job is stopped: it may wait for it for ever."""
        try:
            self._stdin.feed(self._silent, self._job_id)
        except WorkerError as error:
            console.print_error(f"feeding job {self._job_id}: {error}; the job is stopped")
            self._stop(None)

    def _end(self) -> _Ended:
        with self._client.renewing(self._job_id, self._options.lease):
            try:
                return _Ended(self._silent.wait(self._job_id))
            except OutOfResources:  # the worker has no thread left for the watch
                while not isinstance(record := self._silent.get(self._job_id), JobResult):
                    time.sleep(_POLL_SECONDS)
                return _Ended(record)

    def _stop(self, grace: float | None) -> None:
        """Stop the job in a thread of its own; an error is printed."""

        def stop_and_report() -> None:
            try:
                self._silent.stop(self._job_id, grace)
            except (Closed, NoSuchJob):  # this program ends, or the job is done and retention has removed it
                return
            except WorkerError as error:
                console.print_error(f"stopping job {self._job_id}: {error}")

        threading.Thread(target=stop_and_report, daemon=True).start()

    def _stop_unread(self, error: CannotWrite) -> Failed:
        """Stop the job, because its output cannot be written; do not wait for its end. Raises as _next_event()."""
        self._in_thread(self._told_to_end)
        while True:
            match self._next_event():
                case _Signalled():
                    self._give_up_soon()
                case _StopAnswered(sentence):
                    return Failed(f"{error}; {sentence}", READER_GONE if error.reader_gone else error.status)

    def _told_to_end(self) -> _StopAnswered:
        try:
            self._silent.stop(self._job_id)
        except WorkerError as error:
            return _StopAnswered(f"stopping job {self._job_id}: {error}")
        return _StopAnswered(f"job {self._job_id} was told to end")

    def _in_thread(self, work: Callable[[], _Event]) -> None:
        """What the work returns or raises is an event."""

        def put_outcome() -> None:
            try:
                self._events.put(work())
            except Exception as error:  # any error: the main thread raises it
                self._events.put(error)

        threading.Thread(target=put_outcome, daemon=True).start()


@contextmanager
def _handled_signals(handle: Callable[[], None]) -> Iterator[None]:
    """Inside the block each signal that stops a job is handled so; ignored signals (nohup) stay ignored."""
    handled = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: handle()) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
