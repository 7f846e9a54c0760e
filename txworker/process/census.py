"""
Who is left of a job: the worker's descendants that belong to it.

The worker adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)). So whatever a job's exited process left behind hangs
below a child of the worker that is no job's own process, an orphan or a sibling (siblings.py); when there is none,
nobody is left of anything, and to know that takes one read. Nobody who does not descend from the worker is ever looked
at.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.process.brand import brand
from txworker.process.carried import Carried
from txworker.process.descendants import Descendants, Start
from txworker.process.killing import Killing
from txworker.process.owners import Main, owners
from txworker.process.procfs import Process, ticks_since_boot
from txworker.process.siblings import Siblings
from txworker.process.strangers import Strangers
from txworker.process.sweeping import Sweeping
from txworker.waiting import Clock

_SHARE = 10
"""A census may take a tenth of the reactor's time; with many jobs running it serves all that ended meanwhile."""

_LOOKS = 5
_LOOK_SECONDS = 0.05
"""After that none is repeated, be it certain or not: the reactor has other things to do."""

_REAP_PAUSE = 0.1
_UNCERTAIN_PAUSE = 0.002


class Census:
    """
    Knows every job's own process and, on demand, whoever else descends from the worker. Reactor thread.

    Where an orphan may be somebody else's (descendants.alone) none is touched that only elimination would make a job's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mains: dict[int, Main] = {}
        self._expected = 0
        self._strangers = Strangers(clock)
        self._carried = Carried(self._mains, self._strangers)
        self.descendants = Descendants(self._mains, self._strangers)
        self._killing = Killing(self.descendants, self._carried, self._strangers)
        self._under_way: set[int] = set()
        self._sweeping: Sweeping | None = None
        self._asked: list[tuple[str, Deferred[list[Process]]]] = []
        self._timer: Any = None
        self._due = 0.0
        self._not_before = 0.0

    def watch(self, thread_id: int) -> None:
        """That thread makes the jobs' own processes: what these make to be their siblings is its child as well."""
        carried, descendants = self._carried, self.descendants
        siblings = Siblings(
            thread_id, self._mains, self._under_way, descendants.others, carried.sign, self._strangers.forget
        )
        descendants.siblings = siblings
        self._sweeping = Sweeping(self._clock, siblings, descendants, self._mains, carried, self._killing)

    def expect(self, job_id: str) -> int:
        """
        A job's own process is about to be made: whoever carries its signs is the job's. A number to leave() with.
        """
        self._expected -= 1
        self._under_way.add(self._expected)
        now = partial(ticks_since_boot, time.clock_gettime(time.CLOCK_BOOTTIME))
        self._know(self._expected, Main(job_id, brand(job_id), now))
        return self._expected

    def enter(self, pid: int, job_id: str) -> None:
        """A job's own process was started."""
        self._know(pid, Main(job_id, brand(job_id), Start(pid)))

    def exited(self, pid: int) -> None:
        """A job's own process has exited, and is still ours to wait for."""
        self._mains[pid].exited = True

    def leave(self, pid: int) -> None:
        """A job's own process was waited for, and nobody is left of the job; or it is not expected any more."""
        self._under_way.discard(pid)
        main = self._mains.pop(pid, None)
        if main is not None and not (self._sweeping is not None and self._sweeping.owes(pid, main)):
            self._carried.remove(main)

    def of(self, job_id: str) -> Deferred[list[Process]]:
        """Fires with who is left of that job: at once, or a little later when much is running."""
        answer: Deferred[list[Process]] = Deferred()
        self._asked.append((job_id, answer))
        self._schedule(0.0)
        return answer

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """KILL to these and to whoever else of that job there is or appears meanwhile; all of them."""
        return self._killing.kill(found, lambda forest: self._left(forest).get(job_id, []))

    def reapProcess(self) -> None:
        """
        Twisted, at SIGCHLD: an orphan may have exited.

        It is waited for at once: a chain of forks leaves hundreds a second, and to find them among them all is slow.
        """
        if self._sweeping is not None:
            self._sweeping.soon()
        if not self.descendants.reap():
            self._schedule(_REAP_PAUSE)

    def close(self) -> None:
        """Nobody will be looked for any more."""
        if self._sweeping is not None:
            self._sweeping.close()
        self.descendants.close()

    def kill_everybody(self) -> None:
        """
        Every orphan and all below, whosever they are: there is no job any more that they could be of.

        Blocks until they are gone, two seconds at most.
        """
        self._killing.kill_everybody()

    def _know(self, pid: int, main: Main) -> None:
        self._mains[pid] = main
        self._carried.add(main)

    def _schedule(self, seconds: float) -> None:
        now = self._clock.seconds()
        due = max(now + seconds, self._not_before)
        if self._timer is not None:
            if due >= self._due:
                return
            self._timer.cancel()
            self._timer = None
        if due <= now:
            self._take()
        else:
            self._due = due
            self._timer = self._clock.callLater(due - now, self._take)

    def _take(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        asked, self._asked = self._asked, []
        begun = self._clock.seconds()
        try:
            left, certain = self._look()
        except Exception:  # a mistake of ours, too, must be heard by those who wait, or their jobs would never end
            for _, answer in asked:
                answer.errback(Failure())
            return
        ended = self._clock.seconds()
        self._not_before = ended + _SHARE * (ended - begun)
        for job_id, answer in asked:
            if certain or job_id in left:
                if self._sweeping is not None:
                    self._sweeping.told(job_id, job_id in left)
                answer.callback(left.get(job_id, []))
            else:
                self._asked.append((job_id, answer))
                self._schedule(_UNCERTAIN_PAUSE)

    def _look(self) -> tuple[dict[str, list[Process]], bool]:
        """Who is left of each job; and whether nobody of one that is not named can have been overlooked."""
        deadline = self._clock.seconds() + _LOOK_SECONDS
        for _ in range(_LOOKS):
            forest, complete = self.descendants.forest(seen=self._carried.see)
            left = self._left(forest)
            certain = complete and not self._slipped(forest, left)
            if certain or self._clock.seconds() > deadline:
                break
        self._carried.keep(forest)
        return left, certain

    def _slipped(self, forest: list[Process], left: dict[str, list[Process]]) -> bool:
        owned = {process.pid for processes in left.values() for process in processes}
        return self.descendants.slipped(process for process in forest if process.pid not in owned)

    def _left(self, forest: list[Process]) -> dict[str, list[Process]]:
        """Who is left of each job of which there is anybody."""
        if not forest:
            return {}
        owner = owners(forest, self._mains, self._carried.of, self.descendants.alone)
        found: dict[str, list[Process]] = {}
        for process in forest:
            for job_id in () if process.zombie else owner[process.pid]:
                found.setdefault(job_id, []).append(process)
        return found
