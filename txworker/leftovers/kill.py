"""Killing processes that fork: stop them until no new one appears, so that none starts another unseen, then kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from signal import SIGKILL, SIGSTOP

from txworker.base.logs import Logger
from txworker.linux.procfs import Process, ProcessTable

KILL_SECONDS = 0.25
"""How long one kill() blocks at most. What it misses is found by the next scan."""

_ALL_SECONDS = 2.0
_ALL_PAUSE = 0.002

Scan = Callable[[Container[int]], list[Process]]
"""Returns processes, but not those in the container, nor, where they are roots, what is below them."""

Choice = Callable[[list[Process]], list[Process]]
"""Which of these processes to kill."""


class Killer:
    """Reactor thread. monotonic() and sleep() are as in `time`."""

    _log = Logger()

    def __init__(
        self,
        table: ProcessTable,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._monotonic = monotonic
        self._sleep = sleep

    def kill(self, found: list[Process], scan: Scan, choice: Choice) -> list[Process]:
        """
        KILL these and all others of the choice that there are or that appear meanwhile; returns all of them.

        As long as there are new roots only those are read, which takes less time than a chain of forks needs for its
        next link. Children of stopped processes are looked for last. Blocks for KILL_SECONDS at most.
        """
        stopped: dict[int, Process] = {}
        others: set[int] = set()
        new = found
        below = False
        deadline = self._monotonic() + KILL_SECONDS
        while self._monotonic() < deadline:
            for process in new:
                self._table.send(process, SIGSTOP)
                stopped[process.pid] = process
            fresh = [
                process for process in scan(others if below else {*others, *stopped}) if process.pid not in stopped
            ]
            chosen = {process.pid for process in choice(fresh)}
            new = [process for process in fresh if process.pid in chosen or process.parent in stopped]
            others.update(process.pid for process in fresh if process not in new)
            if below and not new:
                break
            below = not new
        for process in stopped.values():
            self._table.send(process, SIGKILL)
        return list(stopped.values())

    def until_none_is_left(self, kill_once: Callable[[], bool]) -> None:
        """Call kill_once() until it returns False: it found nothing to kill. Blocks for two seconds at most."""
        deadline = self._monotonic() + _ALL_SECONDS
        while self._any_was_left(kill_once) and self._monotonic() < deadline:
            self._sleep(_ALL_PAUSE)

    def _any_was_left(self, kill_once: Callable[[], bool]) -> bool:
        try:
            return kill_once()
        except OSError as error:  # there is no descriptor to read /proc with, which passes
            self._log.error("Cannot look for what jobs left behind: {error}", error=error)
            return True
