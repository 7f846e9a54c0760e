"""The calls of the blocking client: they wait for a worker that cannot be reached, and end when it is closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from txworker.client.connection import TLS, open_channel
from txworker.client.errors import Closed, WorkerError, error_of, passes
from txworker.client.outage import NO_LIMIT, Outage, TimeLimit, waiting_times
from txworker.client.parameters import check_callable
from txworker.client.requests import PROBE
from txworker.pb.worker_pb2_grpc import WorkerStub

T = TypeVar("T")


class Calls:
    """
    The calls of one Client, with the Client's parameters. stub has the methods. Any thread.

    Every method raises Closed once close() was called.
    """

    def __init__(
        self,
        addr: str,
        tls: TLS | None,
        patience: float,
        first_patience: float | None,
        deadline: float,
        tell: Callable[[str], None],
    ) -> None:
        self.patience, self._first_patience, self._deadline = waiting_times(patience, first_patience, deadline)
        check_callable("tell", tell)
        self._tell = tell
        self._closed = threading.Event()
        self._streams: set[Any] = set()
        self._lock = threading.Lock()
        self._channel = open_channel(grpc, addr, tls)
        self.stub = WorkerStub(self._channel)

    def close(self) -> None:
        """End all calls, in every thread, and close the connection. May be called again."""
        self._closed.set()
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        self._channel.close()

    def ask(self, what: str, method: Callable[..., T], request: Any) -> T:
        """
        The answer to a request, once there is a worker. what: names the request in sentences.

        Raises:
            WorkerError: the worker refuses, or cannot be reached for as long as the patience lasts.
        """
        outage = self.outage(what)
        outage.begin()
        while True:
            try:
                answer = self.call(method, request)
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                self._pause(outage.failed(self.error(error)))
            else:
                self.over(outage)
                return answer

    def ask_once(self, method: Callable[..., T], request: Any) -> T:
        """The answer to a request that must not be repeated. Raises WorkerError."""
        self.outage("")  # Closed
        try:
            return self.call(method, request)
        except grpc.RpcError as error:
            raise self.error(error) from error

    def call(self, method: Callable[..., T], request: Any) -> T:
        """The answer to one attempt, within the deadline. Raises grpc.RpcError."""
        return self._call(method, request, self._deadline)

    @contextmanager
    def open(self, method: Callable[..., Any], request: Any, timeout: float | None = None) -> Iterator[Any]:
        """A stream. It ends with the block, and close() can end it. Raises grpc.RpcError."""
        stream = self._call(method, request, timeout)
        with self._lock:
            self._streams.add(stream)
        try:
            if self._closed.is_set():
                raise Closed
            yield stream
        finally:
            stream.cancel()
            with self._lock:
                self._streams.discard(stream)

    def outage(self, what: str) -> Outage:
        """The retries of a call that begins now; `what` as in ask()."""
        if self._closed.is_set():
            raise Closed
        return Outage(what, self.patience, self._tell, time.monotonic, first_patience=self._first_patience)

    def over(self, outage: Outage) -> None:
        """The worker has answered."""
        self._first_patience = None
        outage.over()

    def error(self, error: grpc.RpcError) -> WorkerError:
        """The error to raise for gRPC's error of a call."""
        if self._closed.is_set():
            raise Closed
        return error_of(error)

    def reach(self, outage: Outage, failure: WorkerError, resuming: str, limit: TimeLimit = NO_LIMIT) -> None:
        """
        A stream failed: wait until the worker answers.

        Another request tells: a stream from which nothing comes may have been accepted or not. A refusal is an answer,
        too.

        Raises:
            WorkerError: the failure does not pass, or the worker cannot be reached for as long as the patience lasts.
        """
        while True:
            self._pause(limit.at_most(outage.failed(failure, resuming)))
            try:
                self._call(self.stub.ListJobs, PROBE, limit.at_most(self._deadline))
            except grpc.RpcError as error:
                failure = self.error(error)
                if passes(failure):
                    continue
            self._first_patience = None
            outage.answered()
            return

    def _call(self, method: Callable[..., T], request: Any, timeout: float | None) -> T:
        try:
            return method(request, timeout=timeout)
        except ValueError as error:
            if self._closed.is_set():  # gRPC raises it for a closed channel
                raise Closed from error
            raise

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise Closed
