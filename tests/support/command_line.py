"""The command line `txworker`, as a user calls it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
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
            words = [PROGRAM[-1], *self._words]
            done = self.fork_server.run(words, Path.cwd(), LIMIT, self._stdin, self._env)
        else:
            words = [*PROGRAM, *self._words]
            done = subprocess.run(
                words, input=self._stdin, env=self._env, capture_output=True, timeout=LIMIT, check=False
            )
        return done.returncode, done.stdout, done.stderr.decode()


def txworker(daemon: Daemon, *words: str, stdin: bytes = b"") -> Done:
    """One call for that worker."""
    return Call("--addr", daemon.addr, *words, stdin=stdin).done()
