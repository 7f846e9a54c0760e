"""Writes to stdout and stderr, and reports the errors of that."""

from __future__ import annotations

import io
import os
import select
import sys
import termios
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress

from txworker.base.printable import cut, printable
from txworker.base.standard_streams import STDERR, STDOUT, give_up
from txworker.cli.colours import Painted
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.status_line import StatusLine

_status = StatusLine()
"""There is one in a process, as there is one stderr."""

_MOST_IN_SENTENCE = 2_000
"""The most characters of a line on stderr, because a worker's error text has no limit."""

_NAMES = {STDOUT: "standard output", STDERR: "standard error"}


class CannotWrite(Failed):
    """Writing to stdout or stderr failed; `reader_gone`: because the reader of the pipe closed it."""

    def __init__(self, to: int, error: OSError) -> None:
        super().__init__(f"cannot write to {_NAMES[to]}: {error.strerror or error}", REFUSED)
        self.reader_gone = isinstance(error, BrokenPipeError)


def prepare() -> None:
    """
    Make stdout escape characters that it cannot encode, and open /dev/null in place of closed standard streams.

    Call it first: otherwise a socket could get the number of a closed stream, and receive what is printed there.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    while (null := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(null)


def check_open() -> None:
    """
    Called by commands before they change anything.

    Raises:
        Failed: the program was started without a standard output.
    """
    if sys.stdout is None:
        raise Failed("standard output is closed", REFUSED)


def print_lines(*lines: str) -> None:
    """
    Print lines on stdout and flush it; painted ones have their colour. Unprintable characters are escaped, so each text
    is one line.

    Raises:
        Failed: stdout is closed.
        CannotWrite: writing failed.
    """
    print_text("".join(f"{_shown(line)}\n" for line in lines))


def print_text(text: str) -> None:
    """The same with a text of our own, as it is."""
    check_open()
    try:
        with _status.paused():
            print(text, end="", flush=True)
    except OSError as error:
        give_up(STDOUT)
        raise CannotWrite(STDOUT, error) from error


def copy(pieces: Iterable[bytes], to: int) -> None:
    """
    Write each piece to STDOUT or STDERR as it arrives. Any thread.

    Raises:
        CannotWrite: writing failed.
    """
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[_written(rest, to) :]
    except OSError as error:
        raise CannotWrite(to, error) from error


def print_error(sentence: str) -> None:
    """Print a line on stderr, escaped like print_lines(). If that fails, only the exit status tells of the error."""
    print_on_stderr(f"txworker: {printable(cut(sentence, _MOST_IN_SENTENCE))}")


def print_on_stderr(line: str) -> None:
    """The same with a line of our own, as it is."""
    with suppress(OSError):
        if sys.stderr is not None:
            with _status.paused():
                print(line, file=sys.stderr, end=_line_end(), flush=True)


def waiting(sentence: str) -> AbstractContextManager[None]:
    """Inside the block a status line on a terminal shows the sentence, if it lasts. Must not enclose copy()."""
    return _status.waiting(sentence)


def waiting_for(addr: str) -> AbstractContextManager[None]:
    """As waiting(), for the answer of that worker."""
    return waiting(f"waiting for the worker at {addr}")


def _shown(line: str) -> str:
    return line.shown() if isinstance(line, Painted) else printable(line)


def _line_end() -> str:
    """On a terminal in raw mode (`run --tty`) a line feed alone does not return to the first column."""
    try:
        is_raw = not termios.tcgetattr(STDERR)[1] & termios.OPOST
    except termios.error:  # it is not a terminal
        return "\n"
    return "\r\n" if is_raw else "\n"


def _written(data: memoryview, to: int) -> int:
    """How many bytes were written."""
    try:
        return os.write(to, data)
    except BlockingIOError:  # another process made the shared terminal or pipe non-blocking
        select.select([], [to], [])
        return 0
