"""
Access rules: which client may call which method. This is the only place for them.

Before any call, clients are authenticated by the transport: by certificates (tls.py), and by the permissions of the
operator's socket (control.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from txworker.pb import control_pb2
from txworker.rpc.control import SOCKET_NAME
from txworker.rpc.handlers import behaviour_of, with_behaviour
from txworker.rpc.requests import Unreadable

Rule = Callable[[grpc.ServicerContext, str], str]
"""rule(context, method name): why the call is refused; empty: it is allowed. gRPC threads."""


def only_on_operator_socket(context: grpc.ServicerContext, name: str) -> str:
    """For the operator's calls. The socket's permissions say which users may connect."""
    if context.peer().startswith("unix:"):
        return ""
    return f"{name} is served on the socket {SOCKET_NAME} in the worker's state directory only"


RULES: Sequence[tuple[str, Rule]] = (
    (f"/{control_pb2.DESCRIPTOR.services_by_name['Control'].full_name}/", only_on_operator_socket),
)
"""Rules with the prefix of the methods that they are for, as /service/method."""


class Access(grpc.ServerInterceptor):
    """
    Refuses calls with PERMISSION_DENIED. Methods without a rule are open to every client. A request that cannot be
    parsed is answered as such, whatever the rules say: it reaches no method.
    """

    def __init__(self, rules: Sequence[tuple[str, Rule]] = RULES) -> None:
        self._rules = rules

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler of one call. gRPC's serving thread; must not block."""
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        for prefix, rule in self._rules:
            if handler is not None and method.startswith(prefix):
                handler = _guarded(handler, rule, method.rpartition("/")[2])
        return handler


def _guarded(handler: Any, rule: Rule, name: str) -> Any:
    behaviour = behaviour_of(handler)

    def answer_if_allowed(request: Any, context: grpc.ServicerContext) -> Any:
        reason = "" if isinstance(request, Unreadable) else rule(context, name)  # an unreadable one reaches no method
        if reason:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        return behaviour(request, context)

    return with_behaviour(handler, answer_if_allowed)
