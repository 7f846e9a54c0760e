"""The limit of open descriptors: raised to the hard limit, and divided between clients, jobs and the worker itself."""

from __future__ import annotations

import os
import resource

from txworker.linux.rlimits import raise_descriptor_limit

OWN = 64
"""About how many descriptors the worker itself needs, with its store's connections."""

MOST_CONNECTIONS = 10_000
"""The most connections whatever the limit, because each costs memory."""

WEB_CONNECTIONS = 32
"""The most connections of the HTTP server, which a scraper and a few probes use."""

UNLIMITED = 2**20
"""The limit that is assumed where there is none."""


class DescriptorLimit:
    """
    Raises this process's soft limit to the hard limit when it is constructed. original: the soft and hard limit before
    that, which jobs get. Any thread.
    """

    def __init__(self) -> None:
        self.original = raise_descriptor_limit()
        hard = self.original[1]
        self._most = UNLIMITED if hard == resource.RLIM_INFINITY else hard

    @property
    def for_connections(self) -> int:
        """The most client connections: half of the descriptors that the worker itself does not need."""
        return min(max((self._most - OWN) // 2, 8), MOST_CONNECTIONS)

    def scarce(self) -> bool:
        """Whether three quarters are in use; the rest is reserved for jobs and the store."""
        try:
            lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        os.close(lowest_free)
        return lowest_free >= self._most - self._most // 4
