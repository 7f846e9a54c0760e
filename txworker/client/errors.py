"""
The errors of calls to a worker: one class per situation, named as on the worker, with one clear sentence as message.

`reason` is stable and meant for programs; the sentence is for people and may change.
"""

from __future__ import annotations

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from txworker.base.printable import cut, printable

_MOST_CHARACTERS = 2000


class WorkerError(Exception):
    """
    A call failed. `reason` is that of the worker's ErrorInfo, empty where the error is not the worker's; `code` is the
    name of the gRPC status, such as "NOT_FOUND".
    """

    def __init__(self, sentence: str, reason: str = "", code: str = "") -> None:
        super().__init__(printable(cut(sentence, _MOST_CHARACTERS)))
        self.reason = reason
        self.code = code


class InvalidRequest(WorkerError):
    """A field of the request has an invalid value."""


class NoSuchJob(WorkerError):
    """No job of this worker has that id."""


class AmbiguousJob(WorkerError):
    """The ids of several jobs begin with those characters."""


class JobRemoved(NoSuchJob):
    """There was a job with that id; retention has removed it."""


class JobNotRunning(WorkerError):
    """The job has no process that could be signalled: it is done, or has not started yet."""


class NoTerminal(WorkerError):
    """The job was started without a terminal."""


class NotFed(WorkerError):
    """The job was started without feed: its stdin takes no further bytes."""


class FeedInProgress(WorkerError):
    """Another call feeds the job."""


class NoSuchExecutable(WorkerError):
    """The executable, or the interpreter that its first line names, does not exist on the worker's machine."""


class NoSuchDirectory(WorkerError):
    """The working directory does not exist on the worker's machine."""


class NotPermitted(WorkerError):
    """The worker may not execute that file, or may not enter that directory."""


class NotExecutable(InvalidRequest):
    """The file is there and may be executed, but it is neither a program nor a script with a #! line."""


class ExecutableBusy(WorkerError):
    """A process has the executable open for writing: try again."""


class ShimEnded(WorkerError):
    """The process that starts the worker's jobs ended meanwhile; the job was not started, and another one starts."""


class OutOfResources(WorkerError):
    """The machine's resources or a limit of the worker allow no further job or stream now."""


class NotSupported(WorkerError):
    """The request asks for what this worker does not offer: not yet, or not as it is configured or on its machine."""


class WorkerStopping(WorkerError):
    """The worker takes no new jobs, because it is stopping or being drained."""


class StoreBroken(WorkerError):
    """The worker cannot write or read its store of jobs."""


class StoreFull(StoreBroken):
    """The disk under the worker's store is full."""


class RequestReused(WorkerError):
    """The request id was used before, with a different request."""


class OffsetBeyondEnd(WorkerError):
    """The offset is beyond the end of a finished job's output."""


class OutputGone(WorkerError):
    """The file with the job's output was deleted, cut or replaced on the worker's machine."""


class DeadlineExceeded(WorkerError):
    """The worker did not answer within the deadline."""


class Unreachable(WorkerError):
    """
    No worker answered for as long as the client's patience lasts: `waited` seconds. __cause__ is the error of the last
    attempt, which is the worker's own where it has a reason, such as WORKER_STOPPING.
    """

    waited = 0.0


class Closed(WorkerError):
    """The client was closed: calls that were under way end with this error, and so does every later call."""

    def __init__(self) -> None:
        super().__init__("the client was closed")

    def __reduce__(self) -> tuple[type[Closed], tuple[()]]:  # otherwise pickle passes the sentence on
        return type(self), ()


CLASSES: dict[str, type[WorkerError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "JOB_NOT_FOUND": NoSuchJob,
    "JOB_REMOVED": JobRemoved,
    "JOB_NOT_RUNNING": JobNotRunning,
    "NO_TERMINAL": NoTerminal,
    "NOT_FED": NotFed,
    "FEED_IN_PROGRESS": FeedInProgress,
    "EXECUTABLE_NOT_FOUND": NoSuchExecutable,
    "DIRECTORY_NOT_FOUND": NoSuchDirectory,
    "NOT_PERMITTED": NotPermitted,
    "NOT_EXECUTABLE": NotExecutable,
    "EXECUTABLE_BUSY": ExecutableBusy,
    "SHIM_ENDED": ShimEnded,
    "NOT_OFFERED": NotSupported,
    "WORKER_STOPPING": WorkerStopping,
    "STORE_UNAVAILABLE": StoreBroken,
    "STORE_FULL": StoreFull,
    "REQUEST_ID_REUSED": RequestReused,
    "OFFSET_BEYOND_END": OffsetBeyondEnd,
    "OUTPUT_GONE": OutputGone,
    "DEADLINE_OVER": DeadlineExceeded,
    "MESSAGE_LATE": DeadlineExceeded,
}
"""Classes by the reason in the worker's ErrorInfo. For a reason that is newer than this client the status decides."""

_CLASSES_BY_CODE: dict[str, type[WorkerError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "NOT_FOUND": NoSuchJob,
    "PERMISSION_DENIED": NotPermitted,
    "RESOURCE_EXHAUSTED": OutOfResources,
    "FAILED_PRECONDITION": NotSupported,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
}

PASSING = frozenset({"WORKER_STOPPING", "SHIM_ENDED", "DEADLINE_OVER", "MESSAGE_LATE", "TOO_MANY_CALLS", "CALLER_GONE"})
"""Reasons of a worker, for calls that may succeed soon."""

_OF_A_CONNECTION = frozenset({"UNAVAILABLE", "CANCELLED", "UNKNOWN", "INTERNAL", "DEADLINE_EXCEEDED"})
"""How gRPC reports a broken connection; a worker's own errors carry an ErrorInfo beside the status."""


def error_of(error: grpc.RpcError) -> WorkerError:
    """The error of this library for what gRPC raised."""
    code = error.code().name
    reason = _reason(error)
    kind = CLASSES.get(reason) or _CLASSES_BY_CODE.get(code, WorkerError)
    return kind(error.details() or code, reason, code)


def passes(error: WorkerError) -> bool:
    """Whether the same call may succeed soon: the connection broke, or the worker is busy or being replaced."""
    if error.reason:
        return error.reason in PASSING
    return error.code in _OF_A_CONNECTION


def _reason(error: grpc.RpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # what a stub raises is a Call, too
    for detail in status.details if status is not None else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
