"""
What is in the way of an exec or of entering a directory, and of which user: the kernel says no more than EACCES.

Asks the disk, after a start has failed. A guess by the mode bits where jobs run as another user: access control lists
and security modules are not looked at, and then the sentence says only what the kernel said.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from txworker.jobs.errors import shown

_FIRST_LINE_BYTES = 256
_ELF = b"\x7fELF"
_LINKS = 4
"""So many interpreters that are scripts themselves the kernel follows (BINPRM_MAX_RECURSION)."""


@dataclass(frozen=True)
class Subject:
    """Which user a job runs as; ours: as the worker's own."""

    uid: int
    groups: Collection[int]
    ours: bool

    @classmethod
    def of(cls, user: tuple[int, int, tuple[int, ...]] | None) -> Subject:
        """`user` as SpawnOptions has it; None: the worker's own."""
        if user is None:
            return cls(os.geteuid(), [], ours=True)
        uid, gid, groups = user
        return cls(uid, {gid, *groups}, ours=False)

    def __str__(self) -> str:
        try:
            name = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            name = str(self.uid)
        return f"the worker (user {name})" if self.ours else f"the jobs' user ({name})"

    def may_execute(self, path: str) -> bool:
        """Execute that file, or enter that directory, as far as its own mode says. True where nothing is known."""
        try:
            if self.ours:
                return os.access(path, os.X_OK, effective_ids=True)
            return self._mode_allows(os.stat(path))
        except OSError:
            return True

    def _mode_allows(self, status: os.stat_result) -> bool:
        mode = status.st_mode
        if self.uid == 0:
            return stat.S_ISDIR(mode) or bool(mode & 0o111)
        if status.st_uid == self.uid:
            return bool(mode & 0o100)
        return bool(mode & (0o010 if status.st_gid in self.groups else 0o001))


def entering(directory: str, subject: Subject) -> str:
    """What keeps the subject out of that directory; empty: not known."""
    place = _closed(directory, subject)
    return f"{subject} may not enter {'it' if place == directory else shown(place)}" if place else ""


def executing(path: str, directory: str, subject: Subject, problem: str) -> str:
    """What keeps the subject from executing that file, to which the kernel said `problem`, in that directory."""
    for number, place in enumerate(_interpreters(path, directory)):
        found = _executing(place, subject)
        if found:
            return found if number == 0 else f"its interpreter {shown(place)} {_of_another(found)}"
    return f"the kernel does not let {subject} execute it: {problem}"


def missing(path: str, directory: str) -> str:
    """A file that is there is not found by its exec: what it needs is not there."""
    if _first_line(path).startswith(_ELF):
        return "the loader that this program names is not there"
    for script, place in pairwise(_interpreters(path, directory)):
        if not os.path.exists(place):
            ending = ": the line ends with CR LF, as on Windows" if _first_line(script).endswith(b"\r") else ""
            return f"the interpreter that its first line names, {shown(place)}, is not there{ending}"
    return "the interpreter that its first line names is not there"


def _of_another(found: str) -> str:
    return found if found.startswith("is ") else f"cannot be used: {found}"


def _executing(path: str, subject: Subject) -> str:
    for place in dict.fromkeys((path, os.path.realpath(path))):
        closed = _closed(os.path.dirname(place), subject)
        if closed:
            return f"{subject} may not enter {shown(closed)}"
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ""
    if stat.S_ISDIR(mode):
        return "is a directory, not a program"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    if not mode & 0o111:
        return "is not executable (chmod +x)"
    if _flags(path) & os.ST_NOEXEC:
        return f"is on a file system that is mounted noexec ({_mount_point(path)})"
    return "" if subject.may_execute(path) else f"{subject} may not execute it"


def _closed(directory: str, subject: Subject) -> str:
    """The first directory on the way to that one, itself included, that the subject may not enter; empty: not known."""
    closed = (place for place in _above(directory) if os.path.isdir(place) and not subject.may_execute(place))
    return next(closed, "")


def _above(directory: str) -> Iterator[str]:
    """The root, and each directory on the way to that one, the last; then the same where links lead elsewhere."""
    for path in dict.fromkeys((os.path.abspath(directory), os.path.realpath(directory))):
        yield "/"
        place = ""
        for part in path.strip("/").split("/"):
            place = f"{place}/{part}"
            yield place


def _interpreters(path: str, directory: str) -> Iterator[str]:
    """That file, the interpreter that its first line names, that one's, and so on."""
    for _ in range(_LINKS + 1):
        yield path
        line = _first_line(path)
        words = line[2:].strip(b" \t").replace(b"\t", b" ").split(b" ", 1) if line.startswith(b"#!") else [b""]
        if not words[0]:  # a CR is part of the name, as the kernel has it
            return
        path = os.path.join(directory, os.fsdecode(words[0]))


def _first_line(path: str) -> bytes:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # not to wait for a pipe's other end
        try:
            return os.read(fd, _FIRST_LINE_BYTES).partition(b"\n")[0]
        finally:
            os.close(fd)
    return b""


def _flags(path: str) -> int:
    try:
        return os.statvfs(path).f_flag
    except OSError:
        return 0


def _mount_point(path: str) -> str:
    place = os.path.realpath(path)
    while not os.path.ismount(place):
        place = os.path.dirname(place)
    return place
