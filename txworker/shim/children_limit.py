"""
The limit of open descriptors that jobs start with, where its soft part is below the shim's own.

A child has its parent's limits, and posix_spawn cannot set others. So while the spawn thread starts a child, that soft
limit is the shim's own, and the loop gets no descriptor with a number beyond it. The child has its limits once it is
cloned; its exec may take long. So the loop, when it needs numbers, raises the limit as soon as there is a child.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import TypeVar

    T = TypeVar("T")

_LOWEST = 3

_TRIES = 3
"""To get a high descriptor: between two of them another child may be started."""


class ChildrenLimit:
    """
    set() and lowered() are for the spawn thread, lift() and lowest_kept() for the loop's. Neither thread releases
    Python's lock between a look at the fields and setrlimit(2).

    wanted: the children's soft and hard limit, at first the shim's own. is_low: whether the shim's own is lowered.
    """

    def __init__(self) -> None:
        self._ours = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.wanted = self._ours
        self.is_low = False
        self._starts = 0

    def set(self, soft: int, hard: int) -> None:
        """
        Set the children's limits. They are at most the shim's own hard limit, which a worker with a higher one cannot
        raise.
        """
        hard = min(hard, self._ours[1])
        self.wanted = (min(soft, hard), hard)

    def lowest_kept(self, soft: int) -> int:
        """The lowest number for descriptors that are kept: beyond the children's limit, if the shim's own is higher."""
        return soft if soft < self._ours[0] else _LOWEST

    @contextmanager
    def lowered(self) -> Iterator[None]:
        """A child that is started inside has the children's soft limit, and the shim's hard one."""
        if self.wanted[0] >= self._ours[0]:
            yield
            return
        self._starts += 1
        self.is_low = True
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.wanted[0], self._ours[1]))
        try:
            yield
        finally:
            self.is_low = False
            resource.setrlimit(resource.RLIMIT_NOFILE, self._ours)

    def lift(self, has_child: Callable[[], bool]) -> bool:
        """
        Raise the limit to the shim's own, if has_child(): whether the child that is being started is cloned. Returns
        whether it is the shim's own now.
        """
        start = self._starts
        if self.is_low and has_child() and self.is_low and start == self._starts:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._ours)
            self.is_low = False
        return not self.is_low


class HighNumbers:
    """
    Moves the loop's descriptors beyond the limit that children start with, which is the shim's own while a child is
    started: a new descriptor needs a free number below it.

    lift(): as ChildrenLimit.lift(). above: the lowest number to move to.
    """

    def __init__(self, lift: Callable[[], bool]) -> None:
        self._lift = lift
        self.above = _LOWEST

    def high(self, fd: int) -> int:
        """
        The same descriptor by a high number. While the limit is low, fd itself, as long as half of the low numbers are
        free: to lift the limit costs more.
        """
        for _ in range(_TRIES):
            try:
                high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.above)
            except OSError:  # noqa: PERF203 it seldom repeats
                if fd < self.above // 2 or not self._lift():
                    break
            else:
                os.close(fd)
                return high
        return fd


def with_room(call: Callable[[], T], lift: Callable[[], bool]) -> T:
    """
    The result of a call that makes a descriptor. When no number is free, it is repeated if lift() has raised the limit.

    Raises:
        OSError: as the call.
    """
    try:
        return call()
    except OSError as error:
        if error.errno != errno.EMFILE or not lift():
            raise
        return call()
