"""
Every error that a caller may get: one class per situation, with fields and one sentence.

`reason` is for programs and never changes. The sentence is for people and may change.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from txworker.base.printable import cut, printable
from txworker.jobs.loss import Loss

_MAX_CHARACTERS = 2000
"""The longest sentence: it must fit into a gRPC status."""


class TxWorkerError(Exception):
    """One printable sentence that says what went wrong and names the field and the value."""

    reason = "INTERNAL"

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(cut(sentence, _MAX_CHARACTERS)))


class InvalidRequest(TxWorkerError):
    """A field of a request has an impossible value."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(f"{field}: {shown(value)} {problem}")
        self.field = field
        self.value = value


class NoSuchJob(TxWorkerError):
    """No job of this worker has that id (or, for a stream, that path)."""

    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {shown(job_id)} on this worker")
        self.job_id = job_id


class JobRemoved(NoSuchJob):
    """Retention has removed the job with that id at the time `at`, or is removing it (`at` is empty)."""

    reason = "JOB_REMOVED"

    def __init__(self, job_id: str, at: str = "") -> None:
        what = (
            f"was removed by this worker's retention at {at}" if at else "is being removed by this worker's retention"
        )
        TxWorkerError.__init__(self, f"job {shown(job_id)} {what}")
        self.job_id = job_id


class JobNotRunning(TxWorkerError):
    """The job exists and has no process that could be signalled; `problem` ends the sentence."""

    reason = "JOB_NOT_RUNNING"

    def __init__(self, job_id: str, problem: str) -> None:
        super().__init__(f"job {shown(job_id)} {problem}")
        self.job_id = job_id


class NoTerminal(TxWorkerError):
    """The job was started without tty."""

    reason = "NO_TERMINAL"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {shown(job_id)} has no terminal: it was started without tty")
        self.job_id = job_id


class NotFed(TxWorkerError):
    """The job was started without feed, so its stdin is complete."""

    reason = "NOT_FED"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {shown(job_id)} was started without feed: its stdin takes no further bytes")
        self.job_id = job_id


class FeedInProgress(TxWorkerError):
    """Another call feeds the job. If its client is gone, the worker notices that soon: try again."""

    reason = "FEED_IN_PROGRESS"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {shown(job_id)} is being fed by another call; one call at a time can")
        self.job_id = job_id


class NoSuchExecutable(TxWorkerError):
    """The executable, or the interpreter that its first line names, does not exist."""

    reason = "EXECUTABLE_NOT_FOUND"

    def __init__(self, executable: str, problem: str = "no such executable") -> None:
        super().__init__(f"command: {shown(executable)}: {problem}")
        self.executable = executable


class NoSuchDirectory(TxWorkerError):
    """The working directory does not exist, or is not a directory."""

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


class NotExecutable(InvalidRequest):
    """The file is there and may be executed, but it is not a program (ENOEXEC of execve(2))."""

    reason = "NOT_EXECUTABLE"

    def __init__(self, executable: str, problem: str = "is neither a program nor a script with a #! line") -> None:
        super().__init__("command", executable, problem)


class ExecutableBusy(TxWorkerError):
    """A process has the executable, or its interpreter, open for writing (ETXTBSY of execve(2))."""

    reason = "EXECUTABLE_BUSY"

    def __init__(self, executable: str) -> None:
        super().__init__(
            f"command: {shown(executable)}: is being written to at this moment (text file busy): try again"
        )
        self.executable = executable


class ShimEnded(TxWorkerError):
    """The shim ended while it started the job. What had begun of the job is ended, too."""

    reason = "SHIM_ENDED"

    def __init__(self, executable: str) -> None:
        super().__init__(
            f"{shown(executable)} was not started, because the shim has ended; a new one starts: try again"
        )
        self.executable = executable


class OutOfResources(TxWorkerError):
    """The machine, or a ceiling of the worker, allows no more jobs (or streams) at this time."""

    reason = "OUT_OF_RESOURCES"

    def __init__(self, what: str, reason: str = "OUT_OF_RESOURCES") -> None:
        super().__init__(what)
        self.reason = reason


class NotSupported(TxWorkerError):
    """This worker cannot do what the request asks for: not yet, or not with its configuration or on its machine."""

    reason = "NOT_OFFERED"

    def __init__(self, field: str, value: object, problem: str) -> None:
        super().__init__(f"{field}: {shown(value)} {problem}")
        self.field = field
        self.value = value


class HandoverRefused(TxWorkerError):
    """The worker refuses a handover because the running jobs end with it; why: a predicate that fits any number."""

    reason = "CANNOT_LEAVE"

    def __init__(self, running: int, why: str) -> None:
        super().__init__(f"{running} {'job' if running == 1 else 'jobs'} {why}: nothing was handed over")


class ReloadRefused(TxWorkerError):
    """The configuration cannot be read again as it is; nothing has changed."""

    reason = "CONFIGURATION"


class WorkerStopping(TxWorkerError):
    """The worker takes no new jobs because it is stopping or being drained."""

    reason = "WORKER_STOPPING"

    def __init__(self, text: str = "this worker is stopping and takes no new jobs") -> None:
        super().__init__(text)


class StoreBroken(TxWorkerError):
    """The worker's store cannot be written or read. The worker takes no new jobs until it can."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, problem: str) -> None:
        super().__init__(f"this worker's store of jobs does not work: {problem}")


class StoreFull(StoreBroken):
    """The disk under the worker's store is full."""

    reason = "STORE_FULL"


class RequestReused(TxWorkerError):
    """A request id was used again with a different request."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, job_id: str, difference: str) -> None:
        super().__init__(
            f"requestID: {shown(request_id)} was used before, for job {job_id}, with a different {difference}"
        )
        self.request_id = request_id
        self.job_id = job_id


class OffsetBeyondEnd(TxWorkerError):
    """A stream was requested from an offset beyond the end of a finished output."""

    reason = "OFFSET_BEYOND_END"

    def __init__(self, job_id: str, offset: int, size: int) -> None:
        super().__init__(f"offset: {offset} is beyond the {size} bytes that job {job_id!r} printed")
        self.job_id = job_id
        self.offset = offset
        self.size = size


class OutputGone(TxWorkerError):
    """Another program deleted, cut, or replaced the file of a job's output. loss: the lost bytes, None: unknown."""

    reason = "OUTPUT_GONE"

    def __init__(self, job_id: str, what: str, loss: Loss | None = None) -> None:
        lost = "" if loss is None else f"; lost are the bytes from offset {loss.begin} up to {loss.end}"
        super().__init__(
            f"the output of job {shown(job_id)} is not there any more: another program has {what} its file{lost}"
        )
        self.job_id = job_id
        self.loss = loss


class CallerGone(TxWorkerError):
    """The call ended, by its deadline or its client, before the worker began to work on it. Nothing was done."""

    reason = "CALLER_GONE"

    def __init__(self) -> None:
        super().__init__("the call ended before it was begun; nothing was done")


class CallerLeft(CallerGone):
    """The call ended, by its deadline or its client, while the worker worked on it. What was begun may go on."""

    def __init__(self) -> None:
        TxWorkerError.__init__(self, "the call ended while the worker worked on it; it may still be carried out")


class DeadlineExceeded(CallerGone):
    """A CallerGone that the call's deadline caused. The client's own timer reports it as well."""

    reason = "DEADLINE_OVER"

    def __init__(self) -> None:
        TxWorkerError.__init__(self, "the call's deadline passed before it was answered")


class MessageLate(TxWorkerError):
    """A call was opened, and its message did not arrive in time."""

    reason = "MESSAGE_LATE"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the call's message did not come within {seconds:g} s")
        self.seconds = seconds


class WrongState(TxWorkerError):
    """A fact is impossible in the job's state; the job is unchanged."""

    def __init__(self, job_id: str, state: object, fact: object) -> None:
        super().__init__(f"job {job_id!r} is {state}; {fact} cannot follow")
        self.job_id = job_id


def shown(value: object) -> str:
    """A value for an error message: quoted, printable, and truncated when it is long."""
    return printable(cut(repr(value)))


def shown_words(words: Iterable[str]) -> str:
    """An argument vector on one line, quoted as for a shell, printable, and truncated when it is long."""
    return printable(cut(" ".join(shlex.quote(word) if word.isprintable() else repr(word) for word in words)))
