"""The gRPC status of each error. Any thread."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from txworker.jobs import errors

DOMAIN = "txworker"
"""The domain in every ErrorInfo. Its reason is the error's `reason`, which never changes."""

_DETAILS = "grpc-status-details-bin"
"""The metadata in which gRPC sends a whole status."""

_CODES: dict[type[errors.TxWorkerError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NoSuchJob: grpc.StatusCode.NOT_FOUND,
    errors.JobRemoved: grpc.StatusCode.NOT_FOUND,
    errors.JobNotRunning: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NoTerminal: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FeedInProgress: grpc.StatusCode.ABORTED,
    errors.NoSuchExecutable: grpc.StatusCode.NOT_FOUND,
    errors.NoSuchDirectory: grpc.StatusCode.NOT_FOUND,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotExecutable: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ExecutableBusy: grpc.StatusCode.UNAVAILABLE,
    errors.ShimEnded: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfResources: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotSupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.HandoverRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ReloadRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WorkerStopping: grpc.StatusCode.UNAVAILABLE,
    errors.StoreBroken: grpc.StatusCode.UNAVAILABLE,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RequestReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.OffsetBeyondEnd: grpc.StatusCode.OUT_OF_RANGE,
    errors.OutputGone: grpc.StatusCode.DATA_LOSS,
    errors.CallerGone: grpc.StatusCode.CANCELLED,
    errors.CallerLeft: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.MessageLate: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: errors.TxWorkerError) -> grpc.StatusCode:
    """The error's status code."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def reason_of(trailing_metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The reason of the error that this metadata of an answer tells; empty: none."""
    for name, value in trailing_metadata:
        if name == _DETAILS and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                info = ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason)
    return ""


def status_of(error: errors.TxWorkerError) -> grpc.Status:
    """The error's whole status: code, sentence, and an ErrorInfo for programs."""
    info = Any()
    info.Pack(ErrorInfo(reason=error.reason, domain=DOMAIN))
    code: int = code_of(error).value[0]
    return rpc_status.to_status(Status(code=code, message=str(error), details=[info]))
