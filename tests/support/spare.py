"""
A twistd that has imported everything before a test wants it: most of a worker's start is that.

It is the same interpreter, which then runs the same twistd with the same arguments.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = Path(__file__).with_name("scripts") / "warm_twistd.py"


def _environment() -> dict[str, str]:
    """What a worker of ours is started with; pytest's own word changes with every test."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


class Spare:
    """One such process."""

    def __init__(self) -> None:
        self._environment = _environment()
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def fits(self) -> bool:
        """What it was started with is what it would be started with now."""
        return self._process.poll() is None and self._environment == _environment()

    def begin(self, argv: Sequence[str], directory: Path, output: int) -> subprocess.Popen[bytes]:
        """It is that worker from now on, and no spare one."""
        message = json.dumps({"argv": list(argv), "directory": str(directory)}).encode()
        with self._orders:
            socket.send_fds(self._orders, [message], [output])
        return self._process

    def close(self) -> None:
        """It is not needed."""
        self._orders.close()
        self._process.kill()
        self._process.wait()


class Spares:
    """There is always one, once one has been asked for; made while the test goes on."""

    def __init__(self) -> None:
        self._spare: Spare | None = None

    def begin(self, argv: Sequence[str], directory: Path, output: int) -> subprocess.Popen[bytes] | None:
        """None: there is none that fits."""
        process = None
        if self._spare is not None and self._spare.fits():
            process = self._spare.begin(argv, directory, output)
        elif self._spare is not None:
            self._spare.close()
        self._spare = Spare()
        return process

    def close(self) -> None:
        """There is none, until one is asked for again."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None
