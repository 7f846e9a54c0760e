"""Watchers of all jobs, each of which folds what it is told into a view, and finds fault with what comes."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc

from tests.support.journal import done
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_STAGE = {pb.JOB_STATE_PENDING: 0, pb.JOB_STATE_RUNNING: 1, pb.JOB_STATE_STOPPING: 2}
"""What may follow what; every end comes last."""


class Watcher:
    """
    WatchJobs over a connection of its own, from now until close(); `view` is the newest record of each job,
    `ended` the ids of those that are done, last_at when the last of these was told, by time.monotonic().

    faults are events that must not be: of a job in a state that it had already, or had already left.
    """

    def __init__(self, addr: str, **request: Any) -> None:
        self.view: dict[str, pb.Job] = {}
        self.ended: set[str] = set()
        self.last_at = 0.0
        self.faults: list[str] = []
        self._channel = grpc.insecure_channel(addr, [("grpc.use_local_subchannel_pool", 1)])
        self.call = WorkerStub(self._channel).WatchJobs(pb.WatchJobsReq(**request))

    def follow(self) -> Watcher:
        """Read in a thread of its own, from now on."""
        threading.Thread(target=self.read, daemon=True).start()
        return self

    def read(self) -> None:
        """Fold what comes until it ends, or until close()."""
        try:
            for event in self.call:
                self._fold(event.job)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                self.faults.append(str(error))

    def knows(self, count: int) -> bool:
        """So many ends are known; or something was wrong."""
        return len(self.ended) >= count or bool(self.faults)

    def close(self) -> None:
        """Leave."""
        self.call.cancel()
        self._channel.close()

    def _fold(self, job: pb.Job) -> None:
        before = self.view.get(job.jobID)
        if before is not None and (done(before) or _STAGE.get(job.state, 3) <= _STAGE[before.state]):
            self.faults.append(f"after {before} came {job}")
        self.view[job.jobID] = job
        if done(job):
            self.ended.add(job.jobID)
            self.last_at = time.monotonic()
