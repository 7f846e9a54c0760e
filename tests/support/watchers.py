"""Watchers of all jobs that keep the newest records and detect wrong events."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc

from tests.support.journal import done
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

_STAGE = {pb.JOB_STATE_PENDING: 0, pb.JOB_STATE_RUNNING: 1, pb.JOB_STATE_STOPPING: 2}
"""The order of states; every final state comes last."""


class Watcher:
    """
    Calls WatchJobs on a connection of its own, until close().

    view: the newest record of each job. ended: ids of done jobs. last_at: when the last of these came (time.monotonic).
    faults: wrong events, which repeat a state of a job or go back to an earlier one.
    """

    def __init__(self, addr: str, **request: Any) -> None:
        self.view: dict[str, pb.Job] = {}
        self.ended: set[str] = set()
        self.last_at = 0.0
        self.faults: list[str] = []
        self._channel = grpc.insecure_channel(addr, [("grpc.use_local_subchannel_pool", 1)])
        self.call = WorkerStub(self._channel).WatchJobs(pb.WatchJobsReq(**request))

    def follow(self) -> Watcher:
        """Start read() in a thread."""
        threading.Thread(target=self.read, daemon=True).start()
        return self

    def read(self) -> None:
        """Process events until the call ends."""
        try:
            for event in self.call:
                self._process(event.job)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                self.faults.append(str(error))

    def knows(self, count: int) -> bool:
        """So many jobs are done, or there is a fault."""
        return len(self.ended) >= count or bool(self.faults)

    def close(self) -> None:
        """End the call."""
        self.call.cancel()
        self._channel.close()

    def _process(self, job: pb.Job) -> None:
        before = self.view.get(job.jobID)
        if before is not None and (done(before) or _STAGE.get(job.state, 3) <= _STAGE[before.state]):
            self.faults.append(f"after {before} came {job}")
        self.view[job.jobID] = job
        if done(job):
            self.ended.add(job.jobID)
            self.last_at = time.monotonic()
