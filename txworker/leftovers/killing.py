"""Killing who is left, of one job or of all, with whoever appears meanwhile. Reactor thread."""

from __future__ import annotations

import time
from collections.abc import Container

from txworker.base.logs import Logger
from txworker.leftovers.carried import Carried
from txworker.leftovers.descendants import Descendants
from txworker.leftovers.hunt import Choice, hunt
from txworker.leftovers.strangers import Strangers
from txworker.linux.procfs import Process

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

    def kill_everybody(self, choice: Choice) -> None:
        """Of every orphan and all below those of the choice. Blocks until they are gone, two seconds at most."""
        deadline = time.monotonic() + _LAST_SECONDS
        while self._kill_once(choice) and time.monotonic() < deadline:
            time.sleep(_LAST_PAUSE)

    def _kill_once(self, choice: Choice) -> bool:
        """Whether there was anybody; in doubt there was."""
        try:
            self._descendants.siblings.look()
            return bool(self.kill([], lambda forest: [process for process in choice(forest) if not process.zombie]))
        except OSError as error:  # no descriptor to look with: that passes
            self._log.error("What jobs left cannot be looked for: {error}", error=error)
            return True

    def _hunting_ground(self, skipped: Container[int]) -> list[Process]:
        siblings = self._descendants.siblings
        if siblings.known:
            siblings.look()
        return self._descendants.forest(skipped, self._carried.see)[0]
