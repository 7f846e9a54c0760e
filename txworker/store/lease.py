"""
The lease on a state directory, which one worker has at a time: a locked file that it rewrites once a second.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from txworker.base.directory import open_own
from txworker.linux.clock import TICKS_PER_SECOND, boot_seconds
from txworker.linux.procfs import Process, ProcessTable
from txworker.store.elapsed import Elapsed, continued
from txworker.store.errors import InUse, Unusable
from txworker.store.open_files import identity, what_happened

FILE_NAME = "worker.lock"

BEAT_SECONDS = 1.0
"""How often a worker rewrites the file."""

_RECENT_SECONDS = 5.0
"""Since its latest beat a worker has not ended in disorder, or else just now."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_HOST_CHARACTERS = 64  # as many as Linux allows

_FILE_BYTES = 1024
"""The file always has this size and is rewritten in place, which needs no room on a full disk. Once it had 256."""


@dataclass(frozen=True)
class Heartbeat:
    """
    The contents of the file: its fields are the JSON's names, and every version reads those that it knows.

    id: the directory's; every worker that uses the directory has the same.
    alive_at, alive_ticks: when the worker wrote this, by the wall clock and in clock ticks since boot.
    cgroups: the directory of the jobs' cgroups; empty: there is none, or its name is too long for the file.
    stopped: the worker ended in order.
    elapsed: see elapsed.py; 0: an older version wrote this.
    number, revision: the highest that the worker used.
    name: what workers in the directory are called unless the configuration says otherwise; empty: an older version
    wrote this. instance: how many workers the directory has had.
    device, inode: the directory's. parent, parent_start: pid and start of the parent of the jobs' processes, the
    shim or, without one, the worker. 0: not known, or an older version wrote this.
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
    name: str = ""
    instance: int = 0
    device: int = 0
    inode: int = 0
    parent: int = 0
    parent_start: int = 0


def boot_id() -> str:
    """The kernel's id of the present boot (random(4)); empty when it cannot be read."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@dataclass(frozen=True)
class Clocks:
    """
    What a lease reads of the machine's time.

    wall: seconds since the epoch. since_boot: seconds. boot_id: differs for each boot.
    """

    wall: Callable[[], float] = time.time
    since_boot: Callable[[], float] = boot_seconds
    boot_id: Callable[[], str] = boot_id


class Lease:
    """
    The lock on a state directory.

    Nothing is written before the first beat() or set_jobs(): a worker that ends before it has taken the jobs over, for
    example because it is refused, leaves the heartbeat of the worker that had them.

    before: the last heartbeat of the worker that had the lease before; None: there was none.
    elapsed(): the directory's elapsed time.
    stepped: by how many seconds the wall clock was ahead of the elapsed time since `before`.
    number, revision: the highest that were used; the store updates them.
    name: the worker's, as configured, or else made of the host's name and the directory's id at the first start, and
    the same from then on. instance: 1 for the first worker in the directory, and one more for each that follows.

    Raises:
        InUse: another worker has it, or it is a copy of another directory, and the jobs there may run.
        OSError: the file cannot be created, or is not a file of the worker's own.
    """

    def __init__(
        self,
        directory: Path,
        clocks: Clocks = Clocks(),
        name: str = "",
        host: Callable[[], str] = socket.gethostname,
        processes: ProcessTable | None = None,
    ) -> None:
        self._directory = directory
        self._clocks = clocks
        self._locks = _Locks(directory)
        self.before = self._locks.before
        try:
            self.id = self.before.id if self.before else uuid.uuid4().hex[:12]
            self._own_name = (self.before and self.before.name) or _name(host(), self.id)
            self.name = name or self._own_name
            self.instance = (self.before.instance if self.before else 0) + 1
            self.boot_id = clocks.boot_id()
            self._refuse_copy(processes or ProcessTable())
            self.elapsed, self.stepped = self._continue_elapsed()
            self.number, self.revision = (self.before.number, self.before.revision) if self.before else (0, 0)
            self._cgroups = self.before.cgroups if self.before else ""  # until these cgroups are emptied
            self._parent = (self.before.parent, self.before.parent_start) if self.before else (0, 0)
        except BaseException:
            self._locks.close()
            raise

    def beat(self) -> None:
        """Rewrite the file. Raises OSError when it cannot be written."""
        self._write(stopped=False)

    def _write(self, stopped: bool) -> None:
        highest = self.number, self.revision
        now = self._clocks.wall(), int(self._clocks.since_boot() * TICKS_PER_SECOND)
        heartbeat = Heartbeat(
            self.id,
            os.getpid(),
            self.boot_id,
            *now,
            self._cgroups,
            stopped,
            self.elapsed(),
            *highest,
            self._own_name,
            self.instance,
            *(identity(self._locks.directory_fd) or (0, 0)),
            *self._parent,
        )
        text = json.dumps(asdict(heartbeat))
        if len(text) >= _FILE_BYTES:
            text = json.dumps(asdict(replace(heartbeat, cgroups="")))
        os.pwrite(self._locks.fd, text.ljust(_FILE_BYTES - 1).encode() + b"\n", 0)

    def set_jobs(self, cgroups: str, parent: Process | None) -> None:
        """
        Record where the jobs' cgroups are and which process is the jobs' parent, in place of what the worker before
        recorded.
        Raises as beat() does.
        """
        self._cgroups = cgroups
        self._parent = (parent.pid, parent.start) if parent else (0, 0)
        self.beat()

    def problem(self) -> str:
        """What happened to the locked file, as a sentence; empty: nothing."""
        name = str(self._directory / FILE_NAME)
        return "" if identity(name) == identity(self._locks.fd) else f"{name} {what_happened(name)}"

    @property
    def directory_deleted(self) -> bool:
        """The locked directory has no name any more."""
        return not os.fstat(self._locks.directory_fd).st_nlink

    def retake(self) -> None:
        """
        Lock the directory and the file that have these names now.

        Raises:
            InUse: another worker has them. The earlier locks are kept.
            OSError: the file cannot be created or written.
        """
        locks = _Locks(self._directory, self._locks)
        self._locks.close(but=locks)
        self._locks = locks
        self.beat()

    @property
    def rebooted(self) -> bool:
        """The machine was restarted since the heartbeat of the worker before."""
        return self.before is not None and self.before.boot_id != self.boot_id

    def _refuse_copy(self, processes: ProcessTable) -> None:
        """
        The jobs of a copied directory are the original's, and run on there. The new lock and
        the dead socket do not show that, so this worker would end them as lost.
        """
        before = self.before
        if before is None or self.rebooted or not before.parent:
            return
        if (before.device, before.inode) == identity(self._locks.directory_fd):
            return
        parent = processes.read(before.parent)
        if parent is None or parent.start != before.parent_start or parent.zombie:
            return
        raise InUse(
            f"{self._directory} is a copy of a directory whose jobs may still run, because their parent "
            f"(pid {parent.pid}) runs. Start the worker there; or, if these jobs may be lost, end that process "
            f"(kill -9 {parent.pid}) and start again"
        )

    def _continue_elapsed(self) -> tuple[Elapsed, float]:
        before, wall, since_boot = self.before, self._clocks.wall(), self._clocks.since_boot
        if before is None:
            return Elapsed(wall, since_boot), 0.0
        booted_since = None if self.rebooted else since_boot() - before.alive_ticks / TICKS_PER_SECOND
        then = before.elapsed or before.alive_at
        now, stepped = continued(then, wall - before.alive_at, booted_since, since_boot())
        return Elapsed(now, since_boot), stepped

    def close(self, in_order: bool = False) -> None:
        """Release the lease. in_order: the worker did everything that it does before it ends."""
        if in_order:
            with suppress(OSError):
                self._write(stopped=True)
        self._locks.close()


class _Locks:
    """
    The locks on the file and on the directory itself, so that removing the file frees no directory that is in use.

    already: earlier locks. Their directory is not locked again, because flock(2) refuses a second descriptor of it.
    """

    def __init__(self, directory: Path, already: _Locks | None = None) -> None:
        self.before: Heartbeat | None = None
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
            other = "another worker"  # one that has just started, if the pid is not a process's
            if self.before and os.path.exists(f"/proc/{self.before.pid}"):
                other = f"the worker with pid {self.before.pid}"
            raise InUse(f"{directory} is in use by {other}; every worker needs a state directory of its own") from error
        except OSError as error:
            self.close(but=already)
            if error.filename == FILE_NAME:
                error.filename = str(directory / FILE_NAME)
            raise

    def close(self, but: _Locks | None = None) -> None:
        """Release the locks, except those that `but` has, too. May be called again."""
        kept = () if but is None else (but.fd, but.directory_fd)
        for fd in (self.fd, self.directory_fd):
            if fd >= 0 and fd not in kept:
                os.close(fd)
        self.fd = self.directory_fd = -1


def _lock_directory(fd: int) -> None:
    """Some file systems (NFS) lock no directories; then the lock on the file has to do."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def take_lease(directory: Path, name: str = "") -> Lease:
    """
    The lease on a state directory, which is created if it does not exist. name: the worker's, if it is configured.

    Raises:
        Unusable: the worker cannot have it; the sentence says why.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Lease(directory, name=name)
    except OSError as error:
        raise Unusable(f"{error.filename or directory}: {error.strerror}") from error


def has_lease(directory: Path, process: Process, clocks: Clocks = Clocks()) -> bool:
    """
    Whether that process has the lease, as its latest beat says, and not an earlier one that had its pid. The locks are
    not touched.
    """
    beat = None
    with suppress(OSError):
        fd = os.open(directory / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            beat = _read(fd)
        finally:
            os.close(fd)
    if beat is None or beat.stopped or (beat.pid, beat.boot_id) != (process.pid, clocks.boot_id()):
        return False
    recent = clocks.since_boot() - beat.alive_ticks / TICKS_PER_SECOND < _RECENT_SECONDS
    return recent and process.start <= beat.alive_ticks


def _name(host: str, directory_id: str) -> str:
    """In ASCII without spaces, because it is sent as metadata. Two workers of one machine have different ones."""
    return f"{_NOT_IN_NAMES.sub('-', host)[:_HOST_CHARACTERS] or 'worker'}-{directory_id[:6]}"


def _read(fd: int) -> Heartbeat | None:
    with suppress(ValueError, TypeError, AttributeError):
        values = json.loads(os.pread(fd, _FILE_BYTES, 0)).items()
        known = {field.name for field in fields(Heartbeat)}
        return Heartbeat(**{name: value for name, value in values if name in known})  # a later version may have more
    return None
