"""
The preparer: a small process beside the worker that starts those jobs which need something done first.

Limits, another user and a cgroup must be set between a child's making and its first instruction. Only code running
in the child can do that, and the worker, full of threads, must never fork. This program has one thread, so it may.
Each child is made with CLONE_PARENT: it is the worker's own child from the beginning, not this program's.

Run as `python -I -S preparer.py FD SOFT`. Standard library only; one request on the socket FD at a time (prepared.py).
SOFT is the limit of open descriptors that children are to have, 0: the hard one.
"""

from __future__ import annotations

import array
import ctypes
import errno
import gc
import marshal
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

_CLONE3 = 435  # the same number on every architecture that has it
_CLONE_PARENT, _CLONE_INTO_CGROUP = 0x8000, 0x2_0000_0000  # <linux/sched.h>
ANSWER = struct.Struct("ii32s")
"""
pid, errno, the step that failed. Told twice of each child: once it is made, and when its exec has succeeded or failed.
"""
DEFAULT_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
)
"""Ignored by Python, or perhaps by who started us (nohup); a job begins with their defaults."""

_NO_MEMORY = struct.pack("i", errno.ENOMEM) + b"command"  # made before there is a limit


def serve(connection: socket.socket) -> None:
    """Start a child for each request, until the worker closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.freeze()
    while True:
        try:
            message, ancillary, _, _ = connection.recvmsg(64, 256, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # the worker has died with an answer unread
            return
        if not message:
            return
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        try:
            _start(connection, list(descriptors))
        except BrokenPipeError:  # the worker has died; its successor ends what was started
            return
        finally:
            for fd in descriptors:
                os.close(fd)


def _start(connection: socket.socket, descriptors: list[int]) -> None:
    """descriptors: the request, then stdin, stdout and stderr, then perhaps the directory of a cgroup."""
    with open(descriptors[0], "rb", closefd=False) as file:
        request = marshal.load(file)
    report, told = os.pipe2(os.O_CLOEXEC)
    try:
        pid = _clone(descriptors[4] if len(descriptors) > 4 else None)
        if pid == 0:
            _become(request, descriptors[1:4], told)
        os.close(told)
        told = -1
        connection.send(ANSWER.pack(pid, 0, b""))
        failure = os.read(report, 64)  # ends empty when the exec succeeded, which closes the other end
        error, step = (0, b"") if not failure else (struct.unpack_from("i", failure)[0], failure[4:])
        connection.send(ANSWER.pack(pid, error, step))
    except BrokenPipeError:
        raise
    except OSError as problem:
        connection.send(ANSWER.pack(0, problem.errno or 0, b"clone"))
    finally:
        os.close(report)
        if told >= 0:
            os.close(told)


def _clone(cgroup: int | None) -> int:
    flags = _CLONE_PARENT | (0 if cgroup is None else _CLONE_INTO_CGROUP)
    arguments = struct.pack("11Q", flags, *[0] * 9, cgroup or 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    pid: int = libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


def _become(request: dict[str, Any], descriptors: list[int], told: int) -> NoReturn:
    """In the child: every step, then the job itself. A step that fails is told by its name and errno."""
    step = "session"
    try:
        os.setsid()
        step = "descriptors"
        _place(descriptors, told)
        step = "oom_score_adj"
        if request["oom_score_adj"]:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(str(request["oom_score_adj"]))
        step = "nice"
        if request["nice"]:
            os.nice(request["nice"])
        for name, number, soft, hard in request["limits"]:
            step = name
            resource.setrlimit(number, (soft, hard))
        step = "user"
        if request["user"] is not None:
            uid, gid, groups = request["user"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        step = "directory"
        if request["directory"] is not None:
            os.chdir(request["directory"])
        step = "command"
        _default_signals()
        _execute(request)
    except OSError as error:
        os.write(told, struct.pack("i", error.errno or 1) + step.encode()[:32])
    except MemoryError:  # so low a limit
        os.write(told, _NO_MEMORY)
    except BaseException:
        os.write(told, struct.pack("i", errno.EINVAL) + step.encode()[:32])
    finally:
        os._exit(127)


def _place(descriptors: list[int], told: int) -> None:
    """0, 1 and 2, and nothing else that an exec would keep. All that we hold is above 2 and closes at the exec."""
    for child_fd, fd in enumerate(descriptors):
        os.dup2(fd, child_fd)


def _default_signals() -> None:
    for number in DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _execute(request: dict[str, Any]) -> None:
    """The first place that can be executed; else the error that says most: not permitted before not there."""
    problem: OSError | None = None
    for place in request["places"]:
        try:
            os.execve(place, request["argv"], request["environment"])
        except (FileNotFoundError, NotADirectoryError) as error:  # noqa: PERF203 a handful of times, once a start
            problem = problem or error
        except PermissionError as error:
            problem = error
    raise problem or FileNotFoundError(2, "no place to look")


if __name__ == "__main__":
    _connection = socket.socket(fileno=int(sys.argv[1]))
    _connection.set_inheritable(False)  # or each job had it, and could ask and answer here
    _soft, (_, _hard) = int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_soft or _hard, _hard))
    serve(_connection)
