"""
Pending StartJob calls, which take turns in a few start slots.

The request of a StartJob may have 4 MiB. A call with a large one keeps its slot until it is answered. So the slots
limit how much memory all requests hold together. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import islice
from typing import Any

from txworker.jobs.errors import MessageLate, OutOfResources
from txworker.rpc.pending_calls import Call, older, refuse_surplus, serve
from txworker.rpc.threads import MAX_WAITING, Work
from txworker.rpc.wire.status import status_of

SLOTS = 8
"""StartJob calls with a message that is being received, or is large and not answered. Others wait, and send little."""

START_SECONDS = 5.0
"""How long the message may take in a slot: 4 MiB at 7 Mbit/s."""

LARGE_BYTES = 64 * 1024
"""A call with a larger message keeps its slot until it is answered."""

STUCK_SECONDS = 0.3
"""When no slot has become free for this long, many waiting calls at a time are tried without a slot."""

TRY_INTERVAL_SECONDS = 0.5
"""Before that, one waiting call is tried at this interval; the others wait for a slot in order."""

MAX_TRIED = 32
"""How many calls are tried at a time."""

CANDIDATES = 1000
"""The calls to try are chosen from this many of the newest waiting calls."""

TRY_SECONDS = 0.1
"""How long the message of a tried call may take: ample for a small message, and short for one that never comes."""


class PendingStarts:
    """
    Receives the messages in order, as slots become free, and passes each call to take().

    While the slots are taken, the newest waiting calls are tried for a short time. So a small StartJob overtakes large
    and half-sent ones.
    """

    def __init__(self, take: Callable[[Work], bool], now: Callable[[], float]) -> None:
        self._take = take
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[Call, None] = {}
        self._in_slots: dict[Call, float] = {}
        self._tried: dict[Call, float] = {}
        self._large: set[Call] = set()
        self._last_progress = self._last_try = now()

    @property
    def busy(self) -> bool:
        """Whether a message has not arrived."""
        return bool(self._in_slots or self._tried or self._waiting)

    def add(self, call: Call) -> None:
        """Receive the message of a call when a slot is free."""
        with self._lock:
            full = len(self._waiting) >= MAX_WAITING
            if not full:
                self._waiting[call] = None
        if full:
            refuse_surplus(call)
            call.drop()
        self._fill()

    def check(self) -> None:
        """End the calls that are late, and try some that wait."""
        stuck = self._now() - self._last_progress > STUCK_SECONDS
        with self._lock:
            late = self._remove_late(self._in_slots, START_SECONDS)
            large = self._remove_late(self._tried, TRY_SECONDS)
            if not stuck:  # additional slots, while other calls make progress
                self._in_slots |= dict.fromkeys(large, self._now())
                large = []
        for call in late:
            call.refuse(status_of(MessageLate(START_SECONDS)))
        for call in large:
            text = f"{SLOTS} large starts are under way already"
            call.refuse(status_of(OutOfResources(text, "LARGE_STARTS")))
        self._fill()
        for call in self._choose(MAX_TRIED if stuck else self._now() - self._last_try > TRY_INTERVAL_SECONDS):
            self._begin(call)

    def _fill(self) -> None:
        while (call := self._next()) is not None:
            self._begin(call)

    def _next(self) -> Call | None:
        with self._lock:
            if not self._waiting or len(self._in_slots) + len(self._large) >= SLOTS:
                return None
            self._last_progress = self._now()
            call = next(iter(self._waiting))
            del self._waiting[call]
            self._in_slots[call] = self._now()
            return call

    def _choose(self, count: int) -> list[Call]:
        with self._lock:
            self._waiting = {call: None for call in self._waiting if not call.ended}
            additional = len(self._in_slots) + len(self._large) - SLOTS
            chosen = self._newest(count - len(self._tried) - additional)
            for call in chosen:
                del self._waiting[call]
                self._tried[call] = self._last_try = self._now()
            return chosen

    def _newest(self, count: int) -> list[Call]:
        """The newest call of each connection, then others."""
        newest = list(islice(reversed(self._waiting), CANDIDATES)) if count > 0 else []
        one_of_each: dict[str, Call] = {}
        for call in newest:
            one_of_each.setdefault(call.peer, call)
        firsts = dict.fromkeys(one_of_each.values())
        return list(firsts | dict.fromkeys(newest))[:count] if count > 0 else []

    def _begin(self, call: Call) -> None:
        if not call.receive(self._arrived):
            self._forget(call)
            call.drop()

    def _arrived(self, call: Call) -> None:
        if not self._forget(call):  # check() refuses it
            call.drop()
        else:
            if call.size > LARGE_BYTES and not call.ended:
                self._keep_slot(call)
            serve(call, self._take)
        self._fill()

    def _forget(self, call: Call) -> bool:
        """Whether the call was pending until now."""
        with self._lock:
            if self._in_slots.pop(call, None) is None:
                return self._tried.pop(call, None) is not None
            self._last_progress = self._now()
            return True

    def _keep_slot(self, call: Call) -> None:
        def answered(future: Future[Any]) -> None:
            """The thread that answered the call: its slot is free."""
            with self._lock:
                self._large.discard(call)
                self._last_progress = self._now()
            self._fill()

        with self._lock:
            self._large.add(call)
        call.future.add_done_callback(answered)

    def _remove_late(self, begun: dict[Call, float], seconds: float) -> list[Call]:
        late = older(begun, self._now() - seconds)
        for call in late:
            del begun[call]
        return late
