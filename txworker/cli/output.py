"""Our own stdout and stderr: what is put there, and what becomes of us when that cannot be done."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterable
from contextlib import suppress

from txworker.base.printable import cut, printable
from txworker.cli.failures import REFUSED, Failed
from txworker.pb import worker_pb2 as pb

STDOUT, STDERR = 1, 2

_MOST_IN_SENTENCE = 2_000
"""Characters of what is said on stderr; a worker may send as many as it likes."""

_NAMES = {STDOUT: "standard output", STDERR: "standard error"}


class CannotWrite(Failed):
    """One of them takes no more; `reader_gone`: because whoever read it has seen enough."""

    def __init__(self, to: int, error: OSError) -> None:
        super().__init__(f"cannot write to {_NAMES[to]}: {error.strerror or error}", REFUSED)
        self.reader_gone = isinstance(error, BrokenPipeError)


def prepare() -> None:
    """To be called first: characters that stdout cannot show become escapes, and no closed stream's number is free."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    while (null := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass  # or a connection of ours would have the number, and get what is meant for the stream
    os.close(null)


def check_open() -> None:
    """
    For commands that change something, before they do.

    Raises:
        Failed: we were started without a standard output.
    """
    if sys.stdout is None:
        raise Failed("standard output is closed", REFUSED)


def say(*lines: str) -> None:
    """
    Lines on stdout, at once; whatever a job or a worker put in them is printable then, and none is two.

    Raises:
        Failed: it is closed, or (CannotWrite) takes no more.
    """
    check_open()
    try:
        print(*map(printable, lines), sep="\n", flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # or Python tries once more at its end, and complains
        raise CannotWrite(STDOUT, error) from error


def copy(messages: Iterable[pb.StreamJobRes], to: int) -> None:
    """
    The bytes of each, as they come, to STDOUT or STDERR. Any thread.

    Raises:
        CannotWrite: it takes no more.
        grpc.RpcError: of the call that the messages come from.
    """
    try:
        for message in messages:
            rest = memoryview(message.data or message.output.encode())
            while rest:
                rest = rest[_written(rest, to) :]
    except OSError as error:
        raise CannotWrite(to, error) from error


def complain(sentence: str) -> None:
    """A line on stderr, printable as in say(); where that is gone, too, there is the exit status."""
    with suppress(OSError):
        if sys.stderr is not None:
            print(f"txworker: {printable(cut(sentence, _MOST_IN_SENTENCE))}", file=sys.stderr, flush=True)


def _written(data: memoryview, to: int) -> int:
    """So many bytes."""
    try:
        return os.write(to, data)
    except BlockingIOError:  # a neighbour on the same terminal made it so
        select.select([], [to], [])
        return 0
