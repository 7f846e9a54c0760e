"""The operator's door: on a socket in the state directory, whose permissions decide who may use it. gRPC threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import grpc
from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.jobs.errors import TxWorkerError
from txworker.pb import control_pb2 as pb
from txworker.pb import control_pb2_grpc
from txworker.rpc.bridge import Bridge
from txworker.rpc.requests import add_service
from txworker.wire.status import status_of

SOCKET_NAME = "control.sock"
_LONGEST_PATH_BYTES = 107
"""Of a socket's name (unix(7))."""

_log = Logger()


class ControlServicer(control_pb2_grpc.ControlServicer):
    """
    drain() and hand_over() are called in the reactor thread; their Deferreds fire with how many jobs are not done.
    """

    def __init__(
        self, bridge: Bridge, drain: Callable[[], Deferred[int]], hand_over: Callable[[], Deferred[int]]
    ) -> None:
        self._bridge = bridge
        self._drain = drain
        self._hand_over = hand_over

    def Drain(self, request: pb.DrainReq, context: grpc.ServicerContext) -> pb.DrainRes:
        """No new jobs; the worker ends when those there are have ended."""
        return pb.DrainRes(running=self._asked("Drain", self._drain, context))

    def Handover(self, request: pb.HandoverReq, context: grpc.ServicerContext) -> pb.HandoverRes:
        """The worker ends, and leaves the jobs that run to the next one."""
        return pb.HandoverRes(running=self._asked("Handover", self._hand_over, context))

    def _asked(self, name: str, ask: Callable[[], Deferred[int]], context: grpc.ServicerContext) -> int:
        if not context.peer().startswith("unix:"):
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{name} is served on the socket {SOCKET_NAME} in the worker's state directory only",
            )
        try:
            return self._bridge.caller(context).call(ask)
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))


class SocketWatch:
    """Says when the socket is not there any more, or not the one that was bound: gRPC binds none a second time."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / SOCKET_NAME
        self._bound: int | None = None
        self._gone = False

    def look(self) -> None:
        """Reactor thread, once the door may be open."""
        found = None
        with suppress(OSError):
            found = os.stat(self._path).st_ino
        if self._bound is None:
            self._bound = found
        elif (found != self._bound) is not self._gone:
            self._gone = not self._gone
            if self._gone:
                text = "The socket {path} is gone: `txworker drain` cannot be used until a restart, SIGUSR1 can."
                _log.warn(text, path=self._path)


def control_door(directory: Path, servicer: ControlServicer) -> Callable[[grpc.Server], None]:
    """What opens this door on a server: binds the socket and adds the service."""

    def open_door(server: grpc.Server) -> None:
        path = directory / SOCKET_NAME
        if len(os.fsencode(path)) > _LONGEST_PATH_BYTES:
            _log.warn(
                "{path} is too long for a socket: `txworker drain` and `handover` cannot be used, SIGUSR1 and SIGUSR2 "
                "can.",
                path=path,
            )
            return
        with suppress(FileNotFoundError):
            path.unlink()  # of a worker that is gone: the directory is ours alone
        add_service(control_pb2_grpc.add_ControlServicer_to_server, servicer, server)
        before = os.umask(0o177)  # from its first moment it is ours alone, whatever the directory's permissions are
        try:
            server.add_insecure_port(f"unix:{quote(os.fsencode(path))}")  # it is read as a URI
        finally:
            os.umask(before)

    return open_door
