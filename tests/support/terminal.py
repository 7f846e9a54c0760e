"""A program on a terminal of its own: a pty."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.support.daemon import LIMIT


class Terminal:
    """
    What a program shows on its terminal, and what is typed there. `shown` is all that came until now, `first_mode` what
    mode() was before the program was started.
    """

    def __init__(self, process: subprocess.Popen[bytes], fd: int, first_mode: list[int]) -> None:
        self.process = process
        self.first_mode = first_mode
        self.shown = ""
        self._fd = fd
        self._seen = 0

    def type(self, keys: str) -> None:
        """Type these keys; a control character is a signal where the terminal makes one of it."""
        os.write(self._fd, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Another size, of which the program hears by SIGWINCH."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """The terminal goes away, as at the end of a connection: the program gets SIGHUP and SIGCONT."""
        self.close()

    def close(self) -> None:
        """May be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def mode(self) -> list[int]:
        """The terminal's local modes and the like, as tcgetattr tells them."""
        return _mode(self._fd)

    def until(self, pattern: str) -> str:
        """Read until that has come; what came with it and before, since the last call."""
        begin = len(self.shown)
        end = time.monotonic() + LIMIT
        while not re.search(pattern, self.shown[begin:]):
            assert self._read(end - time.monotonic()), self.shown
        return self.shown[begin:]

    def sees(self, text: str) -> str:
        """Read until that text has come behind what was seen last; what came up to its end."""
        end = time.monotonic() + LIMIT
        while (at := self.shown.find(text, self._seen)) < 0:
            assert self._read(end - time.monotonic()), self.shown[self._seen :]
        begin, self._seen = self._seen, at + len(text)
        return self.shown[begin : self._seen]

    def ended(self) -> tuple[int, str]:
        """Wait for the program's end: its exit status, and all that was shown."""
        end = time.monotonic() + LIMIT
        while self._read(end - time.monotonic()):
            pass
        return self.process.wait(LIMIT), self.shown

    def _read(self, seconds: float) -> bool:
        """False: nothing will come any more."""
        assert select.select([self._fd], [], [], max(seconds, 0))[0], self.shown
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: no process has the terminal
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


def _mode(fd: int) -> list[int]:
    return [flags for flags in termios.tcgetattr(fd)[:4] if isinstance(flags, int)]


def without_waiting(shown: str) -> str:
    """What was shown but for the line that says that the worker's answer is awaited, which a busy machine may show."""
    return re.sub(r"txworker: waiting for the worker at \S+ …\r\x1b\[K", "", shown)


@contextmanager
def on_terminal(
    words: Sequence[str], env: Mapping[str, str] = os.environ, rows: int = 24, columns: int = 80
) -> Iterator[Terminal]:
    """
    A command with stdin, stdout and stderr on a terminal of this size, which is its controlling one (util-linux's
    setsid makes it so).
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    first_mode = _mode(ours)
    env = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        terminal = Terminal(process, ours, first_mode)
        try:
            yield terminal
        finally:
            process.kill()
            terminal.close()
