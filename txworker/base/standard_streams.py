"""Standard output and standard error that cannot be written: the exit status still tells what happened."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

STDOUT, STDERR = 1, 2


def give_up(to: int) -> None:
    """Called when writing to STDOUT or STDERR failed: otherwise Python flushes it again at exit, with an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), to)


def finish() -> None:
    """Call it last: Python flushes stderr at exit as well, and if that fails the exit status is 120."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            give_up(STDERR)


def print_on_stdout(text: str) -> None:
    """
    Print a text and flush it. A reader that has gone wants to hear no more, which is no error.

    Raises:
        OSError: writing failed.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        give_up(STDOUT)
        if not isinstance(error, BrokenPipeError):
            raise


def print_on_stderr(text: str) -> None:
    """Print a text. If that fails, only the exit status tells of an error; finish() must be called at the end."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
