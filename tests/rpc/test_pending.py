"""How many calls may be pending, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from txworker.rpc import pending_calls, pending_starts
from txworker.rpc.pending_calls import PendingCalls
from txworker.rpc.pending_starts import PendingStarts
from txworker.rpc.threads import MAX_WAITING, Work


class FakeCall:
    """A call whose message arrives when the test says so."""

    def __init__(self, peer: str = "ipv4:10.0.0.1:1") -> None:
        self.peer = peer
        self.size = 0
        self.streams = False
        self.ended = False
        self.future: Future[Any] = Future()
        self.refused: grpc.Status | None = None
        self._arrived: Callable[[Any], None] | None = None
        self._asked = False

    @property
    def begun(self) -> bool:
        """receive() was called."""
        return self._asked

    def receive(self, arrived: Callable[[Any], None]) -> bool:
        if not self.ended:
            self._arrived, self._asked = arrived, True
        return not self.ended

    def work(self) -> Work:
        return self.future, print, (self,), {}, self.size

    def drop(self) -> None:
        self.future.set_result(None)

    def refuse(self, status: grpc.Status) -> None:
        self.refused = status
        self.left()

    def left(self) -> None:
        """The client left, or the call was refused: gRPC reports that no message will come."""
        self.ended = True
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            arrived(self)

    def comes(self, size: int = 10) -> None:
        """The message arrives."""
        self.size = size
        arrived, self._arrived = self._arrived, None
        assert arrived is not None
        arrived(self)


class JustInTime(FakeCall):
    """A call whose message arrives when it is already to be refused."""

    def refuse(self, status: grpc.Status) -> None:
        self.comes()
        super().refuse(status)


class _Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.served: list[FakeCall] = []
        self.full = False

    def take(self, work: Work) -> bool:
        """In place of RpcThreads.take()."""
        if not self.full:
            self.served.append(work[2][0])
        return not self.full

    def assert_refused(self, code: grpc.StatusCode, words: str, call: FakeCall) -> None:
        """The call was refused with that code and those words, and not served."""
        assert call.refused is not None
        self.assertEqual(code, call.refused.code)
        self.assertIn(words, str(call.refused.details))
        self.assertTrue(call.future.done())
        self.assertNotIn(call, self.served)


class PendingCallsTests(_Base):
    def setUp(self) -> None:
        super().setUp()
        self.calls = PendingCalls(self.take, self.clock.seconds)

    def add(self, *peers: str) -> list[FakeCall]:
        """A call from each of these peers."""
        made = [FakeCall(peer) for peer in peers]
        for call in made:
            self.calls.add(call)
        return made

    def test_message(self) -> None:
        """A call is served when its message has arrived, and not before."""
        (call,) = self.add("ipv4:10.0.0.1:1")
        self.assertEqual([], self.served)
        call.comes()
        self.assertEqual([call], self.served)
        self.assertFalse(self.calls.busy)

    def test_none_comes(self) -> None:
        """After CALL_SECONDS the call is refused, and nothing of it is left."""
        (call,) = self.add("ipv4:10.0.0.1:1")
        self.clock.advance(1.0)
        self.calls.check()
        self.assertIsNone(call.refused)
        self.clock.advance(0.1)
        self.calls.check()
        assert call.refused is not None
        self.assertEqual(grpc.StatusCode.DEADLINE_EXCEEDED, call.refused.code)
        self.assertEqual("the call's message did not come within 1 s", call.refused.details)
        self.assertTrue(call.future.done())
        self.assertFalse(self.calls.busy)

    def test_left(self) -> None:
        """A call whose client leaves, before or after add(), is not served."""
        gone = FakeCall()
        gone.ended = True
        self.calls.add(gone)
        (leaving,) = self.add("ipv4:10.0.0.1:1")
        leaving.left()
        self.assertTrue(gone.future.done() and leaving.future.done())
        self.assertEqual([], self.served)
        self.assertFalse(self.calls.busy)

    def test_too_many(self) -> None:
        """Beyond the limit, the oldest calls of the address and connection with the most calls are ended."""
        lone = self.add("ipv4:10.0.0.9:1")
        few = self.add(*["ipv4:10.0.0.1:1"] * 20)
        many = self.add(*["ipv4:10.0.0.1:2"] * (pending_calls.MAX_CALLS - 21))
        honest = self.add("ipv4:10.0.0.9:2", "ipv6:%5B::1%5D:77")
        self.calls.check()
        self.assertEqual([], [call for call in many if call.refused])
        self.clock.advance(0.3)
        self.calls.check()
        self.assertEqual(many[:2], [call for call in many if call.refused])
        assert many[0].refused is not None
        self.assertEqual(grpc.StatusCode.RESOURCE_EXHAUSTED, many[0].refused.code)
        self.assertEqual([], [call for call in lone + few + honest if call.refused])

    def test_too_large(self) -> None:
        """A message of more than MAX_BYTES is refused; the first message of a stream is not."""
        large, stream = self.add("ipv4:10.0.0.1:1", "ipv4:10.0.0.1:1")
        stream.streams = True
        for call in (large, stream):
            call.comes(pending_calls.MAX_BYTES + 1)
        assert large.refused is not None
        self.assertIn("has 1048577 bytes", str(large.refused.details))
        self.assertTrue(large.future.done())
        self.assertEqual([stream], self.served)

    def test_no_room(self) -> None:
        """A call that the threads do not take is refused, and a later one is served."""
        first, second = self.add("ipv4:10.0.0.1:1", "ipv4:10.0.0.1:1")
        self.full = True
        first.comes()
        self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are waiting for a thread", first)
        self.full = False
        second.comes()
        self.assertEqual([second], self.served)

    def test_just_in_time(self) -> None:
        """A call that is told that it is late is not served, even if its message arrives at that moment."""
        call = JustInTime()
        self.calls.add(call)
        self.clock.advance(1.1)
        self.calls.check()
        self.assert_refused(grpc.StatusCode.DEADLINE_EXCEEDED, "did not come within 1 s", call)

    def test_complete_calls_are_never_too_many(self) -> None:
        """Thousands of complete calls of one connection are all served."""
        for _ in range(5000):
            (call,) = self.add("ipv4:10.0.0.1:1")
            self.clock.advance(0.01)
            self.calls.check()
            call.comes()
        self.assertEqual(5000, len(self.served))


class PendingStartsTests(_Base):
    def setUp(self) -> None:
        super().setUp()
        self.starts = PendingStarts(self.take, self.clock.seconds)

    def add(self, count: int, peer: str = "ipv4:10.0.0.1:1") -> list[FakeCall]:
        """So many StartJob calls."""
        made = [FakeCall(peer) for _ in range(count)]
        for call in made:
            self.starts.add(call)
        return made

    def look(self, seconds: float) -> None:
        """check() after so many seconds."""
        self.clock.advance(seconds)
        self.starts.check()

    def test_small_ones(self) -> None:
        """Each call is served when its message has arrived, and frees its slot for the next."""
        calls = self.add(20)
        self.assertEqual(calls[: pending_starts.SLOTS], [call for call in calls if call.begun])
        for call in calls:
            call.comes()
        self.assertEqual(calls, self.served)
        self.assertFalse(self.starts.busy)

    def test_large_ones(self) -> None:
        """A call with a large message keeps its slot until it is answered."""
        calls = self.add(pending_starts.SLOTS + 2)
        for call in calls[: pending_starts.SLOTS]:
            call.comes(pending_starts.LARGE_BYTES + 1)
        self.assertEqual(pending_starts.SLOTS, len(self.served))
        self.assertFalse(calls[pending_starts.SLOTS].begun)
        calls[0].future.set_result(None)
        self.assertTrue(calls[pending_starts.SLOTS].begun)
        self.assertFalse(calls[pending_starts.SLOTS + 1].begun)

    def test_none_comes(self) -> None:
        """A call with a slot has START_SECONDS."""
        (call,) = self.add(1)
        self.look(5.0)
        self.assertIsNone(call.refused)
        self.look(0.1)
        assert call.refused is not None
        self.assertEqual("the call's message did not come within 5 s", call.refused.details)

    def test_a_small_one_passes(self) -> None:
        """While half-sent calls have all slots, a small StartJob of another client is served within half a second."""
        halves = self.add(400)
        (honest,) = self.add(1, "ipv4:10.0.0.2:1")
        self.look(0.4)
        self.assertTrue(honest.begun)
        honest.comes()
        self.assertEqual([honest], self.served)
        for _ in range(40):
            self.look(0.2)
        self.assertTrue(all(call.refused for call in halves))
        self.assertFalse(self.starts.busy)

    def test_large_ones_of_one_client_wait(self) -> None:
        """While large requests make progress, the others wait in order, and none is refused."""
        calls = self.add(100)
        for _ in range(20):
            current = next(call for call in calls if call.begun and not call.ended and call not in self.served)
            current.comes(pending_starts.LARGE_BYTES + 1)
            current.future.set_result(None)
            self.look(0.11)
        self.assertEqual([], [call for call in calls if call.refused])
        self.assertEqual(calls[:20], [call for call in self.served if call in calls[:20]])

    def test_those_that_left(self) -> None:
        """A call whose client leaves while it waits is forgotten, and delays no other."""
        first = self.add(pending_starts.SLOTS)
        waiting = self.add(1000)
        for call in waiting:
            call.ended = True
        (last,) = self.add(1, "ipv4:10.0.0.2:1")
        first[0].comes()
        self.assertTrue(last.begun)
        self.look(0.1)
        for call in [*first[1:], last]:
            call.comes()
        self.assertFalse(self.starts.busy)

    def test_just_in_time(self) -> None:
        """A start that is told that it is late is not served, even if its message arrives at that moment."""
        call = JustInTime()
        self.starts.add(call)
        self.look(5.1)
        self.assert_refused(grpc.StatusCode.DEADLINE_EXCEEDED, "did not come within 5 s", call)

    def test_just_in_time_without_a_slot(self) -> None:
        """The same for one that is tried without a slot while large ones have them all."""
        for call in self.add(pending_starts.SLOTS):
            call.comes(pending_starts.LARGE_BYTES + 1)
        call = JustInTime()
        self.starts.add(call)
        for _ in range(2):
            self.look(0.4)
        self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "large starts are under way", call)

    def test_tried_and_given_a_slot(self) -> None:
        """A call that is tried while others make progress keeps its turn, and frees its slot."""
        first, second, *halves = self.add(pending_starts.SLOTS)
        third, fourth, tried = self.add(3)
        for call, next_one in ((first, third), (second, fourth)):
            self.clock.advance(0.25)
            call.comes()
            self.assertEqual((True, False), (next_one.begun, tried.begun))
        self.look(0.05)
        self.assertTrue(tried.begun)
        self.look(0.15)
        self.assertIsNone(tried.refused)
        for call in (*halves, third, fourth, tried):
            call.comes()
        self.assertIn(tried, self.served)
        self.assertFalse(self.starts.busy)

    def test_no_room(self) -> None:
        """A start that the threads do not take is refused, and its slot is free again."""
        calls = self.add(pending_starts.SLOTS + 1)
        self.full = True
        for call in calls[:-1]:
            call.comes(pending_starts.LARGE_BYTES + 1)
            self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are waiting for a thread", call)
        self.full = False
        calls[-1].comes()
        self.assertEqual([calls[-1]], self.served)
        self.assertFalse(self.starts.busy)

    def test_too_many(self) -> None:
        """At most MAX_WAITING wait for a slot; further ones are refused until some have theirs."""
        waiting = self.add(pending_starts.SLOTS + MAX_WAITING)
        (refused,) = self.add(1)
        self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are waiting", refused)
        waiting[0].comes()
        (taken,) = self.add(1)
        self.assertEqual((1, None), (len([call for call in (refused, *waiting) if call.refused]), taken.refused))
