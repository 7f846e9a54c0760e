"""
Starting a process by fork and exec, with code in the child: limits, another user, a niceness, a terminal, or a cgroup
to begin in.

The spawn thread forks. Meanwhile the loop's thread is in a system call or waits for Python's lock. So the child, up to
its exec, needs nothing that the loop's thread may hold, as long as the child does not release Python's lock.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress

from txworker.linux import in_child
from txworker.linux.clone import clone_into_cgroup
from txworker.linux.executables import execute
from txworker.linux.rlimit_tag import as_limits
from txworker.linux.signals import default_dispositions

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any, NoReturn

_NO_MEMORY = struct.pack("i", errno.ENOMEM) + b"command"  # made before the memory limit is set


class CannotClone(OSError):
    """The kernel made no child."""


def fork_exec(
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    descriptors: Mapping[int, int],
    descriptor_limit: tuple[int, int],
    clone: bool = True,
) -> int:
    """
    Start the process; returns its pid. descriptors: the shim's, by the job's 0, 1 and 2. clone: into its cgroup; else
    it moves itself there, if the cgroup takes it.

    Raises:
        CannotClone: the kernel made no child.
        OSError: a step in the child failed, and there is no process; `filename` is the directory, the program or the
            step.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        limits = (("maxOpenFiles", resource.RLIMIT_NOFILE, *descriptor_limit), *request["limits"])
        pid = _fork(request["cgroup"] if clone else None)
        if pid == 0:
            if not clone:
                _enter(request["cgroup"])
            _become(request, environment, descriptors, (*limits, *as_limits(request["tag"])), writing)
        os.close(writing)
        writing = -1
        failure = os.read(reading, 64)  # empty when the exec succeeded, because it closes the other end
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if failure:
        os.waitpid(pid, 0)
        raise _failed(failure, request)
    return pid


def _failed(failure: bytes, request: Mapping[str, Any]) -> OSError:
    number, step = struct.unpack_from("i", failure)[0], failure[4:].decode()
    filename = {"directory": request["directory"], "command": request["argv"][0]}.get(step, step)
    return OSError(number, os.strerror(number), filename)


def _fork(cgroup: str | None) -> int:
    try:
        if not cgroup:
            return os.fork()
        directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        pid = -1
        try:
            pid = clone_into_cgroup(directory)
        finally:
            if pid != 0:  # the child must not call os.close(); its copy closes at the exec
                os.close(directory)
        return pid
    except OSError as error:
        raise CannotClone(error.errno, error.strerror, "clone") from error


def _enter(cgroup: str) -> None:
    """In the child; where that fails, its leftovers are found by other means."""
    with suppress(OSError):
        in_child.write_file(f"{cgroup}/cgroup.procs", b"0")


def _set_user(uid: int, gid: int, groups: Sequence[int]) -> None:
    """In the child; the uid last, because it takes the right to set the others."""
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def _become(
    request: Mapping[str, Any],
    environment: Mapping[str, str],
    descriptors: Mapping[int, int],
    limits: tuple[tuple[str, int, int, int], ...],
    writing: int,
) -> NoReturn:
    """In the child: do every step, then exec. A step that fails is reported by its errno and name."""
    step = "session"
    try:
        os.setsid()
        step = "descriptors"
        for child_fd, fd in sorted(descriptors.items()):  # the shim's are above 2 and close at the exec
            in_child.dup2(fd, child_fd)
        step = "terminal"
        if request["terminal"]:
            in_child.control_terminal(0)
        step = "oom_score_adj"
        if request["oom_score_adj"]:
            in_child.write_file("/proc/self/oom_score_adj", b"%d" % request["oom_score_adj"])
        step = "nice"
        if request["nice"]:
            os.nice(request["nice"])
        for name, number, soft, hard in limits:
            step = name
            resource.setrlimit(number, (soft, hard))
        step = "user"
        if request["user"] is not None:
            _set_user(*request["user"])
        step = "directory"
        if request["directory"] is not None:
            in_child.chdir(request["directory"])
        step = "command"
        default_dispositions()
        execute(request["argv"], environment)
    except OSError as error:
        in_child.write(writing, struct.pack("i", error.errno or 1) + step.encode()[:32])
    except MemoryError:  # the limit is that low
        in_child.write(writing, _NO_MEMORY)
    except BaseException:
        in_child.write(writing, struct.pack("i", errno.EINVAL) + step.encode()[:32])
    finally:
        os._exit(127)
