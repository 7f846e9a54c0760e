"""
Directories that are the worker's own, and files in them: whatever others put there is neither followed nor trusted.

A path is looked up once and component by component; what is done in a directory afterwards goes by its descriptor. So
who can write to a parent cannot lead a worker that is root elsewhere, not even between two of its calls.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path

_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
"""On the way to a directory, as with the kernel (path_resolution(7))."""

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refusal(danger: str) -> str:
    """
    Why a directory with that danger will not do; empty: it does.

    A worker that is root reads and writes files for jobs that may be of another user's, so it can be led to anybody's.
    """
    return f"not safe for a worker that is root: {danger}" if danger and os.geteuid() == 0 else ""


class Foreign(OSError):
    """What stands in the place of a file of the worker's is none; strerror says what it is."""


class Directory:
    """
    A directory, made if it was not there, and held by a descriptor from now on.

    `danger`: how others than the worker's user and root can change what is in it, or put another in its place; empty:
    they cannot. `path` is what it was looked up by.

    Raises:
        OSError: it cannot be made or entered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd, self.danger = _walk(path, make=True)

    @property
    def in_place(self) -> bool:
        """Whoever looks up its path finds this very directory."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        held = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def replace(self, other: Directory) -> None:
        """Be that directory from now on, under the same descriptor; the other is closed. Any thread."""
        os.dup2(other.fd, self.fd, inheritable=False)
        os.close(other.fd)

    def close(self) -> None:
        """Hold it no longer."""
        os.close(self.fd)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """As open_own."""
        return open_own(name, flags, mode, self.fd)

    def make(self, name: str) -> None:
        """
        A new, empty file, for nobody else.

        Raises:
            OSError: there is something by that name, or it cannot be made.
        """
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd))

    def status(self, name: str) -> os.stat_result:
        """Of what has that name in it, links not followed. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """There is something by that name in it, be it a link to nowhere."""
        try:
            self.status(name)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """Of what is in it. Raises OSError."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """That name is gone, if it was there; never what a link leads to. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)


def open_own(name: str | Path, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """
    A descriptor of a file that is the worker's: a regular file under this one name, and for root, of root's.

    Waits for nobody, and changes nothing of what it refuses: O_TRUNC is not for here.

    Raises:
        Foreign: it is something else.
        OSError: it cannot be opened.
    """
    return open_and_look(name, flags, mode, dir_fd)[0]


def open_and_look(
    name: str | Path, flags: int, mode: int = 0o600, dir_fd: int | None = None
) -> tuple[int, os.stat_result]:
    """As open_own, with the status of what was opened."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Foreign(errno.ELOOP, "it is a symbolic link", str(name)) from error
        raise
    found = os.fstat(fd)
    problem = _foreign(found)
    if problem:
        os.close(fd)
        raise Foreign(errno.EPERM, problem, str(name))
    return fd, found


def danger_of(path: Path) -> str:
    """
    As Directory.danger, of as much of that path as there is; nothing is made.

    Raises:
        OSError: something on the way is no directory, or cannot be entered.
    """
    fd, danger = _walk(path, make=False)
    if fd >= 0:
        os.close(fd)
    return danger


def _foreign(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    if os.geteuid() == 0 != found.st_uid:  # others may have a file system that gives their files to somebody else
        return f"it belongs to {_name(found.st_uid)}"
    if found.st_nlink > 1:
        return f"it has {found.st_nlink} names (hard links)"
    return ""


def _walk(path: Path, make: bool) -> tuple[int, str]:
    """A descriptor of the directory, -1: it is not there and was not to be made; and the first danger on the way."""
    walk = _Walk(make)
    try:
        walk.go(str(path) if path.is_absolute() else os.path.join(os.getcwd(), path))
    except BaseException:
        os.close(walk.fd)
        raise
    if walk.missing:
        os.close(walk.fd)
        return -1, walk.danger
    return walk.fd, walk.danger


class _Walk:
    """From the root directory down; `fd` is where it is."""

    def __init__(self, make: bool) -> None:
        self._make = make
        self._trusted = {*_trusted(), *_of_nobody_here()}
        self._links = 0
        self.fd = os.open("/", _LOOK)
        self.here = Path("/")
        self.danger = ""
        self.missing = False

    def go(self, path: str) -> None:
        """Down that path, as far as there is any."""
        names = deque(_names(path))
        self._judge(last=not names)
        while names and not self.missing:
            name = names.popleft()
            target = self._step(name, last=not names)
            if target:
                names.extendleft(reversed(_names(target)))

    def _step(self, name: str, last: bool) -> str:
        """Into that directory; or, if it is a link, where that leads to."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            if not self._make:
                self.missing = True
                return ""
            self._made(name, last)
        else:
            if stat.S_ISLNK(found.st_mode):
                return self._followed(name, found)
        self._enter(name)
        self._judge(last)
        return ""

    def _followed(self, name: str, link: os.stat_result) -> str:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.here / name))
        if link.st_uid not in self._trusted:
            self._note(f"{self.here / name} is a symbolic link of {_name(link.st_uid)}'s")
        target = os.readlink(name, dir_fd=self.fd)
        if target.startswith("/"):
            self._enter("/")
        return target

    def _made(self, name: str, last: bool) -> None:
        try:
            os.mkdir(name, 0o700 if last else 0o755, dir_fd=self.fd)
        except FileExistsError:  # by another, just now
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.here / name)) from error

    def _enter(self, name: str) -> None:
        place = self.here / name if name != ".." else self.here.parent
        try:
            fd = os.open(name, _LOOK, dir_fd=self.fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(place)) from error
        os.close(self.fd)
        self.fd, self.here = fd, place

    def _judge(self, last: bool) -> None:
        """Whether others decide what is in here; in a sticky directory, they decide about what is theirs only."""
        found = os.fstat(self.fd)
        if found.st_uid not in self._trusted:
            self._note(f"{self.here} belongs to {_name(found.st_uid)}")
        elif found.st_mode & _OTHERS and (last or not found.st_mode & stat.S_ISVTX):
            self._note(f"{self.here} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})")

    def _note(self, danger: str) -> None:
        self.danger = self.danger or danger


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _of_nobody_here() -> set[int]:
    """What root's directories seem to belong to in a user namespace that has hardly any users (user_namespaces(7))."""
    with suppress(OSError, ValueError):
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(int(first) <= overflow < int(first) + int(count) for first, _, count in ranges):
            return {overflow}
    return set()


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
