"""The standard input that `txworker run` forwards: a short one in the request, a longer one by feed()."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from txworker.cli import console
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.start_command import is_forwarded
from txworker.client import Client, Closed, JobNotRunning, NoSuchJob

_SHORT_BYTES = 1024 * 1024
_SOON_SECONDS = 0.1
"""How long the end of the input is waited for before the job is started."""

_BLOCK_BYTES = 256 * 1024


@dataclass
class ForwardedStdin:
    """
    beginning: what was read already. fd: where the rest comes from; None: that is all. name: for errors.
    """

    beginning: bytes = b""
    fd: int | None = None
    name: str = "standard input"

    @property
    def in_request(self) -> bytes:
        """The part in the request: all of it or nothing."""
        return self.beginning if self.fd is None else b""

    def __post_init__(self) -> None:
        self._over, self._stop = os.pipe()

    def stop(self) -> None:
        """End feed() in whichever thread it is: nothing more is read, and the job's stdin is not closed by it."""
        os.write(self._stop, b".")

    def feed(self, client: Client, job_id: str) -> None:
        """
        Feed the job with all of it, if it is not in the request. Blocks until stop().

        Raises:
            WorkerError: the rest cannot be sent.
        """
        if self.fd is None:
            return
        with suppress(Closed, JobNotRunning, NoSuchJob):  # this program ends, or the job is done
            client.feed(job_id, self._blocks(self.fd))

    def _blocks(self, fd: int) -> Iterator[bytes]:
        """Without a buffer: a thread that reads at the end of the program would hold its lock."""
        yield self.beginning
        self.beginning = b""
        try:
            while block := self._read(fd):
                yield block
        except OSError as error:  # the job gets what was read, and then the end
            console.print_error(f"{self.name}: {error.strerror or error}")

    def _read(self, fd: int) -> bytes:
        """Raises Closed after stop()."""
        poll = select.poll()
        for waited_for in (fd, self._over):
            poll.register(waited_for, select.POLLIN)
        if self._over in dict(poll.poll()):
            raise Closed
        return os.read(fd, _BLOCK_BYTES)


def forwarded_stdin(name: str | None) -> ForwardedStdin:
    """
    The content of that file ('-': our own stdin); without a name, our own stdin where that is a pipe, a socket or a
    file: of a terminal or another device (/dev/null) nothing is read.

    Raises:
        OSError: the file cannot be opened.
        Failed: it cannot be read; or "-", and stdin is closed.
    """
    if name is not None and name != "-":
        return _begun(os.open(Path(name), os.O_RDONLY | os.O_CLOEXEC), f"--stdin: {name}")
    if sys.stdin is None:
        if name is None:
            return ForwardedStdin()
        raise Failed("--stdin: standard input is closed", REFUSED)
    fd = sys.stdin.fileno()
    if name is None and not is_forwarded(fd):
        return ForwardedStdin()
    return _begun(fd, "standard input")


def _begun(fd: int, name: str) -> ForwardedStdin:
    beginning = bytearray()
    end = time.monotonic() + _SOON_SECONDS
    while len(beginning) <= _SHORT_BYTES and _has_bytes(fd, end - time.monotonic()):
        try:
            block = os.read(fd, _BLOCK_BYTES)
        except OSError as error:  # such as that of a directory
            raise Failed(f"{name}: {error.strerror or error}", REFUSED) from error
        if not block:
            return ForwardedStdin(bytes(beginning))
        beginning += block
    return ForwardedStdin(bytes(beginning), fd, name)


def _has_bytes(fd: int, seconds: float) -> bool:
    """Whether there are any, or the end, within these seconds; false if none are left."""
    return seconds > 0 and bool(select.select([fd], [], [], seconds)[0])
