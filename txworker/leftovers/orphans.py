"""
At start, after a crash: what of a dead worker's jobs still runs is found and killed.

They are no descendants of ours, so there is no ancestry to go by as in census.py; only what was written down before
the crash, and what /proc shows: evidence.py decides.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from signal import SIGKILL, SIGSTOP

from txworker.base.logs import Logger
from txworker.leftovers.evidence import DeadJob, Evidence, family
from txworker.leftovers.owners import Sign
from txworker.leftovers.tags import mark_of
from txworker.leftovers.unended import may_signal
from txworker.linux.procfs import Process, is_still, read_process, rlimit_tag_of, send

_SECONDS = 4.0
"""In all. Longer than that only a process lives that the kernel cannot end, or that is not ours to signal."""

_PASSES = 500
"""Over the processes that are new: a job that forks without pause is caught in one, a busy machine never ends."""

_QUIET_SECONDS = 0.2
"""Of passes that find nobody of a job: processes of others, which come and go all the time, must not cost seconds."""

_WAIT_SECONDS = 0.01
"""For the next link of a chain, between two looks at everybody."""

_PAUSE = 0.005


def end_orphans(
    jobs: Sequence[DeadJob],
    known_mark: Callable[[str], bool],
    alive_until_ticks: int,
    unended: list[Process] | None = None,
) -> int:
    """
    Kill what still runs of those jobs; how many that were. What could not be ended is added to `unended`. Before any
    job of our own runs.

    Blocks, some milliseconds when there is nobody, a few seconds at most. All are stopped before the first is
    killed, so that none can start another unseen.
    """
    evidence = Evidence(jobs, known_mark, alive_until_ticks)
    hunt = _Hunt(evidence)
    deadline = time.monotonic() + _SECONDS
    killed = False
    while left := hunt.stop_everybody():
        for process in left:
            send(process, SIGKILL)
        ours = any(may_signal(process.pid) for process in left)
        if killed and (not ours or time.monotonic() > deadline):  # the first look alone may take so long
            pids = [process.pid for process in left]
            Logger().error("Of jobs that a dead worker left, {pids} could not be ended.", pids=pids)
            if unended is not None:
                unended += left
            break
        killed = True
        time.sleep(_PAUSE)
    return len(hunt.stopped) - len(left)


class _Hunt:
    """Looks through /proc. `stopped` are pid and start of whoever was found."""

    def __init__(self, evidence: Evidence) -> None:
        self.stopped: set[tuple[int, int]] = set()
        self._evidence = evidence
        self._spared: set[int] = set()

    def stop_everybody(self) -> list[Process]:
        """Stop who belongs to a job, until nobody new appears; all that are there and are not zombies."""
        known: dict[int, Process] = {}
        found: dict[int, Process] = {}
        quiet_until, slipped = math.inf, False
        for number in range(_PASSES):
            fresh, missed = _fresh(known)
            if time.monotonic() > quiet_until or (not fresh and not missed and not slipped):
                break
            before = len(found)
            if number == 0:
                self._evidence.learn_sessions(fresh)
            self._spared = family(os.getpid(), known.values())
            living = [process for process in fresh if not process.zombie]  # a chain may leave thousands that are not
            for process in self._evidence.belonging([*found.values(), *living], signs, self._spared):
                if process.pid not in found:
                    send(process, SIGSTOP)
                    self.stopped.add((process.pid, process.start))
                    found[process.pid] = process
            # who went before it was known whose it was may have left a successor that was not in the list
            slipped = any(process.zombie or not is_still(process) for process in fresh if process.pid not in found)
            caught = (slipped or missed) and self._lie_in_wait()
            if number == 0 or caught or len(found) > before:
                quiet_until = time.monotonic() + _QUIET_SECONDS
        return list(found.values())

    def _lie_in_wait(self) -> bool:
        """
        Stop at sight who is born meanwhile, if it belongs; whether anybody was.

        While all of /proc is looked through, a chain of forks gets several links ahead; to look at the newest process
        alone takes less than one link lives.
        """
        newest = 0
        until = time.monotonic() + _WAIT_SECONDS
        with open("/proc/loadavg", "rb", buffering=0) as load:
            while time.monotonic() < until:
                before, newest = newest, int(os.pread(load.fileno(), 100, 0).split()[-1])  # proc_loadavg(5)
                process = read_process(newest) if newest != before else None
                if process is not None and process.pid not in self._spared and self._evidence.carries(process, signs):
                    send(process, SIGSTOP)
                    return True
        return False


def signs(process: Process) -> Iterator[Sign]:
    """What a process carries of a job: its rlimit tag, its environment tag."""
    yield rlimit_tag_of(process.pid)
    mark = mark_of(process.pid)
    if mark is not None:
        yield mark


def _fresh(known: dict[int, Process]) -> tuple[list[Process], bool]:
    """Whoever is in /proc and not yet known; and whether somebody went before he was looked at."""
    fresh, missed = [], False
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        if pid not in known:
            process = read_process(pid)
            if process is not None:
                known[pid] = process
                fresh.append(process)
            else:
                missed = True
    return fresh, missed
