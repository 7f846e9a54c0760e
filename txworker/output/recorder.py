"""Records one stream of a job's output and wakes its readers. Reactor thread, except where said otherwise."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.base.waiting import Waiters
from txworker.jobs import Loss
from txworker.linux.pipes import bytes_in, splice
from txworker.output.notices import Notices
from txworker.output.output_file import OutputFile
from txworker.ports import NO_OBSERVER

_READ_BYTES = 256 * 1024


class Recorder:
    """
    Appends one stream of a job's output to its file, and never makes the job wait for the disk.

    The file is open from the first byte on only: the kernel copies the descriptor table for each child that the worker
    starts, and many jobs print nothing.

    Output beyond `max_bytes` (0: no ceiling) is dropped, and bytes that the disk refuses are lost. A notice in the file
    says so: the ceiling's notice is the last line, a refusal's is at the place of the missing bytes.

    A change to the file by another process is detected before the next write, or by check(). Bytes that were cut off or
    deleted are lost; a notice says so, and the next bytes keep their offsets.

    `size` is the number of bytes in the file, `truncated` says whether any output is missing. Both: any thread.
    """

    __slots__ = (
        "_can_splice",
        "_capped",
        "_changed",
        "_file",
        "_incomplete",
        "_lost",
        "_max_bytes",
        "_no_descriptor",
        "_notices",
        "_tampered",
        "_told",
        "closed",
        "path",
        "size",
        "truncated",
    )
    _log = Logger()

    def __init__(
        self,
        file: OutputFile,
        max_bytes: int = 0,
        refused_before: int = 0,
        discarded_before: int = 0,
        lost: Callable[[str, int], None] = NO_OBSERVER.output_lost,
        incomplete_before: bool = False,
        incomplete: Callable[[str, int], None] = lambda name, refused: None,
    ) -> None:
        """
        refused_before, discarded_before and incomplete_before are for the output of a job that an earlier worker, or
        the shim, has recorded so far: bytes that the disk refused and no notice tells of yet, bytes that came beyond
        the ceiling, and whether any are missing. lost(): as Observer.output_lost().

        incomplete(name, refused) is called in the reactor thread when bytes of the file of that name are missing, with
        the count of refused ones that no notice tells of yet: first of all, when it has doubled, and when it is 0.
        """
        self._file = file
        self._incomplete = incomplete
        self._lost = lost
        self._max_bytes = max_bytes
        self._notices = Notices(refused_before)
        self._capped = False
        self._tampered = False  # check() has found that another process changed the file
        self._can_splice = hasattr(os, "splice")
        self._no_descriptor = False
        self._changed = Waiters()
        self.path = file.path
        self.size = file.initial_size
        self.truncated = bool(file.losses) or refused_before > 0 or incomplete_before
        self.closed = False
        excess = max(0, self.size - max_bytes) if max_bytes else 0
        if discarded_before or excess:
            self.truncated = self._capped = True
            self._notices.ceiling(max_bytes, file.read_before_start(excess) if excess else b"")
        self._told = refused_before if self.truncated else -1

    def ready(self) -> bool:
        """
        Whether the first byte can be taken now. False: no descriptor is free, so the caller asks again later.

        True also where the file cannot be opened for another reason: then the bytes are taken, and lost.
        """
        try:
            self._file.open()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._wait_for_descriptor(error)
                return False
        return True

    def append(self, data: bytes) -> None:
        """Write the data, or as much of it as the disk takes."""
        self._record(memoryview(data))
        self.pipe_copied()

    def copy_pipe(self, pipe: int, most: int) -> int:
        """
        Move up to `most` bytes from a pipe to the file; return how many, 0 at the end of the pipe. Any thread, one at a
        time; afterwards the reactor thread calls pipe_copied(). A pipe that ends without a byte opens no file.

        splice(2) moves the bytes in one system call, so a SIGKILL loses none. They are read and written only where the
        disk refused some, near the ceiling, and on file systems without splice(2): a SIGKILL between the two calls then
        loses up to 256 KiB.

        Raises:
            BlockingIOError: the pipe is empty.
        """
        repaired = self._repair_if_tampered()
        room = min(most, self._max_bytes - self.size) if self._max_bytes else most
        if self._can_splice and repaired and not self.truncated and room > 0 and (self._file.is_open or bytes_in(pipe)):
            try:
                moved = splice(pipe, self._file.open(), room)
            except BlockingIOError:
                raise
            except OSError as error:  # no byte was moved: read and write them below
                self._can_splice = error.errno != errno.EINVAL
            else:
                self._spliced(moved)
                return moved
        data = os.read(pipe, min(most, _READ_BYTES))
        self._record(memoryview(data))
        return len(data)

    def pipe_copied(self) -> None:
        """Wake the readers after copy_pipe()."""
        if self.truncated:
            self._tell(2 * self._told)
        self._changed.wake()

    def finish(self) -> None:
        """The job prints nothing more: write the notices that are due. From now on `size` does not change."""
        if not self.closed:
            self.check()
            self._tampered = self._tampered or not self._file.matches_sample()
            if self._repair_if_tampered() and self._write_notices():
                self._changed.wake()
            self._file.finish(self.size)
            if self.truncated:
                self._tell(0)

    def check(self) -> None:
        """Look whether another process has changed the file. Any thread."""
        if self._file.is_open and not self._file.unreachable and not self._tampered:
            size = self.size  # read before the file's own size, because both grow
            damage = self._file.damage(size) if size else None
            if damage is not None:
                self.truncated = self._tampered = True
                self._file.save_damage(damage)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The bytes that other processes have removed from the file. Any thread."""
        return self._file.losses

    def is_intact(self, fd: int) -> bool:
        """The open file has the sampled bytes, so nothing was cut that is not in `losses`. Any thread."""
        sample = self._file.sample
        return sample is None or sample.matches(fd)

    def owns(self, found: os.stat_result) -> bool:
        """The status is that of the recorded file. Any thread."""
        return self._file.owns(found)

    def discard(self) -> None:
        """Close and remove the file, because the job was not started."""
        self.close()
        self._file.remove()

    def close(self) -> None:
        """Nothing more comes: close the file and wake every reader. May be called again."""
        if not self.closed:
            self.closed = True
            try:
                self._file.close()
            except OSError as error:
                self._log.error("Output may be lost, {path} could not be closed: {error}", path=self.path, error=error)
            self._changed.wake()

    def more(self, beyond: int) -> Deferred[None]:
        """Fires when the file has a byte at offset `beyond`, or nothing more comes."""
        return self._changed.until(lambda: self.size > beyond or self.closed)

    def _tell(self, least: int) -> None:
        """Tell of the refused bytes, unless that was told or they are some, but fewer than the least."""
        refused = self._notices.refused_bytes
        if refused != self._told and (not refused or refused >= least):
            self._told = refused
            self._incomplete(self._file.name, refused)

    def _record(self, data: memoryview) -> None:
        if not self._max_bytes or self.size + len(data) <= self._max_bytes:
            self._keep(data)
            return
        self.truncated = True
        room = 0 if self._capped else max(0, self._max_bytes - self.size)
        self._lost("limit", len(data) - room)
        if not self._capped:
            self._capped = True
            self._keep(data[:room])
            self._notices.ceiling(self._max_bytes)
            self._write_notices()

    def _keep(self, data: memoryview) -> None:
        repaired = self._repair_if_tampered()
        taken = 0 if not repaired or (self.truncated and not self._write_notices()) else self._write(data)
        if taken < len(data):
            self._notices.refused_bytes += len(data) - taken
            self._lost("disk", len(data) - taken)

    def _write(self, data: bytes | memoryview) -> int:
        """How many of these bytes the disk took."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file.open(), data[written:])
        except OSError as error:
            self._refused(error)
        if written:
            self._file.take_sample(self.size, data[:written])
        self.size += written
        return written

    def _write_notices(self) -> bool:
        """Write the notices that are due; whether the disk took all of them."""
        while notice := self._notices.next():
            written = self._write(notice)
            if written:
                self._notices.took(notice, written)
            if written < len(notice):
                return False
        return True

    def _spliced(self, moved: int) -> None:
        """Account for spliced bytes. If the file was cut meanwhile its size does not show it, but the sample does."""
        if not self._file.matches_sample():
            self._repair(self.size + moved)
        if moved:
            self._file.take_sample(self.size)
        self.size += moved

    def _repair_if_tampered(self) -> bool:
        """
        Before a write: if another process has changed the file, make the next byte go to its own offset. False: the
        disk fails, so nothing must be written now.
        """
        file = self._file
        if not file.is_open or file.unreachable or self._notices.has_tampering:  # the last one's notice comes first
            return True
        if self._tampered or not file.has_size(self.size):
            return self._repair(self.size)
        return True

    def _repair(self, size: int) -> bool:
        """False: the disk fails, and it is tried again before the next write."""
        try:
            loss = self._file.repair(size)
        except OSError as error:
            self._tampered = True
            self._refused(error)
            return False
        self._tampered = False
        self._report(loss, size)
        return True

    def _report(self, loss: Loss | None, position: int) -> None:
        if loss is not None:
            self.truncated = True
            self._notices.tampered(loss, position)
            self._lost("changed", loss.end - loss.begin)
            self._log.warn(
                "Output of job {job_id} is lost, {count} bytes from offset {begin} on: "
                "another program has {what} {path}{unreachable}.",
                job_id=os.path.basename(self.path).partition(".")[0],
                count=loss.end - loss.begin,
                begin=loss.begin,
                what=loss.what,
                path=self.path,
                unreachable=", and its further output is lost as well" if self._file.unreachable else "",
            )

    def _wait_for_descriptor(self, error: OSError) -> None:
        if not self._no_descriptor:
            self._no_descriptor = True
            self._log.warn(
                "A job that prints has to wait, {path} cannot be opened: {error}", path=self.path, error=error
            )

    def _refused(self, error: OSError) -> None:
        self._notices.reason = error.strerror or str(error)
        if not self.truncated:
            self.truncated = True
            self._log.warn("Output is being lost, {path} cannot be written: {error}", path=self.path, error=error)
