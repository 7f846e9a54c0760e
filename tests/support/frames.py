"""HTTP/2 frames, for clients that do what no library does: half-sent calls, or ten thousand resets."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
CANCEL = struct.pack(">I", 8)
_POST, _HTTP = b"\x83", b"\x86"  # of HPACK's static table (RFC 7541, appendix A)

QUERY = "/jobscheduler.Worker/QueryJob"
START = "/jobscheduler.Worker/StartJob"
METHODS = (
    QUERY,
    "/Worker/QueryJob",
    START,
    "/jobscheduler.Worker/StopJob",
    "/jobscheduler.Worker/StreamJob",
    "/jobscheduler.Worker/ListJobs",
    "/jobscheduler.Worker/WatchJobs",
    "/jobscheduler.Worker/SignalJob",
    "/jobscheduler.Worker/JobUsage",
    "/jobscheduler.Worker/RenewLeases",
    "/jobscheduler.Worker/FeedJob",
    "/jobscheduler.Worker/ResizeJob",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""At least one method of each kind that a worker serves."""


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """A frame of the stream with that number; 0: of the connection (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A literal header field without indexing (RFC 7541, 6.2.2), with name and value shorter than 128 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_headers(path: str, authority: str) -> bytes:
    """The header block of a call."""
    headers = _POST + _HTTP + field(b":path", path.encode()) + field(b":authority", authority.encode())
    return headers + field(b"te", b"trailers") + field(b"content-type", b"application/grpc")


class RawConnection:
    """A connection without TLS, on which calls are begun and not completed."""

    def __init__(self, addr: str) -> None:
        host, port = addr.rsplit(":", 1)
        self._authority = addr
        self._next = 1
        self._socket = socket.create_connection((host, int(port)), 10.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = bytearray()
        self.ended: set[int] = set()
        self.closed = False
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def send(self, data: bytes) -> None:
        """Send all of it, unless the worker has closed the connection."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def begin(self, path: str, data: bytes = b"") -> int:
        """Send the headers of a call, and that beginning of its message; the number of the stream."""
        self.send(self.beginning(path, data))
        return self._next - 2

    def beginning(self, path: str, data: bytes = b"") -> bytes:
        """The bytes that begin() sends."""
        number, self._next = self._next, self._next + 2
        begun = frame(HEADERS, END_HEADERS, number, request_headers(path, self._authority))
        return begun + (frame(DATA, 0, number, data) if data else b"")

    def resets(self, count: int, path: str = QUERY) -> bytes:
        """Bytes that begin so many calls and reset each at once."""
        return b"".join(self.beginning(path) + frame(RST_STREAM, 0, self._next - 2, CANCEL) for _ in range(count))

    def read(self, within_seconds: float = 0.0) -> None:
        """Read what has come, record which calls have ended, and answer SETTINGS and PING."""
        self._socket.settimeout(within_seconds)
        with suppress(BlockingIOError, TimeoutError, ConnectionError):
            while data := self._socket.recv(1 << 16):
                self._unread += data
                self._parse()
                self._socket.settimeout(0.0)
            self.closed = True
        self._socket.settimeout(10.0)

    def all_ended(self, numbers: set[int], within_seconds: float) -> bool:
        """Whether these calls, or the connection, end within that time."""
        end = time.monotonic() + within_seconds
        while not self.closed and not numbers <= self.ended and time.monotonic() < end:
            self.read(0.05)
        return self.closed or numbers <= self.ended

    def close(self) -> None:
        """Close the connection, with all calls."""
        self._socket.close()

    def _parse(self) -> None:
        while len(self._unread) >= 9:
            end = 9 + int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < end:
                return
            kind, flags = self._unread[3], self._unread[4]
            number, payload = int.from_bytes(self._unread[5:9], "big"), bytes(self._unread[9:end])
            del self._unread[:end]
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
                self.ended.add(number)


@contextmanager
def connections(addr: str, count: int) -> Iterator[list[RawConnection]]:
    """`count` connections, which are closed at the end."""
    made: list[RawConnection] = []
    try:
        made.extend(RawConnection(addr) for _ in range(count))
        yield made
    finally:
        for one in made:
            one.close()
