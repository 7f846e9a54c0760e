"""Server-sent events: one answer that goes on until the browser leaves. Reactor thread only."""

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
"""Open at once, of all browsers."""

PING_SECONDS = 15.0
"""A comment is sent so often: a browser that is gone without a word is noticed, and proxies keep the connection."""


class Ceiling:
    """Counts the streams that are open."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self.open = 0

    def take(self) -> None:
        """
        One more.

        Raises:
            Refused: there are as many as may be.
        """
        if self.open >= self._most:
            raise Refused(503, f"{self._most} browser tabs follow this page already; close one")
        self.open += 1

    def give_back(self) -> None:
        """One less."""
        self.open -= 1


@implementer(IPushProducer)
class EventStream:
    """
    resumed() is called when the browser has read what was sent, after `paused` was true; send nothing while it is.
    ended() is called once, when the stream is over, whichever side ends it.
    """

    def __init__(self, request: Request, clock: Clock, ceiling: Ceiling) -> None:
        ceiling.take()
        self.paused = False
        self.over = False
        self.resumed: Callable[[], None] = lambda: None
        self._request = request
        self._clock = clock
        self._ceiling = ceiling
        self._ended: list[Callable[[], None]] = []
        self._ping: Timer | None = None
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Accel-Buffering", "no")  # nginx would wait for more
        request.notifyFinish().addBoth(lambda _: self._over())
        request.registerProducer(self, True)
        self._write(b"retry: 2000\n\n")
        self._pinged()

    def on_end(self, ended: Callable[[], None]) -> None:
        """ended() is called when the stream is over; the last that was given comes first."""
        self._ended.append(ended)

    def send(self, event: str, data: Any, id: int | None = None) -> None:
        """One event, of JSON; its id is what the browser says when it comes again."""
        head = f"event: {event}\n" + (f"id: {id}\n" if id is not None else "")
        self._write(f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode())

    def close(self) -> None:
        """End the answer; the browser comes again by itself."""
        if not self.over:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """The browser, or the network, takes no more for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """It does again."""
        if self.paused:
            self.paused = False
            self.resumed()

    def stopProducing(self) -> None:
        """The connection is lost; notifyFinish says so as well."""
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
        self._ceiling.give_back()
        if self._ping is not None:
            self._ping.cancel()
        while self._ended:
            self._ended.pop()()
