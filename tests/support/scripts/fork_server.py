"""
Has imported what a program needs, and becomes that program as often as it is told to: each time in a fork of itself.

It has one thread and has begun nothing of gRPC's or of the reactor's, so a fork is as good as a new process. Before
each fork it is told the arguments, the directory and perhaps the environment, with the descriptors 0, 1 and 2 and a
socket, which hears the exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any


def twistd(argv: list[str]) -> None:
    """As the script of that name does."""
    sys.argv = argv
    sys.path[0] = os.path.dirname(argv[0])
    from twisted.scripts.twistd import run

    run()


def txworker(argv: list[str]) -> None:
    """As `python -m txworker` does."""
    sys.argv = argv
    sys.path[0] = os.getcwd()
    runpy.run_module("txworker", run_name="__main__", alter_sys=True)


PROGRAMS: dict[str, tuple[Callable[[list[str]], None], list[str], dict[str, str]]] = {
    "twistd": (
        twistd,
        [
            "twisted.application.app",
            "twisted.cred.strcred",
            "twisted.internet.epollreactor",
            "twisted.internet.ssl",
            "twisted.protocols.tls",
            "twisted.scripts.twistd",
            "txworker.daemon.assembly",
            "txworker.daemon.service",
            "txworker.daemon.startup",
        ],
        {"GRPC_ENABLE_FORK_SUPPORT": "0", "GRPC_VERBOSITY": "NONE"},
    ),
    "txworker": (txworker, ["txworker.cli"], {"GRPC_VERBOSITY": "NONE"}),
}
"""How each is run, what it imports, and the variables that it sets before that."""


class Server:
    """The children that live, by their pidfds, with the sockets that hear of their ends."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)

    def serve(self) -> list[str] | None:
        """In a child: its arguments. In the server: None, when no more is asked of it."""
        while True:
            for fd, _ in self._poll.poll():
                if fd in self._children:
                    self._reap(fd)
                    continue
                message, fds, _, _ = socket.recv_fds(self._requests, 1 << 20, 4)
                if not message:
                    return None
                argv = self._fork(json.loads(message), fds)
                if argv is not None:
                    return argv

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        pid, status = self._children.pop(pidfd)
        os.close(pidfd)
        _, ended = os.waitpid(pid, 0)
        with status:
            status.send(str(os.waitstatus_to_exitcode(ended)).encode())

    def _fork(self, request: dict[str, Any], fds: list[int]) -> list[str] | None:
        pid = os.fork()
        if pid == 0:
            for fd in range(3):
                os.dup2(fds[fd], fd)
            os.closerange(3, max(fds + list(self._children) + [self._requests.fileno(), 64]) + 1)
            _open_streams()
            os.chdir(request["directory"])
            if request["environment"] is not None:
                os.environ.clear()
                os.environ.update(request["environment"])
            return list(request["argv"])
        for fd in fds[:3]:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, socket.socket(fileno=fds[3]))
        self._poll.register(pidfd, select.POLLIN)
        self._requests.send(str(pid).encode())
        return None


def _open_streams() -> None:
    """Python's own streams know from their opening whether their descriptors can seek."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        opened = open(fd, before.mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        opened.reconfigure(line_buffering=before.line_buffering)
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def main() -> None:
    program, modules, variables = PROGRAMS[sys.argv[2]]
    os.environ.update(variables)
    for module in modules:
        importlib.import_module(module)
    for name in variables:
        del os.environ[name]
    assert threading.active_count() == 1, threading.enumerate()
    assert "twisted.internet.reactor" not in sys.modules
    argv = Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if argv is not None:
        program(argv)


if __name__ == "__main__":
    main()
