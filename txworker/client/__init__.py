"""
A client library: start jobs on a worker, follow their output across lost connections, learn how they ended.

    from txworker.client import Client

    with Client("worker:30000") as worker:
        job = worker.start("python3", "report.py", args=["--all"], labels={"night": "1"})
        for data in job.follow():
            ...
        print(job.wait().exit_code)

`Client` blocks, `AsyncClient` is asyncio's, and `txworker.client.tx.TwistedClient` returns Deferreds; the three have
the same methods. docs/client.md shows each of them, and what happens when connections are lost.
"""

from txworker.client.aio import AsyncClient, AsyncJob
from txworker.client.connection import TLS
from txworker.client.errors import (
    AmbiguousJob,
    Closed,
    DeadlineExceeded,
    ExecutableBusy,
    FeedInProgress,
    InvalidRequest,
    JobNotRunning,
    JobRemoved,
    NoSuchDirectory,
    NoSuchExecutable,
    NoSuchJob,
    NoTerminal,
    NotExecutable,
    NotFed,
    NotPermitted,
    NotSupported,
    OffsetBeyondEnd,
    OutOfResources,
    OutputGone,
    RequestReused,
    ShimEnded,
    StoreBroken,
    StoreFull,
    Unreachable,
    WorkerError,
    WorkerStopping,
)
from txworker.client.starts import StartDetails
from txworker.client.sync import Client, Job
from txworker.client.values import JobRecord, JobResult, JobState, Limits, LiveUsage, Usage

__all__ = [
    "TLS",
    "AmbiguousJob",
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Closed",
    "DeadlineExceeded",
    "ExecutableBusy",
    "FeedInProgress",
    "InvalidRequest",
    "Job",
    "JobNotRunning",
    "JobRecord",
    "JobRemoved",
    "JobResult",
    "JobState",
    "Limits",
    "LiveUsage",
    "NoSuchDirectory",
    "NoSuchExecutable",
    "NoSuchJob",
    "NoTerminal",
    "NotExecutable",
    "NotFed",
    "NotPermitted",
    "NotSupported",
    "OffsetBeyondEnd",
    "OutOfResources",
    "OutputGone",
    "RequestReused",
    "ShimEnded",
    "StartDetails",
    "StoreBroken",
    "StoreFull",
    "Unreachable",
    "Usage",
    "WorkerError",
    "WorkerStopping",
]
