"""
One CPU for the worker's own threads, every CPU for its jobs.

A call passes from thread to thread a dozen times, and the threads share Python's lock, so two of them rarely run at the
same time. To wake a thread on another CPU takes 20 to 30 µs in a virtual machine, on the same CPU 2 µs. Threads that
mostly work without Python's lock (copying output, sending streams) are not pinned.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class CpuPinning:
    """
    Pins the thread that makes it, and all threads that are started by it, to one of the CPUs that it may run on.

    With pin=False nothing is pinned.
    """

    def __init__(self, pin: bool = True) -> None:
        self._all = os.sched_getaffinity(0) if pin else set()
        self._one = {sorted(self._all)[os.getpid() % len(self._all)]} if len(self._all) > 1 else set()
        self.pin()

    def pin(self) -> None:
        """The calling thread runs on the one CPU from now on."""
        self._set(self._one)

    def unpin(self) -> None:
        """The calling thread, and what it starts, may run on every CPU from now on."""
        if self._one:
            self._set(self._all)

    @contextmanager
    def unpinned(self) -> Iterator[None]:
        """Inside, the calling thread may run on every CPU; a child that is started inside may for good."""
        self.unpin()
        try:
            yield
        finally:
            self.pin()

    def _set(self, cpus: set[int]) -> None:
        if cpus:
            with suppress(OSError):  # these CPUs were taken away since (cpuset(7)), and the kernel has moved the thread
                os.sched_setaffinity(0, cpus)
