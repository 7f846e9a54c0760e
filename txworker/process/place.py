"""
Where children are made: in a thread apart where the kernel and our rights allow it, otherwise in the reactor thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Protocol

from twisted.internet.defer import Deferred, execute

from txworker.cores import NOBODY_PINNED, Cores
from txworker.logs import Logger
from txworker.process.apart import Apart, Make
from txworker.process.readable import ReactorWithReaders


class Place(Protocol):
    """
    Where children are made, one after another. Reactor thread.

    thread_id is that of the thread whose children they are; 0: the reactor thread.
    """

    thread_id: int

    def make(self, make: Make, descriptors: Mapping[int, int]) -> Deferred[int]:
        """
        Fires with what make() returns, called with the same descriptors under the numbers that they have there.

        They stay the caller's, and open until it fires. Cancelling stops nothing.

        Raises (through the Deferred):
            Exception: whatever make() raises.
            OSError: no descriptor is left for it.
        """

    def close(self, last: Callable[[], None]) -> None:
        """Nothing is made any more. Calls last() there, unless it cannot be waited for."""


class Here:
    """The reactor thread, which waits."""

    thread_id = 0

    def __init__(self, umask: int, cores: Cores = NOBODY_PINNED) -> None:
        self._umask = umask
        self._cores = cores

    def make(self, make: Make, descriptors: Mapping[int, int]) -> Deferred[int]:
        """As Place has it; has fired already."""
        ours = os.umask(self._umask)
        try:
            with self._cores.roaming():
                return execute(make, descriptors)
        finally:
            os.umask(ours)

    def close(self, last: Callable[[], None]) -> None:
        """As Place has it."""
        last()


def best_place(reactor: ReactorWithReaders, umask: int, cores: Cores) -> Place:
    """A thread apart where there can be one, otherwise the reactor thread; umask is the children's."""
    log = Logger()
    try:
        apart = Apart(reactor, umask, cores)
    except (AttributeError, OSError) as error:
        log.info("Jobs are launched in the reactor thread: {error}.", error=error)
        return Here(umask, cores)
    if apart.problem:
        log.info("Jobs are launched without real-time priority: {problem}.", problem=apart.problem)
    return apart
