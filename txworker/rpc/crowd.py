"""
Many threads that follow one thing which grows in the reactor: a job's output and its viewers.

The reactor is asked once for all of them and wakes one, which reads, wakes the next, and then sends: five hundred
threads that all want the interpreter at once would keep everybody else from it, and wake each other for nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure

from txworker.base.reactor import FromThreads

TURNS = 1
"""
Followers of one thing that are under way at a time, from being woken to having read. With 500 and 4, an unary call's
99th percentile was seven times that with 1, and no line came sooner.
"""

Ask = Callable[[int], "Deferred[None]"]
"""FromThreads thread: fires when there is something beyond that level, or nothing more will come."""


class Follower:
    """One thread's place in a crowd; wait() and pass_on() are for that thread alone."""

    __slots__ = ("_bell", "_check", "_crowd", "has_turn")

    def __init__(self, crowd: Crowd, check: Callable[[], None]) -> None:
        self._crowd = crowd
        self._check = check
        self._bell = threading.Lock()
        self._bell.acquire()
        self.has_turn = False

    def wait(self, beyond: int) -> None:
        """
        Until there is something beyond that level, or nothing more will come; now and then for nothing. What is there
        should be read at once, and then pass_on() called.

        Raises:
            Exception: what check() raises when this follower shall not wait any longer.
        """
        self.pass_on()
        waits = self._crowd.enter(self, beyond)
        self._check()  # after entering: whoever rings from now on finds us here
        if waits:
            self._bell.acquire()
            self._check()

    def pass_on(self) -> None:
        """Done reading, if it was our turn: the next one's."""
        if self.has_turn:
            self._crowd.pass_on(self)

    def ring(self) -> None:
        """Wake the thread, or have it not fall asleep. Any thread; does not block."""
        with suppress(RuntimeError):  # rung already
            self._bell.release()


class Crowd:
    """All who follow one thing. Any thread, except where said otherwise."""

    def __init__(self, reactor: FromThreads, ask: Ask) -> None:
        self._reactor = reactor
        self._ask = ask
        self._lock = threading.Lock()
        self._level = 0  # nobody who waits has seen less
        self._waiting: deque[Follower] = deque()
        self._woken: deque[Follower] = deque()  # to be rung when it is their turn
        self._turns = TURNS
        self._asked = False
        self._answer: Deferred[None] | None = None  # reactor thread only
        self._over = False
        self._mistake: BaseException | None = None
        self.followers: set[Follower] = set()

    def enter(self, follower: Follower, beyond: int) -> bool:
        """
        Wait until there is more; False: there is.

        Raises:
            Exception: what the reactor answered last, when that was a failure.
        """
        with self._lock:
            if self._mistake is not None:
                raise self._mistake
            if beyond < self._level:
                return False
            if beyond > self._level:
                self._wake()  # those who have seen less
                self._level = beyond
            self._waiting.append(follower)
            ask, self._asked = not self._asked, True
        if ask:
            self._reactor.callFromThread(self._begin)
        return True

    def pass_on(self, follower: Follower) -> None:
        """It has had its turn."""
        with self._lock:
            if follower.has_turn:
                follower.has_turn = False
                self._turns += 1
                self._ring()

    def leave(self, follower: Follower) -> None:
        """It will not come back."""
        self.pass_on(follower)
        with self._lock:
            for queue in (self._waiting, self._woken):
                with suppress(ValueError):
                    queue.remove(follower)

    def end(self) -> None:
        """Nobody follows any more."""
        self._over = True
        self._reactor.callFromThread(self._cancel)

    def _begin(self) -> None:
        if not self._over:
            self._answer = maybeDeferred(self._ask, self._level)
            self._answer.addCallbacks(self._answered, self._failed)

    def _answered(self, _: None) -> None:
        with self._lock:
            self._asked = False
            self._wake()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            with self._lock:
                self._mistake = failure.value
                self._wake()

    def _cancel(self) -> None:
        if self._answer is not None:
            self._answer.cancel()

    def _wake(self) -> None:
        self._woken.extend(self._waiting)
        self._waiting.clear()
        self._ring()

    def _ring(self) -> None:
        while self._turns and self._woken:
            follower = self._woken.popleft()
            follower.has_turn = True
            self._turns -= 1
            follower.ring()


class Crowds:
    """A crowd for each thing that is followed, as long as it is. Any thread."""

    def __init__(self, reactor: FromThreads) -> None:
        self._reactor = reactor
        self._lock = threading.Lock()
        self._crowds: dict[Hashable, Crowd] = {}

    @contextmanager
    def following(self, thing: Hashable, ask: Ask, check: Callable[[], None]) -> Iterator[Follower]:
        """A place among those who follow that thing; ask() is the first one's, and must be the same for all."""
        with self._lock:
            crowd = self._crowds.get(thing)
            if crowd is None:
                crowd = self._crowds[thing] = Crowd(self._reactor, ask)
            follower = Follower(crowd, check)
            crowd.followers.add(follower)
        try:
            yield follower
        finally:
            crowd.leave(follower)
            with self._lock:
                crowd.followers.discard(follower)
                if not crowd.followers:
                    del self._crowds[thing]
                    crowd.end()

    def ring(self) -> None:
        """Wake every follower there is, so that each checks."""
        with self._lock:
            followers = [follower for crowd in self._crowds.values() for follower in crowd.followers]
        for follower in followers:
            follower.ring()
