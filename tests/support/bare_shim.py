"""A real shim with limits of its own, and the test in the place of its worker."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.daemon import LIMIT
from txworker.shim import main as shim_program
from txworker.shim.messages import PROTOCOL, SOCKET_NAME, Channel, Message

SPAWN: dict[str, Any] = {
    **{"type": "spawn", "ahead": 0.0, "env": {}, "whole_env": False, "directory": "/", "stdin": False, "feed": False},
    **{"separate_stderr": False, "terminal": None, "tag": 0, "limits": [], "user": None, "nice": 0, "grace": 1.0},
    **{"oom_score_adj": 0, "cgroup": None, "timeout": None, "quiet": None, "max_output": 0},
}


class BareShim:
    """
    Its messages go over `loop`, those of its spawn thread over `starts`. A receive fails after LIMIT seconds.

    limits: the children's soft and hard limit of descriptors, as the worker wants them.
    """

    def __init__(self, place: Path, process: subprocess.Popen[bytes]) -> None:
        self.place = place
        self.process = process
        self.pids: list[int] = []

    def connect(self, limits: tuple[int, int]) -> None:
        """As a new worker."""
        self.hello(limits)
        message, descriptors = self.loop.receive()
        while message["type"] != "hello":  # what the loop says of jobs may come before
            message, descriptors = self.loop.receive()
        starts = socket.socket(fileno=descriptors[0])
        starts.settimeout(LIMIT)
        self.starts = Channel(starts)

    def hello(self, limits: tuple[int, int], with_directory: bool = True, serving: bool = True) -> None:
        """Connect and say hello."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(LIMIT)
        connection.connect(str(self.place / SOCKET_NAME))
        self.loop = Channel(connection)
        defaults = {
            **{"environment": dict(os.environ), "umask": 0o022},
            **{"descriptor_limit": list(limits), "unattended_seconds": 0.0},
        }
        hello = {"type": "hello", "protocol": PROTOCOL, "defaults": defaults, "serving": serving}
        directory = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        self.loop.send(hello, [directory] if with_directory else [])
        os.close(directory)

    def leave(self) -> None:
        """The worker goes."""
        self.loop.close()
        self.starts.close()

    def request(self, job: str, *argv: str, **more: Any) -> None:
        """Ask for a start."""
        self.starts.send({**SPAWN, "job": job, "argv": argv, **more})

    def answer(self) -> tuple[Message, list[int]]:
        """The answer to a start, and the read ends of its output, which the caller closes."""
        message, descriptors = self.starts.receive()
        if message["type"] == "started":
            self.pids.append(message["pid"])
        return message, descriptors

    def start(self, job: str, *argv: str, **more: Any) -> bytes:
        """Start a job; returns what it prints."""
        self.request(job, *argv, **more)
        message, pipes = self.answer()
        assert message["type"] == "started", message
        output = b""
        with open(pipes[0], "rb", buffering=0) as pipe:
            while select.select([pipe], [], [], LIMIT)[0] and (data := pipe.read(4096)):
                output += data
        return output


@contextmanager
def bare_shim(place: Path, limits: tuple[int, int]) -> Iterator[BareShim]:
    """A shim with that soft and hard limit of descriptors. It and its jobs end with the test."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(place / SOCKET_NAME))
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)

    def prepare() -> None:
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, 5) for fd in (listener.fileno(), directory)]
        for number, fd in enumerate(kept, 3):  # never the same: dup2() would leave it closed on exec then
            os.dup2(fd, number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    program = [sys.executable, "-I", "-S", str(shim_program.__file__), "of a test"]
    process = subprocess.Popen(program, stdin=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=prepare)
    listener.listen()
    listener.close()
    os.close(directory)
    shim = BareShim(place, process)
    try:
        yield shim
    finally:
        for pid in shim.pids:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        process.kill()
        process.wait()
