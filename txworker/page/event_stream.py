"""Server-sent events: one response that lasts until the browser disconnects. Reactor thread only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.web.http import Request
from zope.interface import implementer

from txworker.base.reactor import Clock, Timer
from txworker.page.guard import Refused

MOST_STREAMS = 200
"""How many streams may be open at once, over all browsers."""

PING_SECONDS = 15.0
"""How often a comment is sent: it reveals a browser that has vanished, and proxies keep the connection open."""


def set_headers(request: Request) -> None:
    """The headers of an answer that is a stream of events."""
    request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("X-Accel-Buffering", "no")  # nginx would buffer events otherwise


class OpenStreams:
    """The streams that are open: limits how many they are, and ends them when the page stops."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self._streams: set[EventStream] = set()
        self._closed = False

    def add(self, stream: EventStream) -> None:
        """
        A stream is about to be opened.

        Raises:
            Refused: the limit is reached, or the page is stopping.
        """
        if self._closed:
            raise Refused(503, "the page is stopping")
        if len(self._streams) >= self._most:
            raise Refused(503, f"{self._most} browser tabs follow this page already; close one")
        self._streams.add(stream)

    def discard(self, stream: EventStream) -> None:
        """A stream has ended."""
        self._streams.discard(stream)

    def close(self) -> None:
        """End all of them, and open no more."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()


@implementer(IPushProducer)
class EventStream:
    """
    While `paused` is true nothing should be sent; resumed() is called when the browser can take more.
    """

    def __init__(self, request: Request, clock: Clock, streams: OpenStreams) -> None:
        streams.add(self)
        self.paused = False
        self.over = False
        self.resumed: Callable[[], None] = lambda: None
        self._request = request
        self._clock = clock
        self._streams = streams
        self._ended: list[Callable[[], None]] = []
        self._ping: Timer | None = None
        set_headers(request)
        request.notifyFinish().addBoth(lambda _: self._over())
        request.registerProducer(self, True)
        self._write(b"retry: 2000\n\n")
        self._pinged()

    def on_end(self, ended: Callable[[], None]) -> None:
        """Call ended() once when the stream is over, whichever side ends it; the last one added is called first."""
        self._ended.append(ended)

    def send(self, event: str, data: Any, id: int | None = None) -> None:
        """Send an event with JSON data. A browser that reconnects sends the last id that it got (Last-Event-ID)."""
        head = f"event: {event}\n" + (f"id: {id}\n" if id is not None else "")
        self._write(f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode())

    def close(self) -> None:
        """End the response; the browser reconnects by itself."""
        if not self.over:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """Twisted: the browser, or the network, takes no more for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Twisted: it takes data again."""
        if self.paused:
            self.paused = False
            self.resumed()

    def stopProducing(self) -> None:
        """Twisted: the connection is lost; notifyFinish() fires as well."""
        self.paused = True

    def _write(self, data: bytes) -> None:
        if not self.over:
            self._request.write(data)

    def _pinged(self) -> None:
        if not self.paused:
            self._write(b": ping\n\n")
        self._ping = self._clock.callLater(PING_SECONDS, self._pinged)

    def _over(self) -> None:
        self.over = True
        self._streams.discard(self)
        if self._ping is not None:
            self._ping.cancel()
        while self._ended:
            self._ended.pop()()
