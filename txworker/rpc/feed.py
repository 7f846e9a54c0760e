"""
FeedJob: from the client's messages to a job's stdin, with back-pressure.

One thread waits for the end of the feeding, which the job may cause; another waits for the client's next message.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain

import grpc

from txworker.base.logs import Logger
from txworker.jobs.errors import InvalidRequest, OutOfResources
from txworker.pb import worker_pb2 as pb
from txworker.rpc.bridge import Bridge
from txworker.worker.feeder import Feeder
from txworker.worker.running_jobs import RunningJobs

MAX_DATA_BYTES = 1024 * 1024
"""The largest message: each stream holds one in memory while the pipe is full."""

_OPENING_SECONDS = 60.0


class FeedCall:
    """One call of FeedJob. gRPC threads."""

    _log = Logger()

    def __init__(self, running: RunningJobs, bridge: Bridge, context: grpc.ServicerContext) -> None:
        self._running = running
        self._bridge = bridge
        self._context = context

    def answer(self, requests: Iterator[pb.FeedJobReq]) -> pb.FeedJobRes:
        """
        Feed, and block, until the client has sent its last message or the stdin is closed.

        Raises:
            TxWorkerError: the job cannot be fed, or a message is wrong; what was handed over before reaches the job.
        """
        first = next(requests, pb.FeedJobReq())
        job_id = first.jobID
        if not job_id:
            raise InvalidRequest("jobID", job_id, "is no job's id")
        caller = self._bridge.caller(self._context)
        feeder = caller.call(lambda: self._running.feeder(job_id), _OPENING_SECONDS)
        try:
            self._start_reader(feeder, chain((first,), requests), job_id)
            del first
            caller.call(feeder.over)
            return pb.FeedJobRes(taken=feeder.taken, total=feeder.total)
        finally:
            self._bridge.call_queue.callFromThread(feeder.close)

    def _start_reader(self, feeder: Feeder, requests: Iterator[pb.FeedJobReq], job_id: str) -> None:
        try:
            threading.Thread(
                target=self._read, args=(feeder, requests, job_id), name="txworker-rpc-feed", daemon=True
            ).start()
        except RuntimeError as error:
            raise OutOfResources(f"no thread for the call can be created: {error}") from error

    def _read(self, feeder: Feeder, requests: Iterator[pb.FeedJobReq], job_id: str) -> None:
        problem: Exception | None = None
        try:
            self._feed_all(feeder, requests, job_id)
        except Exception as error:  # whatever it is, it is the call's, and the other thread raises it
            problem = error
        self._bridge.call_queue.callFromThread(feeder.finish, problem)

    def _feed_all(self, feeder: Feeder, requests: Iterator[pb.FeedJobReq], job_id: str) -> None:
        caller = self._bridge.caller(self._context)
        for request in requests:
            data, end = _checked(request, job_id)
            del request
            if not caller.call(lambda: feeder.feed(data, end)):  # noqa: B023  # it is called before the next one
                return


def _checked(request: pb.FeedJobReq, job_id: str) -> tuple[bytes, bool]:
    if request.jobID not in ("", job_id):
        raise InvalidRequest("jobID", request.jobID, "is not the one of the first message")
    if len(request.data) > MAX_DATA_BYTES:
        text = f"data: a message has {len(request.data)} bytes of it; {MAX_DATA_BYTES} at most are taken"
        raise OutOfResources(text, "REQUEST_TOO_LARGE")
    return request.data, request.end
