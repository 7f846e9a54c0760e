"""The private parts of grpcio that txworker uses are as expected."""

from __future__ import annotations

import inspect
from contextvars import Context
from typing import Any

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # neither is public
from twisted.trial.unittest import SynchronousTestCase

from tests.support.daemon import LIMIT
from txworker.rpc.incoming_call import PRIVATE, SUPPORTED, IncomingCall
from txworker.rpc.threads import RpcThreads


class PoolOfAServer(RpcThreads):
    """Records what grpcio's server submits."""

    def __init__(self) -> None:
        super().__init__(4, 4, idle_seconds=0.05)
        self.given: list[tuple[Any, tuple[Any, ...]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As RpcThreads.submit()."""
        self.given.append((fn, args))
        return super().submit(fn, *args, **kwargs)


class Echo(grpc.GenericRpcHandler):
    """One method of each kind."""

    def service(self, handler_call_details: Any) -> Any:
        """The handler with that name."""
        return {
            "/all/unary_unary": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
            "/all/unary_stream": grpc.unary_stream_rpc_method_handler(lambda request, context: iter([request])),
            "/all/stream_unary": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"".join(requests)),
            "/all/stream_stream": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
        }[handler_call_details.method]


class PrivateTests(SynchronousTestCase):
    def test_names_and_parameters(self) -> None:
        """Each name exists, and each function has the expected parameters."""
        self.assertTrue(SUPPORTED)
        for name in PRIVATE:
            self.assertTrue(hasattr(_server, name), name)
        parameters = {
            "_receive_message": ["state", "call", "request_deserializer"],
            "_abort": ["state", "call", "code", "details"],
            "_is_rpc_state_active": ["state"],
        }
        for name, names in parameters.items():
            self.assertEqual(names, list(inspect.signature(getattr(_server, name)).parameters))
        state = _server._RPCState()
        for name in ("condition", "due", "request", "client", "code", "trailing_metadata", "statused"):
            self.assertTrue(hasattr(state, name), name)
        self.assertTrue(callable(cygrpc.ReceiveMessageOperation))

    def test_what_the_pool_is_given(self) -> None:
        """For each kind of method: the context's run(), and seven arguments in this order."""
        pool = PoolOfAServer()
        server = grpc.server(pool)  # type: ignore[arg-type]
        server.add_generic_rpc_handlers((Echo(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as a_channel:
            channel: Any = a_channel  # of bytes, which the stubs know no way to say
            self.assertEqual(b"x", channel.unary_unary("/all/unary_unary")(b"x", timeout=LIMIT))
            self.assertEqual([b"x"], list(channel.unary_stream("/all/unary_stream")(b"x", timeout=LIMIT)))
            self.assertEqual(b"xy", channel.stream_unary("/all/stream_unary")(iter([b"x", b"y"]), timeout=LIMIT))
            self.assertEqual([b"x"], list(channel.stream_stream("/all/stream_stream")(iter([b"x"]), timeout=LIMIT)))
        server.stop(0).wait(LIMIT)
        self.assertEqual(4, len(pool.given))
        for run, arguments in pool.given:
            self.assertIsInstance(run.__self__, Context)
            in_pool, event, state, behavior, wait, deserializer, serializer = arguments
            self.assertIn(in_pool, (_server._unary_response_in_pool, _server._stream_response_in_pool))
            self.assertIsInstance(event, cygrpc.BaseEvent)
            self.assertIsInstance(state, _server._RPCState)
            self.assertTrue(callable(behavior) and callable(wait))
            self.assertIsNone(deserializer or serializer)
            self.assertIsNotNone(IncomingCall.from_submit(run, arguments, "/a/B", False))

    def test_anything_else(self) -> None:
        """Other arguments are not recognized as a call."""
        context = Context()
        state = _server._RPCState()
        self.assertIsNone(IncomingCall.from_submit(context.run, (1, 2, 3, 4, 5, 6, 7), "", False))
        self.assertIsNone(IncomingCall.from_submit(context.run, (1, 2, state), "", False))
        self.assertIsNone(IncomingCall.from_submit(print, (1, 2, state, 4, 5, 6, 7), "", False))
