"""A reactor whose time and whose calls from threads are the test's."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

LIMIT = 20.0


class FakeReactor(Clock):
    """Runs calls from threads in run_until(), which also advances the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.crossings: queue.Queue[tuple[Any, ...]] = queue.Queue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any) -> None:
        self.crossings.put((callable, *args))

    def run_until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + LIMIT
        while not true():
            assert time.monotonic() < end
            self.advance(1)
            with contextlib.suppress(queue.Empty):
                while not true():
                    call, *arguments = self.crossings.get(timeout=0.01)
                    call(*arguments)
