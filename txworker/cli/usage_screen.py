"""The screen of `txworker top`, by rich if that is installed, otherwise by a few control sequences; and its keys."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import import_module
from types import FrameType
from typing import Protocol, TextIO

from txworker.base.standard_streams import STDOUT, give_up
from txworker.cli import console
from txworker.cli.colours import has_colours
from txworker.cli.usage_table import View, lines

_ENDING = (signal.SIGTERM, signal.SIGHUP)

_OPENED = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor (xterm's control sequences)
_CLOSED = "\x1b[?25h\x1b[?1049l"
_HOME, _BELOW_ERASED, _LINE_ERASED = "\x1b[H", "\x1b[J", "\x1b[2K"

PLAIN = "colours and lines need rich: pip install 'txworker[top]'"


class Screen(Protocol):
    """A context, inside which the terminal is taken; it is given back as it was."""

    def show(self, view: View) -> None:
        """Replace what is shown."""


@contextmanager
def screen(
    options: argparse.Namespace, resized: Callable[[], object], suspended: Callable[[], object]
) -> Iterator[Screen]:
    """
    A screen on stdout, which is a terminal. resized() is called in the main thread when it gets another size, and
    suspended() at SIGTSTP (Ctrl-Z), which suspends the program only when it is raised again outside of this context.

    The terminal is restored also if SIGTERM or SIGHUP ends the program, which then ends by that signal.

    Raises:
        CannotWrite: the terminal is gone.
    """
    calls = {signal.SIGWINCH: resized, signal.SIGTSTP: suspended, **{number: _ender(number) for number in _ENDING}}
    with _handlers(calls), _lost_terminal(), _made(options) as made:
        yield made


@contextmanager
def typed_keys() -> Iterator[int | None]:
    """A descriptor from which each key can be read at once; None if stdin is not a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)  # Ctrl-C and Ctrl-Z are signals, as before
    try:
        yield fd
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class PlainScreen:
    """A Screen without rich."""

    def __init__(self, stream: TextIO, size: Callable[[], os.terminal_size]) -> None:
        self._stream = stream
        self._size = size

    def __enter__(self) -> PlainScreen:
        self._write(_OPENED)
        return self

    def __exit__(self, *_: object) -> None:
        self._write(_CLOSED)

    def show(self, view: View) -> None:
        """As Screen.show(). What does not fit is left out, and counted."""
        columns, rows = self._size()
        notes = [note[:columns] for note in (*view.notes, PLAIN)]
        table = fitting(lines(view, columns), rows - len(notes) - 1)
        shown = [view.heading[:columns], *table, *notes][:rows]
        self._write(_HOME + "\n".join(f"{_LINE_ERASED}{line}" for line in shown) + _BELOW_ERASED)

    def _write(self, text: str) -> None:
        print(text, end="", file=self._stream, flush=True)


def fitting(table: list[str], most: int) -> list[str]:
    """At most that many lines; the last one says how many are left out."""
    return table if len(table) <= most else [*table[: max(most - 1, 0)], f"… {len(table) - max(most - 1, 0)} more"]


def _made(options: argparse.Namespace) -> AbstractContextManager[Screen]:
    try:
        made: AbstractContextManager[Screen] = import_module("txworker.cli.rich_screen").RichScreen(
            sys.stdout, has_colours(options)
        )
        return made
    except ModuleNotFoundError:  # rich is an extra
        return PlainScreen(sys.stdout, lambda: os.get_terminal_size(sys.stdout.fileno()))


def _ender(number: int) -> Callable[[], object]:
    def end_by_signal() -> None:
        raise SystemExit(128 + number)

    return end_by_signal


@contextmanager
def _lost_terminal() -> Iterator[None]:
    """A terminal that is gone cannot be restored; the signal that ends the program is more important than that."""
    try:
        yield
    except OSError as error:
        give_up(STDOUT)
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SystemExit):
            cause = cause.__context__
        raise cause or console.CannotWrite(STDOUT, error) from error


@contextmanager
def _handlers(calls: dict[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Inside the block each of these signals makes its call, unless it is ignored (nohup)."""

    def handle_signal(number: int, frame: FrameType | None) -> None:
        calls[signal.Signals(number)]()

    taken = [number for number in calls if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle_signal) for number in taken}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
