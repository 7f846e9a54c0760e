"""`txworker run`: starts a job, copies its output, and stops it when the program is interrupted."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import grpc

from txworker.cli import console
from txworker.cli.console import STDERR, STDOUT, CannotWrite
from txworker.cli.failures import READER_GONE, Failed, failure
from txworker.cli.formatting import exit_status
from txworker.cli.start_command import start_request
from txworker.cli.values import duration
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_SECONDS = 10.0
"""The deadline of a StopJob call."""

_Results = SimpleQueue[Exception | None]


def run(stub: WorkerStub, options: argparse.Namespace) -> int:
    """
    Start a job, copy its output, and return its exit status.

    SIGINT, SIGTERM and SIGHUP stop the job, a second one kills it. It is also stopped when its output cannot be
    written.
    """
    console.check_open()
    request = start_request(options)
    with _counted_signals() as signals:
        job_id = stub.StartJob(request, timeout=options.deadline).jobID
        threading.Thread(target=_stop_on_signals, args=(stub, job_id, signals), daemon=True).start()
        try:
            _follow(stub, job_id, options.separate_stderr)
            answer = stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=options.deadline)
        except CannotWrite as error:
            raise _stop_unread(stub, job_id, error) from error
        except grpc.RpcError as error:
            raise failure(error, options.addr, job_id) from error
    if answer.error:
        console.print_error(f"job {job_id}: {answer.errorText}")
    return exit_status(answer.job)


def _follow(stub: WorkerStub, job_id: str, separate_stderr: bool) -> None:
    """Copy the output, and a separate stderr at the same time; raises the first error of either."""
    streams = [(False, STDOUT), (True, STDERR)] if separate_stderr else [(False, STDOUT)]
    results = _Results()
    for stderr, to in streams:
        messages = stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True, stderr=stderr))
        threading.Thread(target=_copy, args=(messages, to, results), daemon=True).start()
    for _ in streams:
        if error := results.get():
            raise error


def _copy(messages: Iterable[pb.StreamJobRes], to: int, results: _Results) -> None:
    try:
        console.copy(messages, to)
    except Exception as error:  # any error: _follow() raises it in the main thread
        results.put(error)
    else:
        results.put(None)


def _stop_unread(stub: WorkerStub, job_id: str, error: CannotWrite) -> Failed:
    """Stop the job, because its output cannot be written; do not wait for its end."""
    status = READER_GONE if error.reader_gone else error.status
    if problem := _stop(stub, job_id, None):
        return Failed(f"{error}; {problem}", status)
    return Failed(f"{error}; job {job_id} was told to end", status)


@contextmanager
def _counted_signals() -> Iterator[threading.Semaphore]:
    """Inside the block each signal that stops a job releases the semaphore; ignored signals (nohup) stay ignored."""
    signals = threading.Semaphore(0)
    handled = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: signals.release()) for number in handled}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_on_signals(stub: WorkerStub, job_id: str, signals: threading.Semaphore) -> None:
    for grace in (None, 0.0):
        signals.acquire()
        if problem := _stop(stub, job_id, grace):
            console.print_error(problem)


def _stop(stub: WorkerStub, job_id: str, grace: float | None) -> str:
    """Stop the job; why that failed, or ""."""
    try:
        stub.StopJob(pb.StopJobReq(jobID=job_id, grace=duration(grace)), timeout=_STOP_SECONDS)
    except grpc.RpcError as error:
        return f"stopping job {job_id}: {error.details()}"
    return ""
