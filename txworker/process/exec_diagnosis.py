"""
Why a user may not execute a file or enter a directory, where the kernel says no more than EACCES.

It reads the disk, after a launch has failed, in the reactor: so it looks at a limited number of names.
Where jobs run as another user it considers the mode bits, but neither access control lists nor security modules; if the
mode bits do not explain the error, the answer is only what the kernel said.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from txworker.base.accounts import name_of_user
from txworker.jobs.errors import shown

_FIRST_LINE_BYTES = 256
"""What the kernel reads of a script's first line (BINPRM_BUF_SIZE)."""

_ELF = b"\x7fELF"
_MOST_PARTS = 64
"""How many names of a path are looked at: the kernel walks to each from the root, and a path may have 2,000."""

_LINKS = 4
"""How many interpreters may be scripts themselves (the kernel's BINPRM_MAX_RECURSION)."""


@dataclass(frozen=True)
class Subject:
    """The user that a job runs as; ours: the worker's own."""

    uid: int
    groups: Collection[int]
    ours: bool

    @classmethod
    def of(cls, user: tuple[int, int, tuple[int, ...]] | None) -> Subject:
        """`user` as in SpawnOptions; None: the worker's own."""
        if user is None:
            return cls(os.geteuid(), [], ours=True)
        uid, gid, groups = user
        return cls(uid, {gid, *groups}, ours=False)

    def __str__(self) -> str:
        name = name_of_user(self.uid)
        return f"the worker (user {name})" if self.ours else f"the jobs' user ({name})"

    def may_execute(self, path: str) -> bool:
        """Whether the mode of a file or directory lets the subject execute or enter it. True if unknown."""
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


def why_not_enterable(directory: str, subject: Subject) -> str:
    """Why the subject may not enter the directory; empty: unknown."""
    closed = _closed(directory, subject)
    return f"{subject} may not enter {'it' if closed == directory else shown(closed)}" if closed else ""


def why_not_executable(path: str, directory: str, subject: Subject, problem: str) -> str:
    """Why the subject may not execute the file in the directory; `problem` is what the kernel said."""
    for number, file in enumerate(_interpreters(path, directory)):
        found = _executing(file, subject)
        if found:
            return found if number == 0 else f"its interpreter {shown(file)} {_of_interpreter(found)}"
    return f"the kernel does not let {subject} execute it: {problem}"


def why_not_found(path: str, directory: str) -> str:
    """Why an exec does not find a file that exists: something that the file needs is missing."""
    files = list(_interpreters(path, directory))
    for script, interpreter in pairwise(files):
        if not os.path.exists(interpreter):
            ending = ": the line ends with CR LF, as on Windows" if _first_line(script).endswith(b"\r") else ""
            problem = why_not_there(interpreter) or "is not there"
            return f"the interpreter that its first line names, {shown(interpreter)}, {problem}{ending}"
    if _first_line(files[-1]).startswith(_ELF):
        program = "this program" if len(files) == 1 else shown(files[-1])
        return f"the loader that {program} names is not there"
    return "the interpreter that its first line names is a script itself, and so on, further than the kernel follows"


def why_not_a_program(path: str, directory: str) -> str:
    """Why the kernel takes a file for no program, or its interpreter (ENOEXEC), as the end of a sentence about it."""
    *scripts, file = _interpreters(path, directory)
    problem = _not_a_program(_first_line(file))
    return f"names {shown(file)} as its interpreter, which {problem}" if scripts else problem


def _not_a_program(first_line: bytes) -> str:
    if first_line.startswith(_ELF):
        return "is a program for another kind of machine, or a damaged one"
    if not first_line.startswith(b"#!"):
        return "is neither a program nor a script with a #! line"
    if len(first_line) < _FIRST_LINE_BYTES:
        return "has a #! line that names no interpreter"
    return f"has a #! line that is too long: the interpreter's name must end within its first {_FIRST_LINE_BYTES} bytes"


def why_not_there(path: str) -> str:
    """Why a path leads nowhere although a part of it is there: a link, or a file in the place of a directory."""
    for part in _above(path):
        subject = "" if part == os.path.abspath(path) else f"{shown(part)} "
        if os.path.islink(part) and not os.path.exists(part):
            return subject + _about_link(part)
        if subject and os.path.exists(part) and not os.path.isdir(part):
            return f"{subject}is not a directory"
    return ""


def _about_link(link: str) -> str:
    try:
        os.stat(link)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "is a symbolic link that leads back to itself"
    target = os.path.join(os.path.dirname(link), os.readlink(link))
    return f"is a symbolic link to {shown(target)}, which is not there"


def _of_interpreter(found: str) -> str:
    return found if found.startswith("is ") else f"cannot be used: {found}"


def _executing(path: str, subject: Subject) -> str:
    for name in dict.fromkeys((path, real_path(path))):
        closed = _closed(os.path.dirname(name), subject)
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
    """The first directory of that path that the subject may not enter; empty: unknown."""
    closed = (parent for parent in _above(directory) if os.path.isdir(parent) and not subject.may_execute(parent))
    return next(closed, "")


def _above(directory: str) -> Iterator[str]:
    """The root and each directory down to that one; then those of the real path, if links make it another one."""
    for path in dict.fromkeys((os.path.abspath(directory), real_path(directory))):
        yield "/"
        parent = ""
        for part in path.strip("/").split("/")[:_MOST_PARTS]:
            parent = f"{parent}/{part}"
            yield parent


def real_path(path: str) -> str:
    """As os.path.realpath(), but the path itself when more than _MOST_PARTS names and links would have to be read."""
    done, left = "/", os.path.join(os.getcwd(), path).split("/")[::-1]
    for _ in range(_MOST_PARTS):
        if not left:
            return done
        here = os.path.normpath(os.path.join(done, left.pop()))
        try:
            target = os.readlink(here)
        except OSError:  # not a link, or unreadable
            done = here
        else:
            left.extend(target.split("/")[::-1])
            done = "/" if target.startswith("/") else done
    return path


def _interpreters(path: str, directory: str) -> Iterator[str]:
    """The file, the interpreter that its first line names, that file's interpreter, and so on."""
    for _ in range(_LINKS + 1):
        yield path
        interpreter = _interpreter(_first_line(path))
        if not interpreter:
            return
        path = os.path.join(directory, os.fsdecode(interpreter))


def _interpreter(first_line: bytes) -> bytes:
    """The interpreter that the line names; empty: none, or the kernel does not read the name to its end."""
    if not first_line.startswith(b"#!"):
        return b""
    name, space, _ = first_line[2:].replace(b"\t", b" ").lstrip(b" ").partition(b" ")
    return name if space or len(first_line) < _FIRST_LINE_BYTES else b""  # a CR is a part of the name


def _first_line(path: str) -> bytes:
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # does not wait for the other end of a FIFO
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
    point = real_path(path)
    while not os.path.ismount(point):
        point = os.path.dirname(point)
    return point
