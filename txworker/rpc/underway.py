"""
Calls whose message is on its way: how many there may be, and for how long.

A small message comes together with its call, and is here a tenth of a millisecond later. What stays is the half of a
call, or the large message of a start: that may have 4 MiB, so starts have places of their own, and a large one keeps
its place until it is answered. That bounds what the requests of all starts together hold in memory. Any thread.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice, takewhile
from typing import Any, Protocol

import grpc

from txworker.jobs.errors import MessageLate, OutOfResources
from txworker.rpc.threads import Work
from txworker.wire.status import status_of

MOST_CALLS = 256
"""Calls other than starts whose message is on its way; more are there for YOUNG_SECONDS at most."""

YOUNG_SECONDS = 0.25
"""So long a complete call may take on a machine that has much to do: thousands may come at once."""

MOST_BYTES = 1024 * 1024
"""Of the message of a call that is no start: 25,000 jobs' ids."""

CALL_SECONDS = 1.0
"""How long their messages may take."""

PLACES = 8
"""Starts whose message is on its way, or is large and not answered yet; the others wait, and send little meanwhile."""

START_SECONDS = 5.0
"""How long the message of a start may take: 4 MiB at 7 Mbit/s."""

LARGE_BYTES = 64 * 1024
"""A message beyond it keeps its place."""

STUCK_SECONDS = 0.3
"""When no place has become free for so long, those who wait are tried, many at a time."""

SELDOM_SECONDS = 0.5
"""Until then one of them at such intervals: the others have their turns in order."""

SHORT_TRIES = 32
"""So many at a time."""

NEWEST = 1000
"""Among so many of those who wait they are looked for."""

SHORT_SECONDS = 0.1
"""So long they have. It is much for a small message, and little for one that never comes."""


class Call(Protocol):
    """What is asked of incoming.Incoming, where each of these is described."""

    size: int
    streams: bool
    future: Future[Any]

    @property
    def peer(self) -> str: ...
    @property
    def over(self) -> bool: ...
    def receive(self, come: Callable[[Any], None]) -> bool: ...
    def work(self) -> Work: ...
    def drop(self) -> None: ...
    def refuse(self, status: grpc.Status) -> None: ...


class Calls:
    """
    All but starts: begun at once. When there are too many, some are ended: of the address, and there of the connection,
    that has most of them, the oldest. `most`: beyond it one is refused at once, as streams are.
    """

    def __init__(self, take: Callable[[Work], None], now: Callable[[], float], most: float = math.inf) -> None:
        self._take = take
        self._now = now
        self._most = most
        self._lock = threading.Lock()
        self._begun: dict[Call, float] = {}

    @property
    def busy(self) -> bool:
        """There are some."""
        return bool(self._begun)

    def add(self, call: Call) -> None:
        """A call that has just come."""
        with self._lock:
            full = len(self._begun) >= self._most
            if not full:
                self._begun[call] = self._now()
        if full:
            text = f"grpc_server.max_streams: {self._most} streams are waiting for their messages already"
            call.refuse(status_of(OutOfResources(text, "MAX_STREAMS")))
        if full or not call.receive(self._come):
            self._forget(call)
            call.drop()

    def look(self) -> None:
        """End those that have taken too long, and those that are too many."""
        with self._lock:
            late = _older(self._begun, self._now() - CALL_SECONDS)
            for call in late:
                del self._begun[call]
            too_many = _heaviest(_older(self._begun, self._now() - YOUNG_SECONDS), len(self._begun) - MOST_CALLS)
            for call in too_many:
                del self._begun[call]
        for call in late:
            call.refuse(status_of(MessageLate(CALL_SECONDS)))
        for call in too_many:
            text = f"{MOST_CALLS} calls are waiting for their messages already, most of them from this client"
            call.refuse(status_of(OutOfResources(text, "HALF_SENT_CALLS")))

    def _come(self, call: Call) -> None:
        self._forget(call)
        if call.size > MOST_BYTES and not call.streams:
            text = f"the call's message has {call.size} bytes; {MOST_BYTES} at most are taken of one that starts no job"
            call.refuse(status_of(OutOfResources(text, "REQUEST_TOO_LARGE")))
        if call.over:
            call.drop()
        else:
            self._take(call.work())

    def _forget(self, call: Call) -> None:
        with self._lock:
            self._begun.pop(call, None)


class Starts:
    """
    Begun in order, as places become free. While they are taken the newest of those who wait are tried for a short time:
    so a small start passes those that are large, or only half there.
    """

    def __init__(self, take: Callable[[Work], None], now: Callable[[], float]) -> None:
        self._take = take
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[Call, None] = {}
        self._begun: dict[Call, float] = {}
        self._tried: dict[Call, float] = {}
        self._large: set[Call] = set()
        self._moved = self._last_try = now()

    @property
    def busy(self) -> bool:
        """There are some whose message is not here."""
        return bool(self._begun or self._tried or self._waiting)

    def add(self, call: Call) -> None:
        """A start that has just come."""
        with self._lock:
            self._waiting[call] = None
        self._fill()

    def look(self) -> None:
        """End those that have taken too long; try some that wait."""
        for call in self._late(self._begun, START_SECONDS):
            call.refuse(status_of(MessageLate(START_SECONDS)))
        stuck = self._now() - self._moved > STUCK_SECONDS
        for call in self._late(self._tried, SHORT_SECONDS):
            if stuck:
                text = f"{PLACES} large starts are under way already"
                call.refuse(status_of(OutOfResources(text, "LARGE_STARTS")))
            else:
                self._place(call)
        self._fill()
        for call in self._chosen(SHORT_TRIES if stuck else self._now() - self._last_try > SELDOM_SECONDS):
            self._begin(call)

    def _place(self, call: Call) -> None:
        """One more than there are places: it is large, and others come by."""
        with self._lock:
            if not call.over:
                self._begun[call] = self._now()

    def _fill(self) -> None:
        while (call := self._next()) is not None:
            self._begin(call)

    def _next(self) -> Call | None:
        with self._lock:
            if not self._waiting or len(self._begun) + len(self._large) >= PLACES:
                return None
            self._moved = self._now()
            call = next(iter(self._waiting))
            del self._waiting[call]
            self._begun[call] = self._now()
            return call

    def _chosen(self, most: int) -> list[Call]:
        with self._lock:
            self._waiting = {call: None for call in self._waiting if not call.over}
            beyond = len(self._begun) + len(self._large) - PLACES
            chosen = self._newest(most - len(self._tried) - beyond)
            for call in chosen:
                del self._waiting[call]
                self._tried[call] = self._last_try = self._now()
            return chosen

    def _newest(self, most: int) -> list[Call]:
        """One of each connection, then others."""
        newest = list(islice(reversed(self._waiting), NEWEST)) if most > 0 else []
        one_of_each: dict[str, Call] = {}
        for call in newest:
            one_of_each.setdefault(call.peer, call)
        firsts = dict.fromkeys(one_of_each.values())
        return list(firsts | dict.fromkeys(newest))[:most] if most > 0 else []

    def _begin(self, call: Call) -> None:
        if not call.receive(self._come):
            self._forget(call)
            call.drop()

    def _come(self, call: Call) -> None:
        self._forget(call)
        if call.over:
            call.drop()
        else:
            if call.size > LARGE_BYTES:
                self._keep(call)
            self._take(call.work())
        self._fill()

    def _forget(self, call: Call) -> None:
        with self._lock:
            if self._begun.pop(call, None) is not None:
                self._moved = self._now()
            self._tried.pop(call, None)

    def _keep(self, call: Call) -> None:
        def answered(future: Future[Any]) -> None:
            with self._lock:
                self._large.discard(call)
                self._moved = self._now()
            self._fill()

        with self._lock:
            self._large.add(call)
        call.future.add_done_callback(answered)

    def _late(self, begun: dict[Call, float], seconds: float) -> list[Call]:
        with self._lock:
            late = _older(begun, self._now() - seconds)
            for call in late:
                del begun[call]
            return late


def _older(begun: dict[Call, float], than: float) -> list[Call]:
    """They are in the order of their beginning."""
    return [call for call, _ in takewhile(lambda item: item[1] < than, begun.items())]


def _heaviest(calls: list[Call], count: int) -> list[Call]:
    """So many of them, of those addresses, and there of those connections, that have most."""
    if count <= 0:
        return []
    peers = {call: call.peer for call in calls}
    connections = Counter(peers.values())
    addresses = Counter(_address(peer) for peer in peers.values())
    return sorted(calls, key=lambda call: (-addresses[_address(peers[call])], -connections[peers[call]]))[:count]


def _address(peer: str) -> str:
    """An address without its port, as gRPC writes a peer."""
    return peer.rpartition(":")[0]
