"""
Every error a caller may meet: one class per situation, its fields, and one clear sentence.

`reason` is stable and meant for programs; the sentence is for people and may change.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from txworker.base.printable import cut, printable
from txworker.jobs.loss import Loss

_MOST = 2000
"""Characters of a whole sentence."""


class TxWorkerError(Exception):
    """What went wrong, in one sentence that names the field and the value; all of it printable."""

    reason = "INTERNAL"

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(cut(sentence, _MOST)))


class InvalidRequest(TxWorkerError):
    """A field of a request has a value that cannot be meant."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(f"{field}: {shown(value)} {problem}")
        self.field = field
        self.value = value


class NoSuchJob(TxWorkerError):
    """No job here has that id (or, for a stream, that path)."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {shown(job_id)} on this worker")
        self.job_id = job_id


class JobRemoved(NoSuchJob):
    """There was a job with that id; retention has removed it, or is at it (no `at`)."""

    reason = "JOB_REMOVED"

    def __init__(self, job_id: str, at: str = "") -> None:
        what = (
            f"was removed by this worker's retention at {at}" if at else "is being removed by this worker's retention"
        )
        TxWorkerError.__init__(self, f"job {shown(job_id)} {what}")
        self.job_id = job_id


class NoSuchExecutable(TxWorkerError):
    """The executable, or the interpreter that its first line names, is not there."""

    reason = "EXECUTABLE_NOT_FOUND"

    def __init__(self, executable: str, problem: str = "no such executable") -> None:
        super().__init__(f"command: {shown(executable)}: {problem}")
        self.executable = executable


class NoSuchDirectory(TxWorkerError):
    """The working directory is not there, or is no directory."""

    reason = "DIRECTORY_NOT_FOUND"

    def __init__(self, directory: str, problem: str = "no such directory") -> None:
        super().__init__(f"directory: {shown(directory)}: {problem}")
        self.directory = directory


class NotPermitted(TxWorkerError):
    """The worker may not execute that file or enter that directory."""

    reason = "NOT_PERMITTED"

    def __init__(self, field: str, path: str, problem: str = "the worker has no permission to use it") -> None:
        super().__init__(f"{field}: {shown(path)}: {problem}")
        self.field = field
        self.path = path


class ExecutableBusy(TxWorkerError):
    """A process has the executable, or its interpreter, open for writing at this moment."""

    reason = "EXECUTABLE_BUSY"

    def __init__(self, executable: str) -> None:
        super().__init__(
            f"command: {shown(executable)}: is being written to at this moment (text file busy): try again"
        )
        self.executable = executable


class OutOfResources(TxWorkerError):
    """The machine or a ceiling of the worker allows no further job (or stream) now."""

    reason = "OUT_OF_RESOURCES"

    def __init__(self, what: str, reason: str = "OUT_OF_RESOURCES") -> None:
        super().__init__(what)
        self.reason = reason


class NotSupported(TxWorkerError):
    """A request asks for what this worker, as it is configured or on this machine, does not do."""

    reason = "NOT_OFFERED"

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(f"{field}: {shown(value)} {problem}")
        self.field = field
        self.value = value


class HandoverRefused(TxWorkerError):
    """A handover was asked for, and the jobs that run would end with the worker."""

    reason = "CANNOT_LEAVE"

    def __init__(self, running: int) -> None:
        super().__init__(f"{running} jobs run without the shim and would end with this worker: nothing was handed over")


class WorkerStopping(TxWorkerError):
    """The worker takes no new jobs because it is going down, or being drained."""

    reason = "WORKER_STOPPING"

    def __init__(self) -> None:
        super().__init__("this worker is stopping and takes no new jobs")


class StoreBroken(TxWorkerError):
    """The worker's store cannot be written or read; nothing new can be promised until it can."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, problem: str) -> None:
        super().__init__(f"this worker's store of jobs does not work: {problem}")


class StoreFull(StoreBroken):
    """The disk under the worker's store is full."""

    reason = "STORE_FULL"


class RequestReused(TxWorkerError):
    """A request id came again with a different request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, job_id: str, difference: str) -> None:
        super().__init__(
            f"requestID: {shown(request_id)} was used before, for job {job_id}, with a different {difference}"
        )
        self.request_id = request_id
        self.job_id = job_id


class OffsetBeyondEnd(TxWorkerError):
    """A stream was asked to begin behind the end of a finished output."""

    reason = "OFFSET_BEYOND_END"

    def __init__(self, job_id: str, offset: int, size: int) -> None:
        super().__init__(f"offset: {offset} is beyond the {size} bytes that job {job_id!r} printed")
        self.job_id = job_id
        self.offset = offset
        self.size = size


class OutputGone(TxWorkerError):
    """Somebody has deleted, cut, or replaced the file that a job's output was in; perhaps it is known what is lost."""

    reason = "OUTPUT_GONE"

    def __init__(self, job_id: str, what: str, loss: Loss | None = None) -> None:
        lost = "" if loss is None else f"; lost are the bytes from offset {loss.begin} up to {loss.end}"
        super().__init__(f"the output of job {shown(job_id)} is not there any more: somebody has {what} its file{lost}")
        self.job_id = job_id
        self.loss = loss


class CallerGone(TxWorkerError):
    """The call's deadline passed, or its client left, before the order was begun: nothing was done."""

    reason = "CALLER_GONE"

    def __init__(self) -> None:
        super().__init__("the call ended before it was begun; nothing was done")


class DeadlineExceeded(CallerGone):
    """The same, and it was the deadline: the client is about to find that out by itself."""

    reason = "DEADLINE_OVER"

    def __init__(self) -> None:
        TxWorkerError.__init__(self, "the call's deadline passed before it was answered")


class MessageLate(TxWorkerError):
    """A call was begun, and its message has not come."""

    reason = "MESSAGE_LATE"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the call's message did not come within {seconds:g} s")
        self.seconds = seconds


class WrongState(TxWorkerError):
    """A fact that makes no sense for a job in that state; nothing changed."""

    def __init__(self, job_id: str, state: object, fact: object) -> None:
        super().__init__(f"job {job_id!r} is {state}; {fact} cannot follow")
        self.job_id = job_id


def shown(value: object) -> str:
    """A value as it may stand in a sentence: quoted, printable, and cut where it is long."""
    return printable(cut(repr(value)))


def shown_words(words: Iterable[str]) -> str:
    """An argument vector on one line, much as a shell takes it, printable, and cut where it is long."""
    return printable(cut(" ".join(shlex.quote(word) if word.isprintable() else repr(word) for word in words)))
