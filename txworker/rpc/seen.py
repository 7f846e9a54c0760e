"""What a viewer reads of an output file, held against what must be there: others may have cut or replaced the file."""

from __future__ import annotations

from txworker.jobs import Job, JobState, Loss
from txworker.jobs.errors import OutputGone
from txworker.output.tail import Tail
from txworker.worker.catalog import Catalog

_FARTHEST = 2**63


class Seen:
    """One viewer's, in its thread. What it raises is OutputGone: a status and a sentence, and never NULs for bytes."""

    def __init__(self, catalog: Catalog, job_id: str, stderr: bool, tail: Tail) -> None:
        self._catalog = catalog
        self._job_id = job_id
        self._stderr = stderr
        self._tail = tail
        self._done: tuple[int, tuple[Loss, ...]] | None = None  # end and losses, which change no more

    def checked(self, offset: int, block: bytes) -> bytes:
        """
        As much of a block as the job has printed, and not somebody else; it was read from that offset on, just now.

        Raises:
            OutputGone: not even the first of its bytes.
        """
        if not block:
            return block
        end, losses = self._now()
        for loss in losses:
            if loss.begin <= offset < loss.end:
                raise OutputGone(self._job_id, loss.what, loss)
            if offset < loss.begin < end:
                end = loss.begin
        if b"\0" in block and not self._catalog.output_is_proven(self._job_id, self._tail.fileno(), self._stderr):
            raise OutputGone(self._job_id, "cut")
        return block if offset + len(block) <= end else block[: max(0, end - offset)]

    def after_losses(self, offset: int) -> int:
        """That offset, or the one where what is lost behind it ends: for who asks for the last lines."""
        _, losses = self._now()
        return max([offset, *(loss.end for loss in losses)])

    def goes_on_elsewhere(self, offset: int, recorded: int, job: Job) -> bool:
        """
        The file ends at that offset, or before it; what was recorded, and the job, are as they were before that was
        found. Must there be something? Then it may be in another file, and that is read from now on.

        Raises:
            OutputGone: it must, and is not; whoever waited would be told again and again that there is something.
        """
        if job.done:
            recorded = max(recorded, self._catalog.output_bytes(job, self._stderr) or 0)
        if offset >= recorded:
            return False
        if self._tail.switch_to(self._catalog.open_output(self._job_id, self._stderr)):
            return True
        self.checked(offset, b"?")  # says what is known of it
        raise OutputGone(self._job_id, "cut")

    def _now(self) -> tuple[int, tuple[Loss, ...]]:
        """Where what the job has printed ends, and what was lost of it by now."""
        if self._done is not None:
            return self._done
        recorded = self._catalog.recorded(self._job_id, self._stderr)
        if not recorded:
            job = self._catalog.get(self._job_id)
            if job.done:
                self._done = self._end_of(job), self._losses() if job.output_truncated else ()
                return self._done
        return recorded, self._losses()

    def _losses(self) -> tuple[Loss, ...]:
        return self._catalog.losses(self._job_id, self._stderr)

    def _end_of(self, job: Job) -> int:
        """
        Of two files it is only known how long they are together, of a lost job's how long it was when found, and of one
        whose leftovers are kept how long it was when the job was done.
        """
        if job.spec.separate_stderr or job.state is JobState.LOST or self._catalog.may_write_after_end(job):
            return _FARTHEST
        return job.output_bytes
