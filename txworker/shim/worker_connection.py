"""The shim's end of the connection to the worker: accepts one worker at a time, receives and sends messages."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence

from txworker.shim.children_limit import with_room
from txworker.shim.events import Events
from txworker.shim.messages import Channel, Message, MessageLost

_BACKLOG = 8
_MESSAGES_PER_TURN = 64
_NO_ROOM_SECONDS = 0.05
"""How long the loop rests when no descriptor is free for a worker, which waits and is reported in every turn."""

_UCRED = struct.Struct("iII")


class WorkerConnection:
    """
    The newest connection counts: its worker holds the lease of the state directory.

    listener: a bound socket, where workers connect. received(message, descriptors) is called for each message, lost()
    when a worker has gone or another one has connected. lift(): as ChildrenLimit.lift(). The loop's thread.
    """

    def __init__(
        self,
        events: Events,
        listener: socket.socket,
        received: Callable[[Message, list[int]], None],
        lost: Callable[[], None],
        lift: Callable[[], bool] = lambda: False,
    ) -> None:
        self._events = events
        self._received = received
        self._lost = lost
        self._lift = lift
        self._channel: Channel | None = None
        self._listen(listener)

    @property
    def is_open(self) -> bool:
        """Whether a worker is connected."""
        return self._channel is not None

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send it to the worker; without one it is dropped, because the next worker gets the jobs' records."""
        if self._channel is None:
            return
        try:
            self._channel.send(message, descriptors)
            if self._channel.full:
                self._watch_room()
        except OSError:
            pass  # the worker is gone; epoll reports the end of the connection

    def close(self) -> None:
        """Disconnect the worker."""
        if self._channel is not None:
            self._events.unwatch(self._channel.fileno())
            self._channel.close()
            self._channel = None
            self._lost()

    def listen_at(self, listener: socket.socket) -> None:
        """From now on workers connect to this bound socket, and no longer to the one before."""
        before = self._listener
        self._listen(listener)
        self._events.unwatch(before.fileno())
        before.close()

    def refuse(self) -> None:
        """Disconnect the worker, and accept no other."""
        self._close_listener()
        self.close()

    def _listen(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        listener.listen(_BACKLOG)  # again: SO_PEERCRED names the process that called listen() last
        self._events.watch(listener.fileno(), self._accept)
        self._listener = listener

    def _close_listener(self) -> None:
        self._events.unwatch(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, _ = with_room(self._listener.accept, self._lift)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(_NO_ROOM_SECONDS)
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.getuid():
            connection.close()
            return
        self.close()
        connection.setblocking(False)
        try:
            self._events.watch(connection.fileno(), self._readable)
        except OSError:
            connection.close()
            raise
        self._channel = Channel(connection)

    def _readable(self) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            channel = self._channel
            if channel is None:
                return
            try:
                if channel.full:
                    channel.flush()
                    self._watch_room()
                message, descriptors = channel.receive()
            except BlockingIOError:
                return
            except (ConnectionError, MessageLost):
                self.close()
                return
            self._received(message, descriptors)

    def _watch_room(self) -> None:
        """While something waits to be sent, _readable() is also called when the socket has room."""
        if self._channel is not None:
            self._events.watch_room(self._channel.fileno(), self._channel.full)
