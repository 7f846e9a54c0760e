"""The terminal that this program runs in: its size, its raw mode, and the keys by which a user leaves a job."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Callable
from contextlib import suppress

STDIN = 0
_READ_BYTES = 4096
_NEW_LINE = b"\r\n"
_ESCAPE, _LEAVE = b"~", b"."


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return os.isatty(STDIN)


def size() -> tuple[int, int]:
    """Rows and columns; 0 if they are unknown."""
    try:
        columns, rows = os.get_terminal_size(STDIN)
    except OSError:
        return 0, 0
    return rows, columns


class RawMode:
    """
    The terminal passes every key on unchanged, Ctrl-C too, and echoes nothing: the job's terminal does all that.

    restore() restores the terminal's own mode; it may be called again.
    """

    def __init__(self) -> None:
        self._before = termios.tcgetattr(STDIN)
        self._raw = False

    def set(self) -> None:
        """Set the raw mode, or set it again after another program has used the terminal, if it is still there."""
        with suppress(termios.error):  # it is gone: SIGHUP, or the end of what is typed, tells of it
            tty.setraw(STDIN, termios.TCSADRAIN)  # what was typed before is kept
            self._raw = True

    def restore(self) -> None:
        """Set the mode that was in force before."""
        if self._raw:
            self._raw = False
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._before)


class Escapes:
    """
    At the beginning of a line `~.` leaves the job, and `~~` is one `~`, as in ssh; a `~` before another key is
    passed on. The `~` is held back until the next key.
    """

    def __init__(self) -> None:
        self._line_begins = True
        self._held = False
        self.left = False

    def typed(self, keys: bytes) -> bytes:
        """The keys that the job gets. Sets `left` if the keys leave the job; keys after that are dropped."""
        passed = bytearray()
        for key in (keys[index : index + 1] for index in range(len(keys))):
            if self._held and key == _LEAVE:
                self.left = True
                break
            if self._held:
                self._held = False
                passed += _ESCAPE if key != _ESCAPE else b""
            elif self._line_begins and key == _ESCAPE:
                self._held = True
                continue
            passed += key
            self._line_begins = key in _NEW_LINE
        return bytes(passed)


class Keyboard:
    """
    Reads what is typed, in one thread, until stop() is called in another.

    typed(data) is called with each piece, b"" at the end of the input: the terminal is gone.
    """

    def __init__(self, typed: Callable[[bytes], None]) -> None:
        self._typed = typed
        self._stopping, self._stop = os.pipe()

    def read(self) -> None:
        """Read until the end or until stop()."""
        poll = select.poll()
        for fd in (STDIN, self._stopping):
            poll.register(fd, select.POLLIN)
        while (ready := dict(poll.poll())) and self._stopping not in ready:
            try:
                data = os.read(STDIN, _READ_BYTES)
            except OSError:
                data = b""
            self._typed(data)
            if not data:
                return

    def stop(self) -> None:
        """Keys that are typed from now on stay with the terminal."""
        os.write(self._stop, b".")
