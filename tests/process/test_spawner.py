"""The ends of a child's pipes: whatever fails on the way, none is left open. Real pipes, no child."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from txworker.process import spawner as room
from txworker.process.place import Here
from txworker.process.spawner import SAME_PIPE, Spawner, _Ends
from txworker.process.transport import ChildTransport

BOTH: Mapping[int, int | str] = {0: 0, 1: "r", 2: "r"}


def opened() -> set[str]:
    """The pipes of this process."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return {link for link in links if os.path.lexists(link) and os.readlink(link).startswith("pipe:")}


def failing(times: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """As that one, but so many times only."""
    left = iter(range(times))

    def limited(*args: Any) -> Any:
        if next(left, None) is None:
            raise OSError(24, "Too many open files")
        return call(*args)

    return limited


class EndsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.before = opened()

    def assertNothingLeft(self) -> None:
        self.assertEqual(self.before, opened())

    def test_started(self) -> None:
        """The child's ends are closed when it has them; ours stay, and are read without blocking."""
        ends = _Ends({0: 0, 1: "r", 2: SAME_PIPE}, lambda fd: fd)
        self.assertEqual((0, ends.childs[1]), (ends.childs[0], ends.childs[2]))
        child: Any = object()
        self.assertIs(child, ends.over(child))
        self.assertRaises(OSError, os.fstat, ends.childs[1])
        self.assertFalse(os.get_blocking(ends.ours[1]))
        os.close(ends.ours[1])
        self.assertNothingLeft()

    def test_not_started(self) -> None:
        """When there is no child nothing is left open, and what was given stays open."""
        given = os.dup(0)
        ends = _Ends({**BOTH, 0: given}, lambda fd: fd)
        failure = Failure(OSError("no child"))
        self.assertIs(failure, ends.over(failure))
        self.assertNothingLeft()
        os.close(given)

    def test_no_descriptor_left(self) -> None:
        """Wherever on the way it fails, for the first pipe or the second."""
        for name in ("pipe", "set_blocking"):
            for times in (0, 1):
                with self.subTest(name=name, times=times):
                    patch = self.patch(os, name, failing(times, getattr(os, name)))
                    self.assertRaises(OSError, _Ends, BOTH, lambda fd: fd)
                    patch.restore()
                    self.assertNothingLeft()

    def test_cannot_be_kept(self) -> None:
        """Nor when one of ours cannot be moved to where it is to be kept."""
        for times in (0, 1):
            self.assertRaises(OSError, _Ends, BOTH, failing(times, lambda fd: fd))
            self.assertNothingLeft()

    def test_cannot_be_watched(self) -> None:
        """A child that nobody can watch is ended and waited for, and its pipes are closed."""

        def begin(pid: int, pipes: Mapping[int, int]) -> None:
            raise OSError(24, "Too many open files")

        ended: list[object] = []
        self.patch(os, "killpg", lambda *words: ended.append(words))
        self.patch(os, "waitpid", lambda *words: ended.append(words))
        self.patch(ChildTransport, "begin", lambda transport, pid, pipes: begin(pid, pipes))
        starts: Any = self
        descriptors: Any = self
        reactor: Any = self
        self.patch(room, "quickest_watch", lambda reactor, cores: reactor)
        spawner = Spawner(reactor, starts, descriptors, Here(0o022))
        transport = spawner.spawnProcess(ProcessProtocol(), "true", childFDs=BOTH)
        self.failureResultOf(transport.started, OSError)
        self.assertEqual([(77, 9), (77, 0)], ended)
        self.assertNothingLeft()

    def start(self, *words: object) -> int:
        """As Starts."""
        return 77

    def moved_up(self, fd: int) -> int:
        """As DescriptorLimit."""
        return fd
