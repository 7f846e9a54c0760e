"""
Programs that have imported everything before a test wants them: most of a start is that, and each start is a fork here.

It is the same interpreter in the same environment, which runs the same program with the same arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = Path(__file__).with_name("scripts") / "fork_server.py"


def _environment() -> dict[str, str]:
    """What a program of ours is started with; pytest's own word changes with every test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


class Forked:
    """One started program, with the names of subprocess.Popen; the server that forked it is its parent."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """
        Its exit status, once there is one.

        Raises:
            TimeoutExpired: it runs on after so many seconds.
        """
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                status = self._status.recv(16)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from None
            assert status, "the fork server has ended before what it started"
            self._status.close()
            self.returncode = int(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ends just now
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """By SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _write(fd: int, data: bytes) -> None:
    """All of it, or what is wanted of it."""
    with contextlib.suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
        rest = memoryview(data)
        while rest:
            rest = rest[pipe.write(rest) :]


def _read(fd: int) -> bytes:
    """All that comes."""
    with open(fd, "rb") as pipe:
        return pipe.read()


class ForkServer:
    """Starts one program, `twistd` or `txworker`; there is a process for it once the first is asked for."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def fits(self) -> bool:
        """What it starts has the environment that another process would get now."""
        return self._process is None or self._environment == _environment()

    def begin(
        self,
        argv: Sequence[str],
        directory: Path,
        streams: tuple[int, int, int],
        environment: Mapping[str, str] | None = None,
    ) -> Forked:
        """
        Start the program there; argv[0] is its own path, and `streams` are its stdin, stdout and stderr.

        Its environment is that of the server, or another one, which /proc does not tell.
        """
        if self._process is None:
            self._begin_server()
        other = None if environment is None else dict(environment)
        message = json.dumps({"argv": list(argv), "directory": str(directory), "environment": other}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._requests, [message], [*streams, theirs.fileno()])
        return Forked(int(self._requests.recv(16)), ours)

    def run(
        self,
        argv: Sequence[str],
        directory: Path,
        limit_seconds: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Start it as begin() does, with pipes for its streams, and wait for its end; after the limit it is killed."""
        (its_stdin, to_stdin), (from_stdout, its_stdout), (from_stderr, its_stderr) = os.pipe(), os.pipe(), os.pipe()
        process = self.begin(argv, directory, (its_stdin, its_stdout, its_stderr), environment)
        for fd in (its_stdin, its_stdout, its_stderr):
            os.close(fd)
        limit = threading.Timer(limit_seconds, process.kill)
        limit.start()
        with ThreadPoolExecutor(2) as threads:
            threads.submit(_write, to_stdin, stdin)
            errors = threads.submit(_read, from_stderr)
            printed = _read(from_stdout)
        status = process.wait(limit_seconds)
        limit.cancel()
        return subprocess.CompletedProcess(argv, status, printed, errors.result())

    def _begin_server(self) -> None:
        self._environment = _environment()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno()), self._program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what is no terminal is buffered
                pass_fds=[theirs.fileno()],
                env=self._environment,
            )

    def close(self) -> None:
        """There is none, until one is asked for again. What it has started has ended."""
        if self._process is not None:
            self._requests.close()
            self._process.wait()
            self._process = None
