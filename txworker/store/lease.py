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

from txworker.base.directory import open_own
from txworker.linux.clock import TICKS_PER_SECOND, boot_seconds, boot_ticks
from txworker.store.elapsed import Elapsed, gone_on
from txworker.store.errors import InUse, Unusable
from txworker.store.place import identity

FILE_NAME = "worker.lock"

BEAT_SECONDS = 1.0
"""How often a worker writes down that it lives."""


_LENGTH = 1024
"""Always rewritten whole and in place: that needs no room on a full disk. Workers before this wrote 256 bytes."""


@dataclass(frozen=True)
class Life:
    """
    Which worker, on which boot of the machine, and when it was last seen alive: wall clock, and ticks since boot.
    stopped: it has ended in order.

    id is the directory's own: every worker that has it has the same. cgroups is the directory of its jobs' cgroups;
    empty when it has none, or one whose name finds no room here. elapsed: see elapsed.py; workers before this had none.
    number, revision: the highest that were given.
    """

    id: str
    pid: int
    boot_id: str
    alive_at: float
    alive_ticks: int
    cgroups: str = ""
    stopped: bool = False
    elapsed: float = 0.0
    number: int = 0
    revision: int = 0


class Lease:
    """
    The lock on a state directory; `before` is the last sign of life of the worker that had it before, if any.

    elapsed() is the directory's time. stepped: so much the wall clock went, since then, beyond what has elapsed.

    Raises:
        InUse: another worker has it.
        OSError: the file cannot be made or written, or is not the worker's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held = _Held(directory)
        self.before = self._held.before
        try:
            self.id = self.before.id if self.before else uuid.uuid4().hex[:12]
            self.boot_id = boot_id()
            self.elapsed, self.stepped = self._time_goes_on()
            self.number, self.revision = (self.before.number, self.before.revision) if self.before else (0, 0)
            self._cgroups = self.before.cgroups if self.before else ""  # until somebody has looked there
            self.beat()
        except BaseException:
            self._held.close()
            raise

    def beat(self) -> None:
        """Write down that we live. Raises OSError when it cannot be written."""
        self._write(stopped=False)

    def _write(self, stopped: bool) -> None:
        told = self.number, self.revision
        now = time.time(), boot_ticks()
        life = Life(self.id, os.getpid(), self.boot_id, *now, self._cgroups, stopped, self.elapsed(), *told)
        text = json.dumps(asdict(life))
        if len(text) >= _LENGTH:
            text = json.dumps(asdict(replace(life, cgroups="")))
        os.pwrite(self._held.fd, text.ljust(_LENGTH - 1).encode() + b"\n", 0)

    def remember(self, cgroups: str) -> None:
        """This is where our jobs' cgroups are; what the worker before had written down is forgotten. As beat()."""
        self._cgroups = cgroups
        self.beat()

    def problem(self) -> str:
        """What has become of the locked file, in words; empty when it is what it was."""
        found = identity(str(self._directory / FILE_NAME))
        if found == identity(self._held.fd):
            return ""
        return f"{self._directory / FILE_NAME} was {'deleted or moved' if found is None else 'replaced'}"

    @property
    def directory_deleted(self) -> bool:
        """The locked directory is nowhere any more."""
        return not os.fstat(self._held.directory_fd).st_nlink

    def retake(self) -> None:
        """
        Lock what is now at the name of the directory, and of the file in it.

        Raises:
            InUse: another worker has it. What was held stays held.
            OSError: it cannot be made or written.
        """
        held = _Held(self._directory, self._held)
        self._held.close(but=held)
        self._held = held
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

    def close(self, in_order: bool = False) -> None:
        """Let others have it. in_order: all was done that a worker does before it ends."""
        if in_order:
            with suppress(OSError):
                self._write(stopped=True)
        self._held.close()


class _Held:
    """
    What is locked of a directory: the file, and the directory itself, so that removing the file gives it to nobody.

    A directory that is `already` locked is not locked again, for that would be refused to ourselves, too.
    """

    def __init__(self, directory: Path, already: _Held | None = None) -> None:
        self.before: Life | None = None
        self.fd = self.directory_fd = -1
        try:
            if already is not None and identity(str(directory)) == identity(already.directory_fd):
                self.directory_fd = already.directory_fd
            else:
                self.directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.fd = open_own(FILE_NAME, os.O_RDWR | os.O_CREAT, dir_fd=self.directory_fd)
            self.before = _read(self.fd)
            if already is None or self.directory_fd != already.directory_fd:
                _lock_directory(self.directory_fd)
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close(but=already)
            whose = f"the worker with pid {self.before.pid}" if self.before else "another worker"
            raise InUse(f"{directory} is in use by {whose}; every worker needs a state directory of its own") from error
        except OSError as error:
            self.close(but=already)
            if error.filename == FILE_NAME:
                error.filename = str(directory / FILE_NAME)
            raise

    def close(self, but: _Held | None = None) -> None:
        """Let others have it, but for what that one has, too. Again is harmless."""
        kept = () if but is None else (but.fd, but.directory_fd)
        for fd in (self.fd, self.directory_fd):
            if fd >= 0 and fd not in kept:
                os.close(fd)
        self.fd = self.directory_fd = -1


def _lock_directory(fd: int) -> None:
    """Where the file system locks no directories the file's lock is all there is (NFS)."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def take_lease(directory: Path) -> Lease:
    """
    The lease on a state directory, which is made when it is not there.

    Raises:
        Unusable: it cannot be had; the sentence says why.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Lease(directory)
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error


def boot_id() -> str:
    """Of the machine's present run; empty where the kernel does not tell (random(4))."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _read(fd: int) -> Life | None:
    with suppress(ValueError, TypeError, AttributeError):
        said = json.loads(os.pread(fd, _LENGTH, 0)).items()
        known = {field.name for field in fields(Life)}
        return Life(**{name: value for name, value in said if name in known})  # a later version may say more
    return None
