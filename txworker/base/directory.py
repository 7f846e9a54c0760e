"""
Opens directories and files that belong to the worker, without following or trusting what other users put there.

A path is resolved once, one component at a time. Later operations use the directory's descriptor, so a user who can
write to a parent directory cannot redirect a worker that runs as root, not even between two of its system calls.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path

from txworker.base.accounts import name_of_user

_PATH_ONLY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_SYMLINKS = 40
"""The kernel's own limit on the way to a file (path_resolution(7))."""

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def refusal_for_root(permission_problem: str) -> str:
    """
    Why a worker that runs as root does not use a directory with this permission problem; "" when it may be used.

    Root reads and writes files on behalf of jobs that may run as other users, so a redirected path reaches any file.
    """
    if not permission_problem or os.geteuid() != 0:
        return ""
    return f"not safe for a worker that is root: {permission_problem}"


class NotOurFile(OSError):
    """The file at this path is not one that the worker made; strerror says what it is instead."""


class Directory:
    """
    A directory, created if it does not exist, and held open by a descriptor.

    `permission_problem`: how users other than the worker's user and root can change the directory's content or
    replace the directory; "" when they cannot. `path` is the path it was opened by.

    Raises:
        OSError: it cannot be created or entered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd, self.permission_problem = _walk(path, create=True)

    @property
    def in_place(self) -> bool:
        """The path still leads to this very directory."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        held = os.fstat(self.fd)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def replace(self, other: Directory) -> None:
        """Become the other directory and keep the descriptor number; the other one is closed. Any thread."""
        os.dup2(other.fd, self.fd, inheritable=False)
        os.close(other.fd)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """As open_own, for a name in this directory."""
        return open_own(name, flags, mode, self.fd)

    def create(self, name: str) -> None:
        """
        Create an empty file with mode 0600.

        Raises:
            OSError: the name exists already, or the file cannot be created.
        """
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd))

    def stat(self, name: str) -> os.stat_result:
        """The status of a name in it; symbolic links are not followed. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """The name exists in it; a dangling symbolic link counts."""
        try:
            self.stat(name)
        except OSError:
            return False
        return True

    def names(self) -> list[str]:
        """The names in it. Raises OSError."""
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def remove(self, name: str) -> None:
        """Remove the name if it exists, never the target of a link. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)


def open_own(name: str | Path, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """
    Open a file that belongs to the worker: a regular file with a single name; if the worker is root, owned by root.

    Never blocks (O_NONBLOCK). Callers must not pass O_TRUNC, because it would change a file that is then refused.

    Raises:
        NotOurFile: it is something else.
        OSError: it cannot be opened.
    """
    return open_own_and_stat(name, flags, mode, dir_fd)[0]


def open_own_and_stat(
    name: str | Path, flags: int, mode: int = 0o600, dir_fd: int | None = None
) -> tuple[int, os.stat_result]:
    """As open_own, with the status of the opened file."""
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotOurFile(errno.ELOOP, "it is a symbolic link", str(name)) from error
        raise
    found = os.fstat(fd)
    problem = _why_not_ours(found)
    if problem:
        os.close(fd)
        raise NotOurFile(errno.EPERM, problem, str(name))
    return fd, found


def permission_problem_of(path: Path) -> str:
    """
    As Directory.permission_problem, for the part of the path that exists; creates nothing.

    Raises:
        OSError: a component is not a directory, or cannot be entered.
    """
    fd, problem = _walk(path, create=False)
    if fd >= 0:
        os.close(fd)
    return problem


def _why_not_ours(found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file"
    # Only for root: a file system may report another owner for files that an unprivileged worker created.
    if os.geteuid() == 0 and found.st_uid != 0:
        return f"it belongs to user {name_of_user(found.st_uid)}"
    if found.st_nlink > 1:
        return f"it has {found.st_nlink} names (hard links)"
    return ""


def _walk(path: Path, create: bool) -> tuple[int, str]:
    """The directory's descriptor, -1 if it does not exist and `create` is false; the first permission problem met."""
    walk = _Walk(create)
    try:
        walk.go(str(path) if path.is_absolute() else os.path.join(os.getcwd(), path))
    except BaseException:
        os.close(walk.fd)
        raise
    if walk.missing:
        os.close(walk.fd)
        return -1, walk.problem
    return walk.fd, walk.problem


class _Walk:
    """Resolves a path from the root directory down; `fd` and `path` are the directory reached so far."""

    def __init__(self, create: bool) -> None:
        self._create = create
        self._trusted = {0, os.geteuid(), *_overflow_uid()}
        self._symlinks = 0
        self.fd = os.open("/", _PATH_ONLY)
        self.path = Path("/")
        self.problem = ""
        self.missing = False

    def go(self, path: str) -> None:
        """Enter each component in turn; stop at the first one that does not exist and is not to be created."""
        names = deque(_components(path))
        self._check_permissions(last=not names)
        while names and not self.missing:
            name = names.popleft()
            target = self._step(name, last=not names)
            if target:
                names.extendleft(reversed(_components(target)))

    def _step(self, name: str, last: bool) -> str:
        """Enter the directory `name`; if it is a symbolic link, return the link's target instead."""
        try:
            found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            if not self._create:
                self.missing = True
                return ""
            self._mkdir(name, last)
        else:
            if stat.S_ISLNK(found.st_mode):
                return self._read_link(name, found)
        self._enter(name)
        self._check_permissions(last)
        return ""

    def _read_link(self, name: str, link: os.stat_result) -> str:
        self._symlinks += 1
        if self._symlinks > _MAX_SYMLINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path / name))
        if link.st_uid not in self._trusted:
            self._note(f"{self.path / name} is a symbolic link of user {name_of_user(link.st_uid)}'s")
        target = os.readlink(name, dir_fd=self.fd)
        if target.startswith("/"):
            self._enter("/")
        return target

    def _mkdir(self, name: str, last: bool) -> None:
        try:
            os.mkdir(name, 0o700 if last else 0o755, dir_fd=self.fd)
        except FileExistsError:  # another process has just created it
            pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from error

    def _enter(self, name: str) -> None:
        path = self.path / name if name != ".." else self.path.parent
        try:
            fd = os.open(name, _PATH_ONLY, dir_fd=self.fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        os.close(self.fd)
        self.fd, self.path = fd, path

    def _check_permissions(self, last: bool) -> None:
        """
        Note whether other users can change this directory.

        A sticky directory is safe on the way, because users can rename only their own entries in it; it is not safe as
        the last component, because they can add entries.
        """
        found = os.fstat(self.fd)
        if found.st_uid not in self._trusted:
            self._note(f"{self.path} belongs to user {name_of_user(found.st_uid)}")
        elif found.st_mode & _WRITABLE_BY_OTHERS and (last or not found.st_mode & stat.S_ISVTX):
            self._note(f"{self.path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o})")

    def _note(self, problem: str) -> None:
        self.problem = self.problem or problem


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _overflow_uid() -> set[int]:
    """
    The uid that stands for root in a user namespace that does not map the overflow uid (user_namespaces(7)).

    Empty where that uid is mapped, because it is then a user's own.
    """
    with suppress(OSError, ValueError):
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
        ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(int(first) <= overflow < int(first) + int(count) for first, _, count in ranges):
            return {overflow}
    return set()
