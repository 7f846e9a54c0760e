"""One worker at a time in a state directory: a locked file, in which the worker writes down that it lives."""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from txworker.directory import open_own
from txworker.store.elapsed import Elapsed, boot_seconds, gone_on
from txworker.store.errors import InUse

BEAT_SECONDS = 1.0
"""How often a worker writes down that it lives."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

_LENGTH = 1024
"""Always rewritten whole and in place: that needs no room on a full disk. Workers before this wrote 256 bytes."""


@dataclass(frozen=True)
class Life:
    """
    Which worker, on which boot of the machine, and when it was last seen alive: wall clock, and ticks since boot.

    id is the directory's own: every worker that has it has the same. cgroups is the directory of its jobs' cgroups;
    empty when it has none, or one whose name finds no room here. elapsed: see elapsed.py; workers before this had none.
    """

    id: str
    pid: int
    boot_id: str
    alive_at: float
    alive_ticks: int
    cgroups: str = ""
    elapsed: float = 0.0


class Lease:
    """
    The lock on a state directory; `before` is the last sign of life of the worker that had it before, if any.

    elapsed() is the directory's time. stepped: so much the wall clock went, since then, beyond what has elapsed.

    Raises:
        InUse: another worker has it.
        OSError: the file cannot be made or written, or is not the worker's.
    """

    def __init__(self, directory: Path) -> None:
        self._fd = open_own(directory / "worker.lock", os.O_RDWR | os.O_CREAT)
        try:
            self.before = _read(self._fd)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.id = self.before.id if self.before else uuid.uuid4().hex[:12]
            self.boot_id = boot_id()
            self.elapsed, self.stepped = self._time_goes_on()
            self._cgroups = self.before.cgroups if self.before else ""  # until somebody has looked there
            self.beat()
        except BlockingIOError as error:
            os.close(self._fd)
            whose = f"the worker with pid {self.before.pid}" if self.before else "another worker"
            raise InUse(f"{directory} is in use by {whose}; every worker needs a state directory of its own") from error
        except BaseException:
            os.close(self._fd)
            raise

    def beat(self) -> None:
        """Write down that we live. Raises OSError when it cannot be written."""
        life = Life(self.id, os.getpid(), self.boot_id, time.time(), boot_ticks(), self._cgroups, self.elapsed())
        text = json.dumps(asdict(life))
        if len(text) >= _LENGTH:
            text = json.dumps(asdict(replace(life, cgroups="")))
        os.pwrite(self._fd, text.ljust(_LENGTH - 1).encode() + b"\n", 0)

    def remember(self, cgroups: str) -> None:
        """This is where our jobs' cgroups are; what the worker before had written down is forgotten. As beat()."""
        self._cgroups = cgroups
        self.beat()

    @property
    def rebooted(self) -> bool:
        """The machine was restarted since the worker before this one."""
        return self.before is not None and self.before.boot_id != self.boot_id

    def _time_goes_on(self) -> tuple[Elapsed, float]:
        before, wall = self.before, time.time()
        if before is None:
            return Elapsed(wall), 0.0
        booted_since = None if self.rebooted else boot_seconds() - before.alive_ticks / TICKS_PER_SECOND
        then = before.elapsed or before.alive_at
        now, stepped = gone_on(then, wall - before.alive_at, booted_since, boot_seconds())
        return Elapsed(now), stepped

    def close(self) -> None:
        """Let others have it."""
        os.close(self._fd)


def boot_id() -> str:
    """Of the machine's present run; empty where the kernel does not tell (random(4))."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def boot_ticks() -> int:
    """Now, in clock ticks since boot: as proc_pid_stat(5) counts a process's start."""
    return int(boot_seconds() * TICKS_PER_SECOND)


def _read(fd: int) -> Life | None:
    with suppress(ValueError, TypeError, AttributeError):
        said = json.loads(os.pread(fd, _LENGTH, 0)).items()
        known = {field.name for field in fields(Life)}
        return Life(**{name: value for name, value in said if name in known})  # a later version may say more
    return None
