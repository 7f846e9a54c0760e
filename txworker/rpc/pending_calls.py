"""
Pending calls (their message has not arrived): how many there may be, and for how long. StartJob: pending_starts.py.

A small message comes together with its call, or a tenth of a millisecond later, so a call that stays pending is
half sent. Any thread.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from itertools import takewhile
from typing import Any, Protocol

import grpc

from txworker.base.quantities import counted
from txworker.jobs.errors import MessageLate, OutOfResources
from txworker.rpc.threads import Work
from txworker.rpc.wire.status import status_of

MAX_CALLS = 256
"""Pending calls that are older than YOUNG_SECONDS."""

YOUNG_SECONDS = 0.25
"""How long a complete call may be pending on a busy machine, because thousands may come at once."""

MAX_BYTES = 1024 * 1024
"""The largest message of a call that is not StartJob: the ids of 25,000 jobs."""

CALL_SECONDS = 1.0
"""How long the message may take."""


class Call(Protocol):
    """The part of IncomingCall (incoming_call.py) that is used here."""

    size: int
    streams: bool
    future: Future[Any]

    @property
    def peer(self) -> str:
        """As IncomingCall.peer."""

    @property
    def ended(self) -> bool:
        """As IncomingCall.ended."""

    def receive(self, arrived: Callable[[Any], None]) -> bool:
        """As IncomingCall.receive(): arrived() is called in another thread, perhaps before this returns."""

    def work(self) -> Work:
        """As IncomingCall.work(). To be called once the message has arrived."""

    def drop(self) -> None:
        """As IncomingCall.drop()."""

    def refuse(self, status: grpc.Status) -> None:
        """As IncomingCall.refuse()."""


class PendingCalls:
    """
    Receives the message of each call at once, and passes the call to take().

    When more than MAX_CALLS are pending, some are ended: those of the address with the most pending calls, there those
    of the connection with the most, there the oldest. Beyond max_calls a call is refused at once; that is for streams.
    """

    def __init__(self, take: Callable[[Work], bool], now: Callable[[], float], max_calls: float = math.inf) -> None:
        self._take = take
        self._now = now
        self._max_calls = max_calls
        self._lock = threading.Lock()
        self._begun: dict[Call, float] = {}

    @property
    def busy(self) -> bool:
        """Whether a call is pending."""
        return bool(self._begun)

    def add(self, call: Call) -> None:
        """Begin to receive the message of a call."""
        with self._lock:
            full = len(self._begun) >= self._max_calls
            if not full:
                self._begun[call] = self._now()
        if full:
            waiting = counted(self._max_calls, "stream is waiting", "streams are waiting")
            text = f"grpc_server.max_streams: {waiting} for a message already"
            call.refuse(status_of(OutOfResources(text, "MAX_STREAMS")))
        if full or not call.receive(self._arrived):
            self._forget(call)
            call.drop()

    def check(self) -> None:
        """End the calls that are late, and those that are too many."""
        with self._lock:
            late = older(self._begun, self._now() - CALL_SECONDS)
            for call in late:
                del self._begun[call]
            too_many = _most_frequent(older(self._begun, self._now() - YOUNG_SECONDS), len(self._begun) - MAX_CALLS)
            for call in too_many:
                del self._begun[call]
        for call in late:
            call.refuse(status_of(MessageLate(CALL_SECONDS)))
        for call in too_many:
            text = f"{MAX_CALLS} calls are waiting for their messages already, most of them from this client"
            call.refuse(status_of(OutOfResources(text, "HALF_SENT_CALLS")))

    def _arrived(self, call: Call) -> None:
        if not self._forget(call):  # check() refuses it
            call.drop()
            return
        if call.size > MAX_BYTES and not call.streams:
            text = f"the call's message has {call.size} bytes; {MAX_BYTES} at most are taken of one that starts no job"
            call.refuse(status_of(OutOfResources(text, "REQUEST_TOO_LARGE")))
        serve(call, self._take)

    def _forget(self, call: Call) -> bool:
        """Whether the call was pending until now."""
        with self._lock:
            return self._begun.pop(call, None) is not None


def serve(call: Call, take: Callable[[Work], bool]) -> None:
    """Pass a call whose message has arrived to take(), which returns False to refuse it."""
    if call.ended:
        call.drop()
    elif not take(call.work()):
        refuse_surplus(call)
        call.drop()


def refuse_surplus(call: Call) -> None:
    """End a call because too many wait for a thread."""
    call.refuse(status_of(OutOfResources("too many calls are waiting for a thread already", "TOO_MANY_CALLS")))


def older(begun: dict[Call, float], than: float) -> list[Call]:
    """The calls that began before that time. The dict is in the order of beginning."""
    return [call for call, _ in takewhile(lambda item: item[1] < than, begun.items())]


def _most_frequent(calls: list[Call], count: int) -> list[Call]:
    """`count` of the calls: of the addresses with the most calls, and there of the connections with the most."""
    if count <= 0:
        return []
    peers = {call: call.peer for call in calls}
    connections = Counter(peers.values())
    addresses = Counter(_address(peer) for peer in peers.values())
    return sorted(calls, key=lambda call: (-addresses[_address(peers[call])], -connections[peers[call]]))[:count]


def _address(peer: str) -> str:
    """The address without the port, as gRPC writes a peer."""
    return peer.rpartition(":")[0]
