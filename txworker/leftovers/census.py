"""
What is left of a job: the shim's descendants that belong to it.

The shim adopts orphans (PR_SET_CHILD_SUBREAPER, prctl(2)). So whatever a job's exited process left behind hangs below
a child of the shim that is no job's own process, an orphan or a sibling (siblings.py); when there is none, nothing is
left of any job, and to know that takes one read. A process that does not descend from the shim is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.base.reactor import Clock
from txworker.leftovers.carried import Carried
from txworker.leftovers.descendants import Descendants, Start
from txworker.leftovers.killing import Killing
from txworker.leftovers.owners import Main, owners
from txworker.leftovers.siblings import Siblings
from txworker.leftovers.strangers import Strangers
from txworker.leftovers.sweeping import Sweeping
from txworker.leftovers.tags import tag_of
from txworker.linux.procfs import Process, ticks_since_boot

_SHARE = 10
"""A census may take a tenth of the reactor's time; with many jobs running it serves all that ended meanwhile."""

_LOOKS = 5
_LOOK_SECONDS = 0.05
"""After that none is repeated, be it certain or not: the reactor has other things to do."""

_UNCERTAIN_PAUSE = 0.002

_KEPT_SECONDS = 1.0
"""After a job whose leftovers are kept: then it is looked if there are any."""


class Census:
    """Knows every job's own process and, on demand, what else descends from the shim. Reactor thread."""

    def __init__(self, clock: Clock, shim_pid: int, thread_id: int) -> None:
        """thread_id: of the shim's thread whose children jobs are."""
        self._clock = clock
        self._mains: dict[int, Main] = {}
        self._expected = 0
        self._strangers = Strangers(clock)
        self._carried = Carried(self._mains, self._strangers, shim_pid)
        self._under_way: set[int] = set()
        siblings = Siblings(shim_pid, thread_id, self._mains, self._under_way, self._carried.sign)
        self.descendants = Descendants(shim_pid, self._mains, self._strangers, siblings)
        self._killing = Killing(self.descendants, self._carried, self._strangers)
        self._sweeping = Sweeping(clock, siblings, self.descendants, self._mains, self._carried, self._killing)
        self._kept: dict[int, Main] = {}
        self._asked: list[tuple[str, Deferred[list[Process]]]] = []
        self._timer: Any = None
        self._due = 0.0
        self._not_before = 0.0

    def expect(self, job_id: str) -> int:
        """
        A job's own process is about to be made: whoever carries its signs is the job's. A number to leave() with.
        """
        self._expected -= 1
        self._under_way.add(self._expected)
        now = partial(ticks_since_boot, time.clock_gettime(time.CLOCK_BOOTTIME))
        self._know(self._expected, Main(job_id, tag_of(job_id), now))
        return self._expected

    def enter(self, pid: int, job_id: str) -> None:
        """A job's own process was started."""
        self._know(pid, Main(job_id, tag_of(job_id), Start(pid)))

    def exited(self, pid: int) -> None:
        """A job's own process has exited, and is still ours to wait for."""
        self._mains[pid].exited = True
        self._sweeping.soon()

    def leave(self, pid: int) -> None:
        """A job's own process was waited for, and nobody is left of the job; or it is not expected any more."""
        self._under_way.discard(pid)
        main = self._mains.pop(pid, None)
        if main is not None and not self._sweeping.owes(pid, main):
            self._carried.remove(main)

    def keep(self, pid: int, job_id: str) -> None:
        """
        A job is over whose own process had that pid, and what it left is to be left alone. That stays known as its own,
        or it would be taken for another job's that ran at the time.
        """
        main = self._mains.get(pid) or Main(job_id, tag_of(job_id), lambda: 0)
        self.leave(pid)
        main.exited = True
        self._kept[pid] = main
        self._carried.add(main)
        self._schedule(_KEPT_SECONDS)

    def of(self, job_id: str) -> Deferred[list[Process]]:
        """Fires with who is left of that job: at once, or a little later when much is running."""
        answer: Deferred[list[Process]] = Deferred()
        self._asked.append((job_id, answer))
        self._schedule(0.0)
        return answer

    def kill(self, job_id: str, found: list[Process]) -> list[Process]:
        """KILL to these and to whoever else of that job there is or appears meanwhile; all of them."""
        return self._killing.kill(found, lambda forest: self._left(forest).get(job_id, []))

    def close(self) -> None:
        """Nothing will be looked for any more; what is asked already is never answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._asked.clear()
        self._sweeping.close()
        self.descendants.close()
        self._strangers.close()

    def kill_everybody(self, is_kept: Callable[[str], bool] = lambda job_id: False) -> None:
        """
        Every orphan and all below, whosever they are: there is no job any more that they could be of. But not what is
        left of a job whose leftovers are kept, as is_kept(job_id) says.

        Blocks until they are gone, two seconds at most.
        """
        self._killing.kill_everybody(partial(self._not_kept, is_kept))

    def _not_kept(self, is_kept: Callable[[str], bool], forest: list[Process]) -> list[Process]:
        tags = {main.tag for main in self._kept.values()}
        kept: set[int] = set()
        for process in forest:
            if (
                process.parent in kept
                or process.session in self._kept
                or any(
                    sign in tags if isinstance(sign, int) else is_kept(sign) for sign in self._carried.signs(process)
                )
            ):
                kept.add(process.pid)
        return [process for process in forest if process.pid not in kept]

    def _know(self, pid: int, main: Main) -> None:
        if pid in self._kept:  # the number was free: no session of that job has it any more
            self._expected -= 1
            self._kept[self._expected] = self._kept.pop(pid)
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
        if self._kept and certain:
            self._forget_kept(left)
        return left, certain

    def _forget_kept(self, left: Mapping[str, list[Process]]) -> None:
        """Those of which nothing is left."""
        for number, main in list(self._kept.items()):
            if main.job_id not in left:
                del self._kept[number]
                self._carried.remove(main)

    def _slipped(self, forest: list[Process], left: dict[str, list[Process]]) -> bool:
        owned = {process.pid for processes in left.values() for process in processes}
        return self.descendants.slipped(process for process in forest if process.pid not in owned)

    def _left(self, forest: list[Process]) -> dict[str, list[Process]]:
        """Who is left of each job of which there is anybody."""
        if not forest:
            return {}
        owner = owners(forest, {**self._kept, **self._mains} if self._kept else self._mains, self._carried.of)
        found: dict[str, list[Process]] = {}
        for process in forest:
            for job_id in () if process.zombie else owner[process.pid]:
                found.setdefault(job_id, []).append(process)
        return found
