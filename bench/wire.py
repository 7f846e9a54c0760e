"""
A minimal gRPC client that writes and reads HTTP/2 frames itself.

Client and worker share the machine while launches are measured. grpcio's client needs a third of the CPU time that the
worker needs for a job; this one needs a quarter of that. It implements only what these calls need (RFC 9113, and gRPC's
PROTOCOL-HTTP2.md) and does not check the server.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType

from google.protobuf.message import Message

from tests.support.daemon import LIMIT
from tests.support.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    request_headers,
)
from txworker.pb import worker_pb2 as pb

_INITIAL_WINDOW_SIZE = 4
_MOST = 2**31 - 1
_FIRST_WINDOW = 65_535
_SERVICE = pb.DESCRIPTOR.services_by_name["Worker"].full_name


class CallFailed(Exception):
    """The server ended a call without an answer, or closed the connection."""


class Wire:
    """One connection for one thread, with any number of concurrent calls; answers come from messages()."""

    def __init__(self, addr: str) -> None:
        host, port = addr.rsplit(":", 1)
        self._authority = addr
        self._socket = socket.create_connection((host, int(port)), LIMIT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MOST)
        wide_open = struct.pack(">I", _MOST - _FIRST_WINDOW)  # no flow control for the server
        self._unsent = [PREFACE, frame(SETTINGS, 0, 0, settings), frame(WINDOW_UPDATE, 0, 0, wide_open)]
        self._unread = bytearray()
        self._calls: dict[int, bytearray] = {}
        self._answered: set[int] = set()
        self._next = 1

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def call(self, method: str, request: Message) -> int:
        """Queue a call, to be sent by messages(); returns its number."""
        number, self._next = self._next, self._next + 2
        headers = request_headers(f"/{_SERVICE}/{method}", self._authority)
        body = request.SerializeToString()
        self._unsent.append(frame(HEADERS, END_HEADERS, number, headers))
        self._unsent.append(frame(DATA, END_STREAM, number, struct.pack(">?I", False, len(body)) + body))
        self._calls[number] = bytearray()
        return number

    def messages(self) -> list[tuple[int, bytes]]:
        """
        Send queued calls and wait for at least one message; each comes with the number of its call.

        Raises:
            CallFailed: a call ended without a message.
            TimeoutError: nothing came for LIMIT seconds.
        """
        found: list[tuple[int, bytes]] = []
        while not found:
            self._send()
            data = self._socket.recv(1 << 16)
            if not data:
                raise CallFailed("the connection ended")
            self._unread += data
            for kind, flags, number, payload in self._frames():
                found += self._handle(kind, flags, number, payload)
        return found

    def _send(self) -> None:
        if self._unsent:
            self._socket.sendall(b"".join(self._unsent))
            self._unsent.clear()

    def _frames(self) -> list[tuple[int, int, int, bytes]]:
        """The frames that have arrived completely."""
        frames, at, unread = [], 0, self._unread
        while len(unread) >= at + 9:
            end = at + 9 + int.from_bytes(unread[at : at + 3], "big")
            if len(unread) < end:
                break
            number = int.from_bytes(unread[at + 5 : at + 9], "big")
            frames.append((unread[at + 3], unread[at + 4], number, bytes(unread[at + 9 : end])))
            at = end
        del unread[:at]
        return frames

    def _handle(self, kind: int, flags: int, number: int, payload: bytes) -> list[tuple[int, bytes]]:
        """The messages that this frame completes."""
        found: list[tuple[int, bytes]] = []
        if kind == DATA:
            found = [(number, message) for message in _messages_of(self._calls[number], payload)]
            if found:
                self._answered.add(number)
        elif kind in (SETTINGS, PING) and not flags & ACK:
            self._unsent.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in (RST_STREAM, GOAWAY):
            raise CallFailed(f"call {number}: {payload!r}")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._ended(number, payload)
        return found

    def _ended(self, number: int, payload: bytes) -> None:
        del self._calls[number]
        if number not in self._answered:  # a failed call has trailers only
            raise CallFailed(f"call {number}: {payload!r}")
        self._answered.remove(number)


def _messages_of(pending: bytearray, payload: bytes) -> list[bytes]:
    pending += payload
    messages = []
    while len(pending) >= 5 and len(pending) >= (end := 5 + int.from_bytes(pending[1:5], "big")):
        messages.append(bytes(pending[5:end]))
        del pending[:end]
    return messages
