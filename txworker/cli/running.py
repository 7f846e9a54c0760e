"""`txworker run`: a job that is tied to whoever started it."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import grpc

from txworker.cli import output
from txworker.cli.failures import UNREAD, Failed, failure
from txworker.cli.output import STDERR, STDOUT, CannotWrite
from txworker.cli.show import exit_status
from txworker.cli.starting import start_request
from txworker.cli.values import duration
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOP_SECONDS = 10.0
"""For the answer to a stop."""

_Ended = SimpleQueue[Exception | None]


def run(stub: WorkerStub, options: argparse.Namespace) -> int:
    """
    Start a job, copy its output, and end as it does.

    SIGINT, SIGTERM and SIGHUP stop it, a second one kills it; it is stopped, too, when its output cannot be written.
    """
    output.check_open()
    request = start_request(options)
    with _signals_noted() as asked:
        job_id = stub.StartJob(request, timeout=options.deadline).jobID
        threading.Thread(target=_stop_when_asked, args=(stub, job_id, asked), daemon=True).start()
        try:
            _follow(stub, job_id, options.separate_stderr)
            answer = stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=options.deadline)
        except CannotWrite as error:
            raise _given_up(stub, job_id, error) from error
        except grpc.RpcError as error:
            raise failure(error, options.addr, job_id) from error
    if answer.error:
        output.complain(f"job {job_id}: {answer.errorText}")
    return exit_status(answer.job)


def _follow(stub: WorkerStub, job_id: str, separate_stderr: bool) -> None:
    """Copy its output, and its stderr at the same time where that is separate; raises what the first to fail raises."""
    streams = [(False, STDOUT), (True, STDERR)] if separate_stderr else [(False, STDOUT)]
    ended = _Ended()
    for stderr, to in streams:
        messages = stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True, stderr=stderr))
        threading.Thread(target=_copy, args=(messages, to, ended), daemon=True).start()
    for _ in streams:
        if error := ended.get():
            raise error


def _copy(messages: Iterable[pb.StreamJobRes], to: int, ended: _Ended) -> None:
    try:
        output.copy(messages, to)
    except Exception as error:  # whatever it is, _follow raises it
        ended.put(error)
    else:
        ended.put(None)


def _given_up(stub: WorkerStub, job_id: str, error: CannotWrite) -> Failed:
    """Nobody sees what the job prints, so it is to end; how, we do not wait for."""
    status = UNREAD if error.reader_gone else error.status
    if broken := _stop(stub, job_id, None):
        return Failed(f"{error}; {broken}", status)
    return Failed(f"{error}; job {job_id} was told to end", status)


@contextmanager
def _signals_noted() -> Iterator[threading.Semaphore]:
    """While inside, the signals that stop a job only count up the semaphore; ignored ones (nohup) stay ignored."""
    asked = threading.Semaphore(0)
    heeded = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: asked.release()) for number in heeded}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_when_asked(stub: WorkerStub, job_id: str, asked: threading.Semaphore) -> None:
    for grace in (None, 0.0):
        asked.acquire()
        if broken := _stop(stub, job_id, grace):
            output.complain(broken)


def _stop(stub: WorkerStub, job_id: str, grace: float | None) -> str:
    """Empty, or why it could not be stopped."""
    try:
        stub.StopJob(pb.StopJobReq(jobID=job_id, grace=duration(grace)), timeout=_STOP_SECONDS)
    except grpc.RpcError as error:
        return f"stopping job {job_id}: {error.details()}"
    return ""
