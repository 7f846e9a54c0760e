"""
A call as grpcio's sync server hands it to its pool, and its message, which is taken here without a thread.

grpcio takes a call's message in the thread that is to serve the call, and waits there for as long as the client likes.
There is no public way around that, so what is private to grpcio (grpc/_server.py) is used here and nowhere else.
tests/rpc/test_incoming.py holds that it is as it was; where it is not, `of` knows no call and grpcio does as it always
did.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from typing import Any

import grpc

from txworker.rpc.threads import Work

_server: Any = importlib.import_module("grpc._server")
_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")

PRIVATE = ("_RPCState", "_RECEIVE_MESSAGE_TOKEN", "_CLOSED", "_receive_message", "_abort", "_is_rpc_state_active")
"""What is used of grpc._server beside the arguments that it gives to the pool."""

KNOWN = all(hasattr(_server, name) for name in PRIVATE) and hasattr(_cygrpc, "ReceiveMessageOperation")
"""This grpcio is built as the ones we know."""


class Incoming:
    """
    One call on its way; `size` is that of its message, once it has come. `streams`: the first of many.

    receive() asks for the message; when it has come, work() is for a thread to do. grpcio holds `future`.
    """

    __slots__ = ("_arguments", "_event", "_run", "_state", "future", "size", "streams")

    def __init__(self, run: Callable[..., Any], arguments: Sequence[Any], streams: bool) -> None:
        self._run = run
        self._arguments = arguments
        self._event, self._state = arguments[1], arguments[2]
        self.streams = streams
        self.future: Future[Any] = Future()
        self.size = 0

    @classmethod
    def of(cls, run: Callable[..., Any], arguments: Sequence[Any], streams: bool) -> Incoming | None:
        """
        The call that run(*arguments) serves, or None where that is nothing we know. `streams`: it sends many messages,
        of which the first one is meant here.
        """
        known = KNOWN and len(arguments) == 7 and isinstance(getattr(run, "__self__", None), Context)
        return cls(run, arguments, streams) if known and isinstance(arguments[2], _server._RPCState) else None

    @property
    def peer(self) -> str:
        """Address and port of its connection."""
        return str(self._event.call.peer().decode())

    @property
    def over(self) -> bool:
        """The client has left, or has been answered."""
        return not _server._is_rpc_state_active(self._state)

    def receive(self, come: Callable[[Incoming], None]) -> bool:
        """
        Ask for the message; come(self) is called in gRPC's serving thread when it is there, or never will be.

        Any thread. False: the call is over, and come will not be called.
        """
        state, event = self._state, self._event
        with state.condition:
            if self.over:
                return False
            received = _server._receive_message(state, event.call, self._arguments[5])

            def tag(batch: Any) -> Any:
                message = batch.batch_operations[0].message()
                self.size = len(message) if message is not None else 0
                of_grpc = received(batch)
                come(self)
                return of_grpc

            event.call.start_server_batch((_cygrpc.ReceiveMessageOperation(0),), tag)
            state.due.add(_server._RECEIVE_MESSAGE_TOKEN)
        return True

    def work(self) -> Work:
        """To serve the call, with the message at hand."""
        *before, wait, deserializer, serializer = self._arguments
        take = (lambda: self._first_of(wait())) if self.streams else self._message
        return self.future, self._run, (*before, take, deserializer, serializer), {}

    def drop(self) -> None:
        """It is over, and there is nothing to serve."""
        self.future.set_result(None)

    def refuse(self, status: grpc.Status) -> None:
        """End the call with that, unless it is over. Any thread."""
        state = self._state
        with state.condition:
            if self.over:
                return
            state.code, state.trailing_metadata = status.code, status.trailing_metadata
            _server._abort(state, self._event.call, _cygrpc.StatusCode.unknown, str(status.details).encode())

    def _message(self) -> Any:
        """As grpcio's own: None when there is nothing to serve."""
        state = self._state
        with state.condition:
            message, state.request = state.request, None
            if self.over:
                return None
            if message is None and state.client is _server._CLOSED:
                method = self._event.call_details.method.decode()
                details = f'"{method}" requires exactly one request message.'
                _server._abort(state, self._event.call, _cygrpc.StatusCode.unimplemented, details.encode())
            return message

    def _first_of(self, further: Any) -> Any:
        with self._state.condition:
            message, self._state.request = self._state.request, None
        return further if message is None else itertools.chain((message,), further)
