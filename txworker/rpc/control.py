"""
The operator's service. It is on a socket in the state directory; the permissions of the socket decide which users may
connect. access.py refuses the service elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import grpc
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.jobs.errors import TxWorkerError
from txworker.pb import control_pb2 as pb
from txworker.pb import control_pb2_grpc
from txworker.rpc.bridge import Bridge
from txworker.rpc.requests import add_service
from txworker.rpc.wire.status import status_of

SOCKET_NAME = "control.sock"
_MAX_PATH_BYTES = 107
"""The longest name of a socket (unix(7))."""

T = TypeVar("T")

_log = Logger()


class ConfigChange(Protocol):
    """A key that has another value in the file than the one in force; live: a reload applies it."""

    @property
    def key(self) -> str:
        """Dotted, as in the file."""

    @property
    def before(self) -> str:
        """The value in force, as text without secrets."""

    @property
    def after(self) -> str:
        """The value in the file, as text without secrets."""

    @property
    def live(self) -> bool:
        """Whether a reload applies it; otherwise a restart does."""


class ControlServicer(control_pb2_grpc.ControlServicer):
    """
    drain(), hand_over() and reload(check_only) are called in the reactor thread. The Deferreds of the first two fire
    with the number of unfinished jobs, that of reload() with ConfigChanges. Methods: gRPC threads.
    """

    def __init__(
        self,
        bridge: Bridge,
        drain: Callable[[], Deferred[int]],
        hand_over: Callable[[], Deferred[int]],
        reload: Callable[[bool], Deferred[Any]],
    ) -> None:
        self._bridge = bridge
        self._drain = drain
        self._hand_over = hand_over
        self._reload = reload

    def Drain(self, request: pb.DrainReq, context: grpc.ServicerContext) -> pb.DrainRes:
        """The worker refuses new jobs, and ends when the present ones have ended."""
        return pb.DrainRes(running=self._call(self._drain, context))

    def Handover(self, request: pb.HandoverReq, context: grpc.ServicerContext) -> pb.HandoverRes:
        """The worker ends, and leaves its running jobs to the next worker."""
        return pb.HandoverRes(running=self._call(self._hand_over, context))

    def Reload(self, request: pb.ReloadReq, context: grpc.ServicerContext) -> pb.ReloadRes:
        """The worker reads its configuration again, or only tells what that would change."""
        changes: Sequence[ConfigChange] = self._call(lambda: self._reload(request.checkOnly), context)
        return pb.ReloadRes(
            changes=[
                pb.ConfigChange(key=one.key, before=one.before, after=one.after, needsRestart=not one.live)
                for one in changes
            ]
        )

    def _call(self, ask: Callable[[], Deferred[T]], context: grpc.ServicerContext) -> T:
        try:
            return self._bridge.caller(context).call(ask)
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))


class SocketWatch:
    """Logs when the socket was removed or replaced, because gRPC does not bind it again."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SOCKET_NAME
        self._bound: int | None = None
        self._gone = False

    def look(self) -> None:
        """Call it now and then once the server may have started. Reactor thread."""
        found = None
        with suppress(OSError):
            found = os.stat(self._path).st_ino
        if self._bound is None:
            self._bound = found
        elif (found != self._bound) is not self._gone:
            self._gone = not self._gone
            if self._gone:
                text = (
                    "The socket {path} is gone: no operator can connect until a restart; SIGQUIT drains and SIGHUP "
                    "reloads."
                )
                _log.warn(text, path=self._path)


def control_socket(directory: Path, servicer: ControlServicer) -> Callable[[grpc.Server], None]:
    """A function that adds the service to a server and binds the socket."""
    return partial(_add_to_server, directory / SOCKET_NAME, servicer)


def _add_to_server(path: Path, servicer: ControlServicer, server: grpc.Server) -> None:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        _log.warn(
            "{path} is too long for a socket: `txworker drain`, `handover` and `reload` cannot be used, SIGQUIT, "
            "SIGUSR2 and SIGHUP can.",
            path=path,
        )
        return
    with suppress(FileNotFoundError):
        path.unlink()  # an earlier worker's; the lease says that it has ended
    add_service(control_pb2_grpc.add_ControlServicer_to_server, servicer, server)
    before = os.umask(0o177)  # so that no other user can connect at any moment, whatever the directory's permissions
    try:
        server.add_insecure_port(f"unix:{quote(os.fsencode(path))}")  # gRPC parses it as a URI
    finally:
        os.umask(before)
