"""Both ends of a connection between a worker and a shim, and a process that records what it is told."""

from __future__ import annotations

import socket

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


def a_channel() -> tuple[Channel, Channel]:
    """Both ends of a channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    return Channel(ours), Channel(theirs)
