"""Followers of one thing: the group's bookkeeping without threads, and waiting with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.waiting import Waiters
from txworker.jobs.errors import CallerGone
from txworker.rpc.followers import MAX_READING, Follower, FollowerGroup, FollowerGroups

LIMIT = 10.0


class FakeReactor:
    """The test runs its calls."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self.calls.append(lambda: callable(*args))

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class Thing:
    """Something that grows, and counts how often more() is called."""

    def __init__(self) -> None:
        self.size = 0
        self.asked = 0
        self.changed = Waiters()

    def more(self, beyond: int) -> Deferred[None]:
        self.asked += 1
        return self.changed.until(lambda: self.size > beyond)

    def grow(self, size: int) -> None:
        self.size = size
        self.changed.wake()


class FollowerGroupTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.thing = Thing()
        self.group = FollowerGroup(self.reactor, self.thing.more)

    def followers(self, count: int, beyond: int = 0) -> list[Follower]:
        """`count` followers, all waiting."""
        made = [Follower(self.group, lambda: None) for _ in range(count)]
        for follower in made:
            self.assertTrue(self.group.enqueue(follower, beyond))
        self.reactor.run()
        return made

    def woken(self, followers: list[Follower]) -> list[int]:
        return [index for index, follower in enumerate(followers) if follower.has_turn]

    def test_asked_once(self) -> None:
        """The reactor is asked once for any number of followers."""
        self.followers(100)
        self.assertEqual(1, self.thing.asked)

    def test_turns(self) -> None:
        """MAX_READING followers have a turn at a time. Each passes its turn on, until all had one."""
        followers = self.followers(MAX_READING + 3)
        self.thing.grow(1)
        self.assertEqual(list(range(MAX_READING)), self.woken(followers))
        for index in range(MAX_READING + 3):
            followers[index].pass_on()
        self.assertEqual([], self.woken(followers))
        late = self.followers(MAX_READING, beyond=1)
        self.thing.grow(2)
        self.assertEqual(list(range(MAX_READING)), self.woken(late))

    def test_leaving_keeps_no_turn(self) -> None:
        """A follower that leaves, woken or not, keeps no turn."""
        followers = self.followers(MAX_READING + 2)
        self.thing.grow(1)
        self.group.leave(followers[MAX_READING])
        self.group.leave(followers[0])
        self.assertEqual([*range(1, MAX_READING), MAX_READING + 1], self.woken(followers))

    def test_by_level(self) -> None:
        """A follower that has read less than another does not wait, and is woken if it waits."""
        behind = self.followers(1)
        ahead = self.followers(1, beyond=5)
        self.assertEqual([0], self.woken(behind))
        self.assertEqual([], self.woken(ahead))
        self.assertFalse(self.group.enqueue(Follower(self.group, lambda: None), 4))

    def test_asked_again(self) -> None:
        """After an answer the first follower that waits asks again, and growth in between is not missed."""
        (follower,) = self.followers(1)
        self.thing.grow(1)
        self.thing.grow(2)
        follower.pass_on()
        self.assertTrue(self.group.enqueue(follower, 1))
        self.reactor.run()
        self.assertTrue(follower.has_turn)
        self.assertEqual(2, self.thing.asked)

    def test_failure_is_raised(self) -> None:
        """A failed answer wakes every follower, and is raised in enqueue()."""
        answer: Deferred[None] = Deferred()
        self.group = FollowerGroup(self.reactor, lambda beyond: answer)
        (follower,) = self.followers(1)
        answer.errback(ValueError("no"))
        self.assertTrue(follower.has_turn)
        self.assertRaises(ValueError, self.group.enqueue, follower, 0)

    def test_asking_fails(self) -> None:
        """When asking itself fails, no follower keeps waiting."""

        def ask(beyond: int) -> Deferred[None]:
            raise ValueError("no")

        self.group = FollowerGroup(self.reactor, ask)
        (follower,) = self.followers(1)
        self.assertTrue(follower.has_turn)


class FollowerGroupsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.thing = Thing()
        self.groups = FollowerGroups(self.reactor)

    def test_the_last_one_ends_it(self) -> None:
        """When the last follower leaves, the reactor's wait is cancelled, and not before."""
        with ExitStack() as outer:
            follower = outer.enter_context(self.groups.following("thing", self.thing.more, lambda: None))
            with self.groups.following("thing", self.thing.more, lambda: None):
                follower._group.enqueue(follower, 0)
                self.reactor.run()
            self.reactor.run()
            self.assertEqual(1, len(self.thing.changed))
        self.reactor.run()
        self.assertEqual(0, len(self.thing.changed))
        self.assertEqual({}, self.groups._groups)

    def test_left_before_the_reactor_heard(self) -> None:
        """If all followers left before the reactor was asked, it does not wait."""
        with self.groups.following("thing", self.thing.more, lambda: None) as follower:
            follower._group.enqueue(follower, 0)
        self.reactor.run()
        self.assertEqual(0, self.thing.asked)

    def test_ring_frees_every_thread(self) -> None:
        """wake_all() makes every waiting thread call its check(), and end if that raises."""
        gone = threading.Event()
        homes = threading.Semaphore(0)
        inside = threading.Semaphore(0)

        def check() -> None:
            if gone.is_set():
                raise CallerGone
            inside.release()

        def follow() -> None:
            with self.groups.following("thing", self.thing.more, check) as follower:
                try:
                    follower.wait(0)
                except CallerGone:
                    homes.release()

        threads = [threading.Thread(target=follow, daemon=True) for _ in range(20)]
        for thread in threads:
            thread.start()
        for _ in threads:
            self.assertTrue(inside.acquire(timeout=LIMIT))
        gone.set()
        self.groups.wake_all()
        for _ in threads:
            self.assertTrue(homes.acquire(timeout=LIMIT))
