"""Our errors and gRPC's, side by side. Any thread."""

from __future__ import annotations

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from txworker.jobs import errors

DOMAIN = "txworker"
"""Of every ErrorInfo we send; its reason is the error class's `reason` and stays as it is."""

_CODES: dict[type[errors.TxWorkerError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NoSuchJob: grpc.StatusCode.NOT_FOUND,
    errors.JobRemoved: grpc.StatusCode.NOT_FOUND,
    errors.NoSuchExecutable: grpc.StatusCode.NOT_FOUND,
    errors.NoSuchDirectory: grpc.StatusCode.NOT_FOUND,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.ExecutableBusy: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfResources: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotSupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.HandoverRefused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.WorkerStopping: grpc.StatusCode.UNAVAILABLE,
    errors.StoreBroken: grpc.StatusCode.UNAVAILABLE,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RequestReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.OffsetBeyondEnd: grpc.StatusCode.OUT_OF_RANGE,
    errors.OutputGone: grpc.StatusCode.DATA_LOSS,
    errors.CallerGone: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.MessageLate: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: errors.TxWorkerError) -> grpc.StatusCode:
    """The status code that says what the error says."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def status_of(error: errors.TxWorkerError) -> grpc.Status:
    """The whole status: code, sentence, and an ErrorInfo for programs."""
    info = Any()
    info.Pack(ErrorInfo(reason=error.reason, domain=DOMAIN))
    code: int = code_of(error).value[0]
    return rpc_status.to_status(Status(code=code, message=str(error), details=[info]))
