"""Writing down what a job prints, and telling who waits for more. Reactor thread, except where said otherwise."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable

from twisted.internet.defer import Deferred

from txworker.base.directory import Directory
from txworker.base.logs import Logger
from txworker.base.waiting import Waiters
from txworker.jobs import Loss
from txworker.output.guarded import Guarded

_READ_BYTES = 256 * 1024
_SPLICE_F_NONBLOCK = 2  # <fcntl.h>; os has it from Python 3.12 on


class Recorder:
    """
    One stream of a job's output, appended to a new file of its own (0600), in `directory` or else the current one.

    The file is held open from the first byte on only: each descriptor that the worker holds is copied for each child
    that it makes, and many jobs sleep. kept(fd) may move it.

    `size` may be read from any thread: bytes below it are in the file. Beyond max_bytes (0: no ceiling) output is
    dropped, and a last line says so. What the disk refuses is lost, so that the job never blocks on us; where that
    was, and how much, a line says as soon as the disk takes one.

    What others do to the file is noticed before the next bytes are written, or by look(). What they have cut off or
    deleted is lost, and the next bytes, before which a line says so, keep their offsets. `truncated`: any of all this
    has happened.

    Raises:
        OSError: the file cannot be made; nothing is left behind.
    """

    __slots__ = (
        "_at_least",
        "_capped",
        "_changed",
        "_disturbed",
        "_file",
        "_last_line",
        "_lost_bytes",
        "_max_bytes",
        "_notice",
        "_refusal",
        "_rest_of_line",
        "_splices",
        "_waits",
        "closed",
        "path",
        "size",
        "truncated",
    )
    _log = Logger()

    def __init__(
        self,
        name: str,
        max_bytes: int = 0,
        kept: Callable[[int], int] = lambda fd: fd,
        directory: Directory | None = None,
    ) -> None:
        self._begin(Guarded(name, directory, kept), max_bytes)

    def _begin(self, file: Guarded, max_bytes: int) -> None:
        self._file = file
        self._disturbed = False  # look() has seen that somebody has done something to the file
        self._notice = b""  # what is to be said about that
        self._max_bytes = max_bytes
        self._capped = False
        self._lost_bytes = 0  # since the last line that said so
        self._refusal = ""
        self._at_least = False  # an earlier worker may have lost more than is known
        self._rest_of_line = b""  # of ours: the disk took the beginning only
        self._last_line = b""
        self._splices = hasattr(os, "splice")
        self._waits = False
        self._changed = Waiters()
        self.path = self._file.path
        self.size = 0
        self.truncated = False
        self.closed = False

    @classmethod
    def resumed(
        cls,
        name: str,
        max_bytes: int,
        kept: Callable[[int], int],
        directory: Directory | None,
        lost: int,
        discarded: int,
    ) -> Recorder:
        """
        That of a job whose output an earlier worker, or the shim, has written so far; both of it are bytes.

        lost: what the disk refused meanwhile; discarded: what came beyond max_bytes. A line says so, as ever.
        """
        recorder = cls.__new__(cls)
        file = Guarded(name, directory, kept, resumes=True)
        recorder._begin(file, max_bytes)
        recorder.size = file.begun
        if file.losses:
            recorder.truncated = True
        if lost:
            recorder.truncated = True
            recorder._lost_bytes = lost
            recorder._refusal = "the disk refused them"
            recorder._at_least = True
        if discarded or (max_bytes and recorder.size > max_bytes):
            recorder._resume_capped()
        return recorder

    def _resume_capped(self) -> None:
        """Bytes were dropped: the last line says so, if it is not there already, whole or in part."""
        self.truncated = self._capped = True
        line = self._cap_line()
        written = self._file.tail(self.size - self._max_bytes) if self.size > self._max_bytes else b""
        self._last_line = line[len(written) :] if line.startswith(written) else line

    def ready(self) -> bool:
        """
        The file is open, or never will be; False: no descriptor is left, which passes. Asked before the first byte.
        """
        try:
            self._file.open()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._let_wait(error)
                return False
        return True

    def append(self, data: bytes) -> None:
        """Write down all of it, or as much as the disk takes."""
        self._take(memoryview(data))
        self._changed.wake()

    def pour(self, pipe: int, most: int) -> int:
        """
        Take what a pipe holds, `most` bytes at most; how many those were, 0: it has ended. poured() tells what waits.

        Any thread, at a time when no other writes. The kernel moves the bytes in one call, so a SIGKILL loses none.
        Only
        where the disk refused some, or the file system knows no splice(2), they are read and written: a SIGKILL between
        the two loses what was read, 256 KiB at most.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        self._see_to_it()
        room = min(most, self._max_bytes - self.size) if self._max_bytes else most
        if self._splices and not self.truncated and room > 0 and bytes_in(pipe):  # an ended pipe needs no file
            try:
                moved = os.splice(pipe, self._file.open(), room, flags=_SPLICE_F_NONBLOCK)
            except BlockingIOError:
                raise
            except OSError as error:  # nothing was taken: below it is known exactly what is lost, if anything is
                self._splices = error.errno != errno.EINVAL
            else:
                self._spliced(moved)
                return moved
        data = os.read(pipe, min(most, _READ_BYTES))
        self._take(memoryview(data))
        return len(data)

    def poured(self) -> None:
        """Something was poured."""
        self._changed.wake()

    def finish(self) -> None:
        """The job prints nothing more; the last chance for a line of ours. From now on `size` stays as it is."""
        if not self.closed:
            self.look()
            self._disturbed = self._disturbed or not self._file.is_proven()
            self._see_to_it()
            if self._catch_up():
                self._changed.wake()
            self._file.finish(self.size)

    def look(self) -> None:
        """Has somebody done something to the file? At the end, and now and then before. Any thread."""
        if self._file.fd >= 0 and not self._file.astray and not self._disturbed:
            size = self.size  # before the file's own: it grows
            trouble = self._file.trouble(size) if size else None
            if trouble is not None:
                self.truncated = self._disturbed = True
                self._file.note(trouble)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What others have taken away of it. Any thread."""
        return self._file.losses

    def is_proven(self, fd: int) -> bool:
        """What was written at first is in that open file; else something was cut off just now. Any thread."""
        proof = self._file.proof
        return proof is None or proof.holds(fd)

    def owns(self, found: os.stat_result) -> bool:
        """That is the file in which all of this is. Any thread."""
        return self._file.owns(found)

    def discard(self) -> None:
        """The job never was: close, and leave no file."""
        self.close()
        self._file.remove()

    def close(self) -> None:
        """Nothing more will come; every waiter is told."""
        if not self.closed:
            self.closed = True
            self._file.close()
            self._changed.wake()

    def more(self, beyond: int) -> Deferred[None]:
        """Fires when there is a byte at or after offset `beyond`, or nothing more will come."""
        return self._changed.until(lambda: self.size > beyond or self.closed)

    def _take(self, data: memoryview) -> None:
        if self._max_bytes and self.size + len(data) > self._max_bytes:
            self._cap(data)
        else:
            self._keep(data)

    def _cap(self, data: memoryview) -> None:
        self.truncated = True
        if not self._capped:
            self._capped = True
            self._keep(data[: max(0, self._max_bytes - self.size)])
            self._last_line = self._cap_line()
            self._catch_up()

    def _keep(self, data: memoryview) -> None:
        self._see_to_it()
        if self.truncated and not self._catch_up():
            self._lost_bytes += len(data)
        else:
            self._lost_bytes += len(data) - self._write(data)

    def _write(self, data: bytes | memoryview) -> int:
        """How many of these bytes the disk took."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file.open(), data[written:])
        except OSError as error:
            self._refused(error)
        if written:
            self._file.prove(self.size, data[:written])
        self.size += written
        return written

    def _spliced(self, moved: int) -> None:
        """So many bytes have come; somebody may have cut the file just then, which no size tells."""
        if not self._file.is_proven():
            self._learn(self._file.put_right(self.size + moved), self.size + moved)
        if moved:
            self._file.prove(self.size)
        self.size += moved

    def _see_to_it(self) -> None:
        """Before anything is written: has somebody done something to the file? Then the next bytes get their place."""
        file = self._file
        told = bool(self._notice)  # and its line comes before the next bytes
        if file.fd >= 0 and not file.astray and not told and (self._disturbed or not file.is_whole(self.size)):
            self._disturbed = False
            self._learn(file.put_right(self.size), self.size)

    def _learn(self, loss: Loss | None, position: int) -> None:
        if loss is not None:
            self.truncated = True
            count, done = loss.end - loss.begin, f"somebody has {loss.what} the file"
            where = "were lost here" if loss.end == position else f"from offset {loss.begin} on were lost"
            self._notice = f"\n[{count} bytes of output {where}: {done}]\n".encode()
            self._log.warn(
                "Output of job {job_id} is lost, {count} bytes from offset {begin} on: "
                "somebody has {what} {path}{astray}.",
                job_id=os.path.basename(self.path).partition(".")[0],
                count=count,
                begin=loss.begin,
                what=loss.what,
                path=self.path,
                astray=", and what it prints from now on cannot be found, either" if self._file.astray else "",
            )

    def _catch_up(self) -> bool:
        """Write the lines of ours that are due; whether they all are there."""
        while line := self._rest_of_line or self._gap_line() or self._notice or self._last_line:
            written = self._write(line)
            if not written:  # by the next time it may have to say more
                return False
            if self._rest_of_line:
                pass
            elif self._lost_bytes:
                self._lost_bytes = 0
            elif self._notice:
                self._notice = b""
            else:
                self._last_line = b""
            self._rest_of_line = line[written:]
            if self._rest_of_line:
                return False
        return True

    def _cap_line(self) -> bytes:
        return f"\n[output beyond {self._max_bytes} bytes was dropped]\n".encode()

    def _gap_line(self) -> bytes:
        if not self._lost_bytes:
            return b""
        count = f"at least {self._lost_bytes}" if self._at_least else f"{self._lost_bytes}"
        return f"\n[{count} bytes of output were lost here: {self._refusal}]\n".encode()

    def _let_wait(self, error: OSError) -> None:
        if not self._waits:
            self._waits = True
            self._log.warn(
                "A job that prints has to wait, {path} cannot be opened: {error}", path=self.path, error=error
            )

    def _refused(self, error: OSError) -> None:
        self._refusal = error.strerror or str(error)
        if not self.truncated:
            self.truncated = True
            self._log.warn("Output is being lost, {path} cannot be written: {error}", path=self.path, error=error)


def bytes_in(pipe: int) -> int:
    """How many a pipe holds."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
