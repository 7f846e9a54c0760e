"""The reactor's threads, which read and write files: one that waits for ever must not keep the worker alive."""

from __future__ import annotations

import threading
import time
from typing import Any

JOIN_SECONDS = 2.0
"""How long the process waits at its end for the reactor's threads, all together."""


def bound_join(pool: Any, seconds: float = JOIN_SECONDS) -> None:
    """
    Let stop() of a twisted.python.threadpool.ThreadPool wait for so long at most. Call it before it has threads.

    By default it waits for as long as each of them works, and so does the interpreter at its end.
    """
    ends: list[float] = []

    class DaemonThread(threading.Thread):
        """One that the interpreter does not wait for."""

        def join(self, timeout: float | None = None) -> None:
            """As Thread.join(), with the limit of the pool where there is none."""
            if timeout is None:
                ends.append(time.monotonic() + seconds)
                timeout = max(0.0, ends[0] - time.monotonic())
            super().join(timeout)

    pool.threadFactory = lambda **options: DaemonThread(daemon=True, **options)
