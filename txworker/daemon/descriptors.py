"""
The limit of open descriptors: the worker has what its hard limit allows, and clients take no more than leaves
enough.
"""

from __future__ import annotations

import os
import resource

from txworker.linux.rlimits import raise_descriptor_limit

OWN = 64
"""About so many the worker has for itself, with the connections to its store."""

MOST_CONNECTIONS = 10_000
"""More than so many clients a worker has not; each costs it some memory."""

UNLIMITED = 2**20
"""What is reckoned with where there is no limit."""


class DescriptorLimit:
    """
    Raises this process's own soft limit to the hard one when made; `original` is what both were before. Any
    thread.
    """

    def __init__(self) -> None:
        self.original = raise_descriptor_limit()
        hard = self.original[1]
        self._most = UNLIMITED if hard == resource.RLIM_INFINITY else hard

    @property
    def for_connections(self) -> int:
        """So many connections there may be at most: half of what the worker does not need for itself."""
        return min(max((self._most - OWN) // 2, 8), MOST_CONNECTIONS)

    def scarce(self) -> bool:
        """Three quarters are taken: what is left is for jobs and the store, and not for viewers."""
        try:
            lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        os.close(lowest_free)
        return lowest_free >= self._most - self._most // 4
