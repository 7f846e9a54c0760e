"""
What siblings of a job that is over there are: looked for once a second, as nobody does at its end among many jobs.

Who has exited is waited for by that, too, and who belongs to a job that runs is known when that one ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.leftovers.carried import Carried
from txworker.leftovers.descendants import Descendants
from txworker.leftovers.killing import Killing
from txworker.leftovers.owners import Main, owners
from txworker.leftovers.siblings import Siblings
from txworker.linux.procfs import Process

SWEEP_SECONDS = 1.0
"""Between two, if a child has exited since the last, or a job is over that nobody has looked for."""

_SHARE = 10
"""And of the reactor's time a tenth at most, as in census.py."""


class Sweeping:
    """
    mains: the jobs' own processes by their numbers; what they carry is forgotten here when nobody can be left of a job
    that is owed a look. Reactor thread.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        siblings: Siblings,
        descendants: Descendants,
        mains: Mapping[int, Main],
        carried: Carried,
        killing: Killing,
    ) -> None:
        self._clock = clock
        self._siblings = siblings
        self._descendants = descendants
        self._mains = mains
        self._carried = carried
        self._killing = killing
        self._unsought: set[str] = set()
        self._owed: dict[int, Main] = {}
        self._timer: Timer | None = None
        self._pause = SWEEP_SECONDS
        self._closed = self._failing = False

    def soon(self) -> None:
        """Somebody has exited."""
        if self._timer is None and not self._closed:
            self._timer = self._clock.callLater(self._pause, self._sweep)

    def told(self, job_id: str, found: bool) -> None:
        """Whether anybody is left of a job was told, as far as siblings were looked for."""
        if found or self._siblings.cheap:
            self._unsought.discard(job_id)
        else:
            self._unsought.add(job_id)

    def owes(self, pid: int, main: Main) -> bool:
        """A job is over whose own process had that pid: whether its siblings have not been looked for, and will be."""
        if main.job_id not in self._unsought:
            return False
        self._unsought.remove(main.job_id)
        self._owed[pid] = main
        self.soon()
        return True

    def close(self) -> None:
        """No more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        begun = self._clock.seconds()
        try:
            self._look()
            self._failing = False
        except OSError as error:  # no descriptor to look with: that passes, and who is owed a look stays so
            if not self._failing:
                self._log.warn("Siblings of jobs cannot be looked for: {error}", error=error)
            self._failing = True
        self._pause = max(SWEEP_SECONDS, _SHARE * (self._clock.seconds() - begun))
        if self._owed:
            self.soon()

    def _look(self) -> None:
        self._siblings.look()
        late = self._late(self._descendants.forest(seen=self._carried.see)[0]) if self._siblings.known else []
        if late:
            pids = [process.pid for process in late]
            self._log.info("Of jobs that are over {pids} are left; being ended.", pids=pids)
            self._killing.kill(late, self._late)
            return
        for main in self._owed.values():
            self._carried.remove(main)
        self._owed.clear()

    def _late(self, forest: list[Process]) -> list[Process]:
        """Who of these belongs to a job that is over."""
        over = {main.job_id for main in self._owed.values()}
        if not over:
            return []
        owner = owners(forest, {**self._owed, **self._mains}, self._carried.of, guess=False)
        return [process for process in forest if not process.zombie and over.intersection(owner[process.pid])]
