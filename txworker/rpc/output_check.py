"""Checks what a viewer reads of an output file, because other programs may have cut or replaced the file."""

from __future__ import annotations

from txworker.jobs import Job, JobState, Loss
from txworker.jobs.errors import OutputGone
from txworker.output.tail import Tail
from txworker.worker.catalog import Catalog

_FARTHEST = 2**63


class OutputCheck:
    """
    For one viewer, in its thread. A viewer gets OutputGone, a status with a sentence, instead of wrong bytes or NULs.
    """

    def __init__(self, catalog: Catalog, job_id: str, stderr: bool, tail: Tail) -> None:
        self._catalog = catalog
        self._job_id = job_id
        self._stderr = stderr
        self._tail = tail
        self._final: tuple[int, tuple[Loss, ...]] | None = None  # end and losses, when they no longer change

    @property
    def end(self) -> int:
        """Where the job's output ends now, whatever other programs have cut off the file or added to it."""
        end, _ = self._end_and_losses()
        return self._tail.size if end == _FARTHEST else end

    def may_have(self, offset: int) -> bool:
        """
        Whether the file is worth reading there. False: the job, which is unfinished, has printed nothing there so far.
        """
        recorded = self._catalog.recorded(self._job_id, self._stderr)
        return not recorded or offset < recorded

    def checked(self, offset: int, block: bytes) -> bytes:
        """
        The beginning of the block, as far as the job printed it. The block was just read from that offset.

        Raises:
            OutputGone: the job did not print the first byte, or it is lost.
        """
        if not block:
            return block
        end, losses = self._end_and_losses()
        for loss in losses:
            if loss.begin <= offset < loss.end:
                raise OutputGone(self._job_id, loss.what, loss)
            if offset < loss.begin < end:
                end = loss.begin
        if b"\0" in block and not self._catalog.output_is_proven(self._job_id, self._tail.fileno(), self._stderr):
            raise OutputGone(self._job_id, "cut")
        return block if offset + len(block) <= end else block[: max(0, end - offset)]

    def after_losses(self, offset: int) -> int:
        """The offset, or the end of the last loss if that is later. For viewers that want the last lines."""
        _, losses = self._end_and_losses()
        return max([offset, *(loss.end for loss in losses)])

    def switched_file(self, offset: int, recorded: int, job: Job) -> bool:
        """
        Look for another output file when the present one has nothing at the offset. True: read on from that one.

        recorded, job: as they were before the end of the file was found.

        Raises:
            OutputGone: output was recorded at the offset, and no file has it. Waiting would return at once again and
                again.
        """
        if job.done:
            recorded = max(recorded, self._catalog.output_bytes(job, self._stderr) or 0)
        if offset >= recorded:
            return False
        if self._tail.switch_to(self._catalog.open_output(self._job_id, self._stderr)):
            return True
        self.checked(offset, b"?")  # raises when a loss is known there
        raise OutputGone(self._job_id, "cut")

    def _end_and_losses(self) -> tuple[int, tuple[Loss, ...]]:
        """Where the job's output ends now, and which parts were lost."""
        if self._final is not None:
            return self._final
        recorded = self._catalog.recorded(self._job_id, self._stderr)
        if not recorded:
            job = self._catalog.get(self._job_id)
            if job.done:
                self._final = self._end_of(job), self._losses() if job.output_truncated else ()
                return self._final
        return recorded, self._losses()

    def _losses(self) -> tuple[Loss, ...]:
        return self._catalog.losses(self._job_id, self._stderr)

    def _end_of(self, job: Job) -> int:
        """
        Where the output of a done job ends; _FARTHEST when that is not known: the record does not count what is written
        after a LOST job was found, or by leftovers that are kept, and an older version counted two files together.
        """
        together = job.spec.separate_stderr and job.stderr_bytes is None
        if together or job.state is JobState.LOST or self._catalog.may_write_after_end(job):
            return _FARTHEST
        return self._catalog.output_bytes(job, self._stderr) or 0
