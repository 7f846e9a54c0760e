"""Pseudo-terminals: a new pair, and the size of its window (pty(7), ioctl_tty(2))."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

_IUTF8 = 0o40000  # <asm-generic/termbits.h>; termios has it from Python 3.15 on
_MODE = 0o620
"""What login programs give a terminal: others may not read it; the group tty may write to it (write(1))."""


def open_terminal(rows: int, columns: int, owner: int | None) -> tuple[int, int]:
    """
    A new pseudo-terminal of that size; returns the descriptors of its master and its slave.

    It erases whole UTF-8 characters. owner: the user that may open the slave by its path; None: this process's own.

    Raises:
        OSError: the kernel has none left, or /dev/ptmx cannot be opened.
    """
    master, slave = os.openpty()
    try:
        set_size(master, rows, columns)
        modes = termios.tcgetattr(slave)
        modes[0] |= _IUTF8
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        os.fchmod(slave, _MODE)
        if owner is not None:
            os.fchown(slave, owner, -1)
        os.set_blocking(master, False)
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave


def set_size(terminal: int, rows: int, columns: int) -> None:
    """
    Set the size in characters; when it changes the foreground process group gets SIGWINCH.

    Raises:
        OSError: it is not a terminal.
    """
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
