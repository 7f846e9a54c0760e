"""
One CPU for the worker's own threads, every CPU for its jobs.

A call passes from thread to thread a dozen times, and they share Python's lock, so hardly two of them ever run at once.
To wake a thread on another CPU takes 20 to 30 µs in a virtual machine, on the same one 2 µs. Threads that mostly work
outside Python's lock (copying output, sending streams) roam: they may run everywhere.
"""

from __future__ import annotations

import os
from contextlib import suppress


class Cores:
    """
    Pins the thread that makes it, and all that will be made by it, to one of the CPUs that it may run on.

    `home` False: nobody is pinned. Where the platform knows no affinity nothing happens either.
    """

    def __init__(self, home: bool = True) -> None:
        self._all = os.sched_getaffinity(0) if home and hasattr(os, "sched_getaffinity") else set()
        self._home = {sorted(self._all)[os.getpid() % len(self._all)]} if len(self._all) > 1 else set()
        self.settle()

    def settle(self) -> None:
        """This thread runs at home from now on."""
        self._may(self._home)

    def roam(self) -> None:
        """This thread may run everywhere from now on, and so may whatever it makes."""
        if self._home:
            self._may(self._all)

    def _may(self, cpus: set[int]) -> None:
        if cpus:
            with suppress(OSError):  # somebody took these CPUs from us since (cpuset(7)): the kernel has seen to it
                os.sched_setaffinity(0, cpus)

    def roaming(self) -> _Roaming:
        """Inside, this thread may run everywhere; a child that is made inside may for good."""
        return _Roaming(self)


class _Roaming:
    __slots__ = ("_cores",)

    def __init__(self, cores: Cores) -> None:
        self._cores = cores

    def __enter__(self) -> None:
        self._cores.roam()

    def __exit__(self, *_: object) -> None:
        self._cores.settle()


NOBODY_PINNED = Cores(home=False)
