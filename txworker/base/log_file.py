"""The log file: always appended to, opened again on request, and complete even if another program has cut it."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable

from twisted.python.logfile import LogFile

KEPT_SECONDS, KEPT_BYTES = 5.0, 512 * 1024
"""The lines that are written again after a cut: logrotate syncs its copy before it cuts the file (copytruncate)."""


class AppendedLogFile(LogFile):
    """
    A file that Twisted's LogFile rotates at rotate_bytes (0: never), and that other programs may rotate, too.

    It is opened with O_APPEND: after a cut the next line is at the file's beginning, where any other file would get
    NULs before it. A program that copies the file and then cuts it (logrotate's copytruncate) misses what was written
    in between, so the last lines are written again when a cut is noticed, which is before the next line.
    cut(lines) is called then. Reactor thread.

    What is no regular file, such as a pipe at /dev/stderr, is neither rotated nor found cut: it has no size. A FIFO
    must have its reader when it is opened.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        path: str,
        rotate_bytes: int = 0,
        cut: Callable[[int], None] = lambda lines: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cut = cut
        self._clock = clock
        self._recent: deque[tuple[float, bytes]] = deque()
        self._recent_bytes = 0
        path = os.path.abspath(path)
        super().__init__(os.path.basename(path), os.path.dirname(path), rotateLength=rotate_bytes or None)

    def _openFile(self) -> None:
        """Twisted calls it at the start, and after a rotation of its own."""
        self._file = open(self.path, "ab", buffering=0, opener=_opened)  # noqa: SIM115  # it stays open
        self.closed = False
        status = os.fstat(self._file.fileno())
        self._regular = stat.S_ISREG(status.st_mode)
        self.size = status.st_size

    def reopen(self) -> None:
        """
        Open the file of this name, which another program may have renamed; keep the present one if that fails.

        Raises:
            OSError: it cannot be opened.
        """
        before = self._file
        self._openFile()
        before.close()
        self._forget()

    def rotate(self) -> None:
        """As Twisted's. What is renamed is complete."""
        super().rotate()
        self._forget()

    def write(self, data: str | bytes) -> None:
        """Append a text, whole. Raises OSError."""
        data = data.encode() if isinstance(data, str) else data
        if not self._regular:
            self._append(data)
            return
        again = self._after_cut()
        if self.shouldRotate():
            self.rotate()
        self._append(data)
        self._remember(data)
        if again:
            self._cut(again)

    def _after_cut(self) -> int:
        """Write the last lines again if the file is shorter than it was left; how many these are."""
        if os.fstat(self._file.fileno()).st_size >= self.size:
            return 0
        self.size = 0
        for _, line in self._recent:
            self._append(line)
        return len(self._recent)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        self.size += len(data)

    def _remember(self, data: bytes) -> None:
        now = self._clock()
        self._recent.append((now, data))
        self._recent_bytes += len(data)
        while self._recent and (self._recent[0][0] < now - KEPT_SECONDS or self._recent_bytes > KEPT_BYTES):
            self._recent_bytes -= len(self._recent.popleft()[1])

    def _forget(self) -> None:
        self._recent.clear()
        self._recent_bytes = 0


def _opened(path: str, flags: int) -> int:
    """An opener for open() that does not wait for a FIFO's reader, which may never come (fifo(7))."""
    try:
        fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "no program reads from it", path) from None
        raise
    os.set_blocking(fd, True)
    return fd
