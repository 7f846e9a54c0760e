"""
The limit of open descriptors: the worker needs many, a job gets what the worker was started with, and clients take no
more than leaves enough for jobs and the store.

A soft limit is inherited when a child is made, so it is lowered for that moment. Every thread of ours lives with
the lower one meanwhile; that hurts only who needs a new descriptor and finds none below it. A new one gets the lowest
free number, so once numbers reach half of the lower limit, what we hold for long is moved above it, between two
launches: there is nothing above it for us while it is lowered. Connections are gRPC's and stay where they are: where
they take most of the lower numbers the limit is not lowered any more, and the preparer, which has the original one,
makes the children.
"""

from __future__ import annotations

import fcntl
import os
import resource
import threading

OWN = 64
"""About so many the worker has for itself, with the connections to its store."""

MOST_CONNECTIONS = 10_000
"""More than so many clients a worker has not; each costs it some memory."""

UNLIMITED = 2**20
"""What is reckoned with where there is no limit."""

LOWERED_SECONDS = 0.05
"""So long a launch is waited for before something is moved up. It takes far less unless its exec waits for a disk."""


class DescriptorLimit:
    """Raises this process's own soft limit to the hard one when made. Any thread."""

    def __init__(self) -> None:
        self._lowered = threading.Lock()
        self._newest = 0
        self.original, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._hard, self._hard))

    def original_for_children(self) -> _Lowered:
        """A child that is made inside starts with the limit that the worker was started with."""
        return _Lowered(self.original, self._hard, self._lowered)

    @property
    def for_connections(self) -> int:
        """So many connections there may be at most: half of what the worker does not need for itself."""
        hard = UNLIMITED if self._hard == resource.RLIM_INFINITY else self._hard
        return min(max((hard - OWN) // 2, 8), MOST_CONNECTIONS)

    def scarce(self) -> bool:
        """Three quarters are taken: what is left is for jobs and the store, and not for viewers."""
        hard = UNLIMITED if self._hard == resource.RLIM_INFINITY else self._hard
        try:
            lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        os.close(lowest_free)
        return lowest_free >= hard - hard // 4

    @property
    def crowded(self) -> bool:
        """Three quarters of the lower numbers were taken when moved_up() was asked last, if there is a lower limit."""
        return self._newest >= self.original - self.original // 4 and self.original != self._hard

    def moved_up(self, fd: int) -> int:
        """The same open file, above the lower limit when it gets crowded below; fd itself where there is no room."""
        self._newest = fd
        if fd < self.original // 2 or self.original == self._hard:
            return fd
        if not self._lowered.acquire(timeout=LOWERED_SECONDS):
            return fd
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self.original)
        except OSError:
            return fd
        finally:
            self._lowered.release()
        os.close(fd)
        return high


class _Lowered:
    __slots__ = ("_hard", "_lowered", "_soft")

    def __init__(self, soft: int, hard: int, lowered: threading.Lock) -> None:
        self._soft = soft
        self._hard = hard
        self._lowered = lowered

    def __enter__(self) -> None:
        if self._soft != self._hard:
            self._lowered.acquire()
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._soft, self._hard))

    def __exit__(self, *_: object) -> None:
        if self._soft != self._hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self._hard, self._hard))
            self._lowered.release()
