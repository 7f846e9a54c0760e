"""Feeds a job's stdin for the blocking client: one thread reads the source, another one makes the calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc

from txworker.client.calls import Calls
from txworker.client.errors import Closed, JobNotRunning
from txworker.client.feeding import Patience, Source, Unacknowledged, pieces
from txworker.pb import worker_pb2 as pb


class FeedCalls:
    """The calls of one feeding."""

    def __init__(self, calls: Calls, job_id: str) -> None:
        self._calls = calls
        self._question = pb.FeedJobReq(jobID=job_id)
        self._outage = calls.outage(f"feeding job {job_id}")
        self._patience = Patience(calls.patience)

    def total(self) -> int:
        """Ask the worker how much it has taken in all, by a call without data."""
        answer: pb.FeedJobRes = self._calls.call(self._calls.stub.FeedJob, iter([self._question]))
        self._calls.over(self._outage)
        return answer.total

    def open(self, messages: Iterator[pb.FeedJobReq]) -> AbstractContextManager[Any]:
        """Begin a call that sends these messages; it is cancelled at the end of the block."""
        return self._calls.open(self._calls.stub.FeedJob.future, messages)

    def failed(self, error: grpc.RpcError, feeding: Unacknowledged) -> bool:
        """Wait until the worker answers; False: the job is done."""
        failure = self._patience.failure(self._calls.error(error), feeding.begun, time.monotonic())
        if feeding.begun and isinstance(failure, JobNotRunning):
            return False
        self._calls.reach(self._outage, failure, f"at byte {feeding.taken}")
        return True


class FeedThread:
    """One feeding. run() is for the thread that reads the source."""

    def __init__(self, feeding: Unacknowledged, calls: FeedCalls) -> None:
        self._feeding = feeding
        self._calls = calls
        self._changed = threading.Condition()
        self._over = False
        self._error: BaseException | None = None
        self._number = 0
        self._cancel: Callable[[], object] = lambda: None

    def run(self, source: Source) -> int:
        """Feed the whole source; returns how many bytes were taken. Raises what the source raises, and WorkerError."""
        threading.Thread(target=self._call_all, name="txworker-feed", daemon=True).start()
        try:
            if self._accepted():
                for piece in pieces(source):
                    if not self._put(piece):
                        break
            with self._changed:
                self._feeding.no_more()
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._over)
        finally:
            self._end()
        if self._error is not None:
            raise self._error
        return self._feeding.taken

    def _accepted(self) -> bool:
        """Wait until the worker has accepted the feeding; False: it was refused, and nothing of the source is read."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._feeding.begun)
            return not self._over

    def _put(self, data: bytes) -> bool:
        """Wait for room, and add the bytes; False: the feeding is over, and they were not added."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not self._feeding.full)
            if not self._over:
                self._feeding.add(data)
                self._changed.notify_all()
            return not self._over

    def _end(self, error: BaseException | None = None) -> None:
        """Only the first call counts."""
        with self._changed:
            if not self._over:
                self._over, self._error = True, error
            self._changed.notify_all()
        self._cancel()

    def _call_all(self) -> None:
        try:
            self._call_until_over()
        except BaseException as error:
            self._end(error)
        else:
            self._end()

    def _call_until_over(self) -> None:
        known = False
        while True:
            try:
                if not known:
                    total = self._calls.total()
                    with self._changed:
                        self._feeding.resume(total)
                        self._number += 1
                        self._changed.notify_all()
                known = False
                total = self._call()
                known = True
                if not self._answered(total):
                    return
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                if not self._calls.failed(error, self._feeding):
                    return

    def _call(self) -> int:
        with self._changed:
            self._number += 1
            messages = self._messages(self._number)
        with self._calls.open(messages) as call:
            self._cancel = call.cancel
            try:
                answer: pb.FeedJobRes = call.result()
            except grpc.FutureCancelledError as error:
                raise Closed from error
            return answer.total

    def _answered(self, total: int) -> bool:
        with self._changed:
            self._number += 1
            more = self._feeding.answered(total)
            self._changed.notify_all()
            return more

    def _messages(self, number: int) -> Iterator[pb.FeedJobReq]:
        """The messages of one call. gRPC's thread waits in it for bytes, until the call is over."""
        yield pb.FeedJobReq(jobID=self._feeding.job_id)
        while True:
            with self._changed:
                if self._over or number != self._number or self._feeding.complete():
                    return
                message = self._feeding.message()
                if message is None:
                    self._changed.wait()
                    continue
            yield message
