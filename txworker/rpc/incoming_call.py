"""
A call as grpcio's server submits it to its executor; receives the call's message without a thread.

grpcio receives a call's message in the thread that serves the call, and that thread waits as long as the client likes.
No public interface changes that. So this module, and no other, uses private parts of grpcio (grpc/_server.py).
tests/rpc/test_incoming_call.py verifies that they are as expected. Where they are not, from_submit() recognizes no
call, and grpcio does what it always did.
"""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from typing import Any

import grpc

from txworker.rpc.threads import Work

_server: Any = importlib.import_module("grpc._server")
_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")

Refused = Callable[[str, str, float], None]

PRIVATE = ("_RPCState", "_RECEIVE_MESSAGE_TOKEN", "_CLOSED", "_receive_message", "_abort", "_is_rpc_state_active")
"""What is used of grpc._server, apart from the arguments that it submits."""

SUPPORTED = all(hasattr(_server, name) for name in PRIVATE) and hasattr(_cygrpc, "ReceiveMessageOperation")
"""This grpcio has the private parts that are needed."""


class IncomingCall:
    """
    One call, without its message. receive() asks for the message; once it has arrived, a thread does work().

    method: its full name. gRPC's own event lacks it for methods that are registered by name.
    streams: the client sends many messages, and the first one is awaited.
    size: the bytes of the message, once it has arrived.
    future: the one that grpcio waits for.
    """

    __slots__ = ("_arguments", "_came", "_event", "_refused", "_run", "_state", "future", "method", "size", "streams")

    def __init__(
        self, run: Callable[..., Any], arguments: Sequence[Any], method: str, streams: bool, refused: Refused
    ) -> None:
        self._run = run
        self._arguments = arguments
        self._event, self._state = arguments[1], arguments[2]
        self.method = method
        self.streams = streams
        self._refused = refused
        self._came = time.perf_counter()
        self.future: Future[Any] = Future()
        self.size = 0

    @classmethod
    def from_submit(
        cls,
        run: Callable[..., Any],
        arguments: Sequence[Any],
        method: str,
        streams: bool,
        refused: Refused = lambda *how: None,
    ) -> IncomingCall | None:
        """
        The call that run(*arguments) serves; None when grpcio is not known to submit such arguments.

        refused(method, code, seconds): called if the call is ended here, that many seconds after it came.
        """
        known = SUPPORTED and len(arguments) == 7 and isinstance(getattr(run, "__self__", None), Context)
        if known and isinstance(arguments[2], _server._RPCState):
            return cls(run, arguments, method, streams, refused)
        return None

    @property
    def peer(self) -> str:
        """Address and port of the client."""
        return str(self._event.call.peer().decode())

    @property
    def ended(self) -> bool:
        """The client has left, or has its answer."""
        return not _server._is_rpc_state_active(self._state)

    def receive(self, arrived: Callable[[IncomingCall], None]) -> bool:
        """
        Ask for the message. arrived(self) is called in gRPC's serving thread when it has arrived, or when the call
        ends.

        Any thread. False: the call has ended, and arrived() will not be called.
        """
        state, event = self._state, self._event
        with state.condition:
            if self.ended:
                return False
            received = _server._receive_message(state, event.call, self._arguments[5])

            def completed(batch: Any) -> Any:
                """gRPC's serving thread: the message has come, or the call has ended before."""
                message = batch.batch_operations[0].message()
                self.size = len(message) if message is not None else 0
                result = received(batch)
                arrived(self)
                return result

            event.call.start_server_batch((_cygrpc.ReceiveMessageOperation(0),), completed)
            state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
        return True

    def work(self) -> Work:
        """What serves the call with the message that has arrived."""
        *before, wait, deserializer, serializer = self._arguments
        take = (lambda: self._chained(wait())) if self.streams else self._message
        return self.future, self._run, (*before, take, deserializer, serializer), {}, self.size

    def drop(self) -> None:
        """The call has ended and is not served."""
        self.future.set_result(None)

    def refuse(self, status: grpc.Status) -> None:
        """End the call with that status, unless it has ended. Any thread."""
        state = self._state
        with state.condition:
            if self.ended:
                return
            state.code, state.trailing_metadata = status.code, status.trailing_metadata
            _server._abort(state, self._event.call, _cygrpc.StatusCode.unknown, str(status.details).encode())
        self._tell_refused(status.code)

    def _message(self) -> Any:
        """Replaces grpcio's function: None when the call is not to be served."""
        state = self._state
        with state.condition:
            message, state.request = state.request, None
            if self.ended:
                return None
            missing = message is None and state.client is _server._CLOSED
            if missing:
                details = f'"{self.method}" requires exactly one request message.'
                _server._abort(state, self._event.call, _cygrpc.StatusCode.unimplemented, details.encode())
        if missing:
            self._tell_refused(grpc.StatusCode.UNIMPLEMENTED)
        return message

    def _tell_refused(self, code: grpc.StatusCode) -> None:
        name = self.method.rpartition("/")[2]  # a known one: others have no handler
        self._refused(name, code.name, time.perf_counter() - self._came)

    def _chained(self, further: Any) -> Any:
        with self._state.condition:
            message, self._state.request = self._state.request, None
        return further if message is None else itertools.chain((message,), further)
