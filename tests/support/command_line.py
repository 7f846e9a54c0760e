"""The command line `txworker`, as a user calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from tests.support.daemon import LIMIT, Daemon
from tests.support.fork_server import ForkServer
from tests.support.measured import MEASURING

PROGRAM = [sys.executable, "-m", "txworker"]

Done = tuple[int, bytes, str]
"""Exit status, stdout and stderr."""


def with_signals(action: str) -> list[str]:
    """
    The program, with SIG_DFL or SIG_IGN for the signals that stop a job, however the tests were started (nohup).

    Set by a process of its own: gRPC does not bear Python code between fork and exec.
    """
    numbers = [int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP), int(signal.SIGQUIT)]
    setting = f"import os, signal, sys; [signal.signal(number, signal.{action}) for number in {numbers}]"
    return [sys.executable, "-c", f"{setting}; os.execv(sys.argv[1], sys.argv[1:])", *PROGRAM]


class Call:
    """One call, whose standard streams are pipes, and its end."""

    fork_server: ClassVar[ForkServer | None] = None
    """Where there is one, the program need not import everything anew."""

    def __init__(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> None:
        self._words = words
        self._stdin = stdin
        self._env = dict(os.environ if env is None else env)

    def done(self) -> Done:
        """Wait for its end; LIMIT seconds at most."""
        if self.fork_server is not None and not MEASURING:
            return self._forked(self.fork_server)
        done = subprocess.run(
            [*PROGRAM, *self._words], input=self._stdin, env=self._env, capture_output=True, timeout=LIMIT, check=False
        )
        return done.returncode, done.stdout, done.stderr.decode()

    def _forked(self, server: ForkServer) -> Done:
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        from_stderr, stderr = os.pipe()
        process = server.begin([PROGRAM[-1], *self._words], Path.cwd(), (stdin, stdout, stderr), self._env)
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        errors: list[bytes] = []
        threads = [
            threading.Thread(target=self._feed, args=(to_stdin,)),
            threading.Thread(target=lambda: errors.append(_read(from_stderr))),
        ]
        limit = threading.Timer(LIMIT, process.kill)
        for thread in (*threads, limit):
            thread.start()
        printed = _read(from_stdout)
        for thread in threads:
            thread.join()
        status = process.wait(LIMIT)
        limit.cancel()
        return status, printed, errors[0].decode()

    def _feed(self, fd: int) -> None:
        with suppress(BrokenPipeError), open(fd, "wb", buffering=0) as pipe:
            rest = memoryview(self._stdin)
            while rest:
                rest = rest[pipe.write(rest) :]


def _read(fd: int) -> bytes:
    """All that comes."""
    with open(fd, "rb") as pipe:
        return pipe.read()


def txworker(daemon: Daemon, *words: str, stdin: bytes = b"") -> Done:
    """One call for that worker."""
    return Call("--addr", daemon.addr, *words, stdin=stdin).done()
