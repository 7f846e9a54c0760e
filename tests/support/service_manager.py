"""A service manager's socket: what a service tells it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Message = dict[str, str]


class ServiceManager:
    """The socket at that path, whose name is to be in NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)

    def next(self, limit_seconds: float = 30.0) -> Message:
        """The next message; waits for it. TimeoutError when there is none."""
        self._socket.settimeout(limit_seconds)
        return _parsed(self._socket.recv(65536))

    def until(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted; others are dropped."""
        while not wanted(message := self.next()):
            pass
        return message

    def waiting(self) -> list[Message]:
        """The messages that have been sent already."""
        self._socket.setblocking(False)
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(_parsed(self._socket.recv(65536)))
        return found

    def close(self) -> None:
        """Close the socket; its name stays."""
        self._socket.close()


def _parsed(data: bytes) -> Message:
    return dict(line.split("=", 1) for line in data.decode().split("\n"))
