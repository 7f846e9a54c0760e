"""Both ends of a connection between a worker and a shim, and a process that records what it is told."""

from __future__ import annotations

import errno
import socket
from typing import Any

from txworker.shim.messages import Channel, Message


class FakeChild:
    """Records what it is told."""

    def __init__(self) -> None:
        self.exits: list[Message] = []
        self.reports: list[Message] = []
        self.orphans = 0

    def exited(self, how: Message) -> None:
        self.exits.append(how)

    def orphaned(self) -> None:
        self.orphans += 1

    def fed(self, stdin: Message) -> None:
        self.reports.append(stdin)


class PoorSocket(socket.socket):
    """A socket for which the kernel lacks memory, while `poor` is set."""

    poor = False

    def send(self, *args: Any) -> int:
        return super().send(*args) if not self.poor else self._refuse()

    def sendmsg(self, *args: Any) -> int:
        return super().sendmsg(*args) if not self.poor else self._refuse()

    def recvmsg(self, *args: Any) -> Any:
        return super().recvmsg(*args) if not self.poor else self._refuse()

    def _refuse(self) -> int:
        raise OSError(errno.ENOBUFS, "no memory")


def a_channel() -> tuple[Channel, Channel]:
    """Both ends of a channel."""
    ours, _, theirs = a_poor_channel()
    return ours, theirs


def a_poor_channel() -> tuple[Channel, PoorSocket, Channel]:
    """Both ends of a channel, and the socket of the first one."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    poor = PoorSocket(fileno=ends[0].detach())
    for end in (poor, ends[1]):
        end.setblocking(False)
    return Channel(poor), poor, Channel(ends[1])
