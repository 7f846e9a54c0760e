"""What a viewer reads of an output file, held against what must be there: others may have cut or replaced the file."""

from __future__ import annotations

from txworker.catalog import Catalog
from txworker.jobs import Job, Loss
from txworker.jobs.errors import OutputGone
from txworker.output.tail import Tail


class Seen:
    """One viewer's, in its thread. What it raises is OutputGone: a status and a sentence, and never NULs for bytes."""

    def __init__(self, catalog: Catalog, job_id: str, stderr: bool, tail: Tail) -> None:
        self._catalog = catalog
        self._job_id = job_id
        self._stderr = stderr
        self._tail = tail
        self._losses: tuple[Loss, ...] | None = None

    def checked(self, offset: int, block: bytes) -> bytes:
        """
        As much of a block as the job has printed; it was read from that offset on, just now.

        Raises:
            OutputGone: not even the first of its bytes.
        """
        if not block:
            return block
        for loss in self._known():
            if loss.begin <= offset < loss.end:
                raise OutputGone(self._job_id, loss.what, loss)
            if offset < loss.begin < offset + len(block):
                return block[: loss.begin - offset]
        if b"\0" in block and not self._catalog.output_holds(self._job_id, self._tail.fileno(), self._stderr):
            raise OutputGone(self._job_id, "cut")
        return block

    def after_losses(self, offset: int) -> int:
        """That offset, or the one where what is lost behind it ends: for who asks for the last lines."""
        return max([offset, *(loss.end for loss in self._known())])

    def goes_on_elsewhere(self, offset: int, recorded: int, job: Job) -> bool:
        """
        The file ends at that offset, or before it; what was recorded, and the job, are as they were before that was
        found. Must there be something? Then it may be in another file, and that is read from now on.

        Raises:
            OutputGone: it must, and is not; whoever waited would be told again and again that there is something.
        """
        if job.done:
            recorded = max(recorded, self._catalog.output_bytes(job, self._stderr))
        if offset >= recorded:
            return False
        if self._tail.turn_to(self._catalog.open_output(self._job_id, self._stderr)):
            return True
        self.checked(offset, b"?")  # says where it goes on
        raise OutputGone(self._job_id, "cut")

    def _known(self) -> tuple[Loss, ...]:
        """By now. Those of a job that is done are in a file, and are what they are."""
        if self._losses is None:
            job = self._catalog.get(self._job_id)
            if not job.done:
                return self._catalog.losses(self._job_id, self._stderr)
            self._losses = self._catalog.losses(self._job_id, self._stderr) if job.output_truncated else ()
        return self._losses
