"""The far side of a client: a gRPC server that answers as the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import grpc

from txworker.jobs import errors
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import add_WorkerServicer_to_server
from txworker.rpc.wire.status import status_of

LIMIT = 10.0

STREAMS = ("StreamJob", "WatchJobs")
"""The methods with any number of answers."""

Step = Callable[[grpc.ServicerContext], Iterable[Any]]
"""What a call is answered with, message by message."""


def cut(context: grpc.ServicerContext) -> Iterator[Any]:
    """The connection breaks."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    yield  # makes this a generator


def says(*messages: Any, then: Step | None = None) -> Step:
    """These messages, and what comes after them: the end, if there is nothing else."""

    def step(context: grpc.ServicerContext) -> Iterator[Any]:
        rest = then(context) if then is not None else ()
        yield from messages
        yield from rest

    return step


def refuses(error: errors.TxWorkerError) -> Step:
    """The worker's error."""

    def step(context: grpc.ServicerContext) -> Iterator[Any]:
        context.abort_with_status(status_of(error))
        yield  # makes this a generator

    return step


class Silence:
    """Nothing comes, until the call ends or `over` is set; `began` and `ended` say what became of the call."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.over = threading.Event()
        self.ended = threading.Event()

    def __call__(self, context: grpc.ServicerContext) -> Iterator[Any]:
        if not context.add_callback(self._ended):  # it has ended already
            self._ended()
        return self._silence(context)

    def _silence(self, context: grpc.ServicerContext) -> Iterator[Any]:
        self.began.set()
        self.over.wait(LIMIT)
        if not self.ended.is_set():
            yield from cut(context)

    def _ended(self) -> None:
        self.ended.set()
        self.over.set()


def block(offset: int, data: bytes) -> pb.StreamJobRes:
    """Output of a job."""
    return pb.StreamJobRes(offset=offset, data=data)


def event(job_id: str, state: pb.JobState.ValueType, **more: Any) -> pb.JobEvent:
    """A job as it stands."""
    return pb.JobEvent(job=pb.Job(jobID=job_id, state=state, **more))


class ScriptedWorker:
    """
    Each call takes the next step of its method's list; when the list is empty the connection breaks.

    `requests` has what was asked, in order. A probe (ListJobs of one job) is answered by `probed`, and is neither a
    request nor a step.
    """

    def __init__(self) -> None:
        self.steps: dict[str, list[Step]] = {}
        self.requests: list[Any] = []
        self.probed: Step = says(pb.ListJobsRes())
        self._server = grpc.server(ThreadPoolExecutor(8))
        add_WorkerServicer_to_server(cast(Any, self), self._server)  # any method is one of its own
        self.addr = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self) -> None:
        """End it, and all calls."""
        self._server.stop(None).wait(LIMIT)

    def on(self, method: str, *steps: Step) -> None:
        """The next calls of that method."""
        self.steps.setdefault(method, []).extend(steps)

    def _next(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        copy = type(request)()
        copy.CopyFrom(request)
        self.requests.append(copy)
        steps = self.steps.get(method)
        return iter((steps.pop(0) if steps else cut)(context))

    def __getattr__(self, method: str) -> Any:
        if not method[0].isupper():
            raise AttributeError(method)
        return partial(self._streamed if method in STREAMS else self._answered, method)

    def _answered(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        if method == "FeedJob":  # what it is asked comes in its first message
            request = next(request)
        probe = method == "ListJobs" and request.pageSize == 1
        return next(iter(self.probed(context) if probe else self._next(method, request, context)))

    def _streamed(self, method: str, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self._next(method, request, context)
