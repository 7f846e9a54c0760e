"""Killing who is left, of one job or of all, with whoever appears meanwhile. Reactor thread."""

from __future__ import annotations

import os
import time
from collections.abc import Container

from txworker.jobs import MARK
from txworker.logs import Logger
from txworker.process.carried import Carried
from txworker.process.descendants import Descendants
from txworker.process.hunt import Choice, hunt
from txworker.process.procfs import Process, mark_of
from txworker.process.strangers import Strangers

_LAST_SECONDS = 2.0
_LAST_PAUSE = 0.002


class Killing:
    """Hunts among the worker's descendants."""

    _log = Logger()

    def __init__(self, descendants: Descendants, carried: Carried, strangers: Strangers) -> None:
        self._descendants = descendants
        self._carried = carried
        self._strangers = strangers

    def kill(self, found: list[Process], ours: Choice) -> list[Process]:
        """KILL to these and to whom the choice takes of the others; all of them."""
        for process in found:
            self._strangers.forget(process.pid)  # whoever is below it is wanted, too
        return hunt(found, self._hunting_ground, ours)

    def kill_everybody(self) -> None:
        """Every orphan and all below, whosever they are. Blocks until they are gone, two seconds at most."""
        deadline = time.monotonic() + _LAST_SECONDS
        while self._kill_once() and time.monotonic() < deadline:
            time.sleep(_LAST_PAUSE)

    def _kill_once(self) -> bool:
        """Whether there was anybody; in doubt there was."""
        try:
            if self._descendants.siblings is not None:
                self._descendants.siblings.look()
            return bool(self.kill([], self._everybody))
        except OSError as error:  # no descriptor to look with: that passes
            self._log.error("What jobs left cannot be looked for: {error}", error=error)
            return True

    def _hunting_ground(self, skipped: Container[int]) -> list[Process]:
        siblings = self._descendants.siblings
        if siblings is not None and siblings.known:
            siblings.look()
        return self._descendants.forest(skipped, self._carried.see)[0]

    def _everybody(self, forest: list[Process]) -> list[Process]:
        own = os.environ.get(MARK)  # we may be a job ourselves, and those from before, too
        siblings = self._descendants.siblings
        certain = () if siblings is None else siblings.known
        return [
            process
            for process in forest
            if not process.zombie
            and (self._descendants.alone or process.pid in certain or mark_of(process.pid) not in (None, own))
        ]
