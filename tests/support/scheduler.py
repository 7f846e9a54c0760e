"""A scheduler on a real gRPC server, which behaves as the existing one does."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from txworker.pb import scheduler_pb2 as pb
from txworker.pb import scheduler_pb2_grpc

LIMIT = 30.0


class SchedulerStandIn(scheduler_pb2_grpc.SchedulerServicer):
    """
    Keeps workers in memory only, leaves `success` false when a registration worked, and says success to any goodbye.

    `events` hears ("register", address, id) and ("deregister", "", id). While `open_gate` is clear no call is answered.
    `metadata` is that of the last registration.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.events: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self.open_gate = threading.Event()
        self.open_gate.set()
        self.port = 0
        self.metadata: dict[str, str | bytes] = {}
        self._credentials = credentials
        self._last_id = 0
        self._server: grpc.Server | None = None

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """On a free port the first time, on the same one from then on."""
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(self, self._server)
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self._credentials)
        self._server.start()

    def stop(self) -> None:
        self.open_gate.set()
        if self._server is not None:
            self._server.stop(None).wait(LIMIT)

    def next_event(self) -> tuple[str, str, str]:
        """Blocks the calling thread until something is heard; fails when nothing is."""
        return self.events.get(timeout=LIMIT)

    def RegisterWorker(self, request: pb.RegisterReq, context: grpc.ServicerContext) -> pb.RegisterRes:
        self.open_gate.wait(LIMIT)
        self._last_id += 1
        self.metadata = dict(context.invocation_metadata())
        worker_id = f"worker-{self._last_id}"
        self.events.put(("register", request.address, worker_id))
        return pb.RegisterRes(success=False, workerID=worker_id)

    def DeregisterWorker(self, request: pb.DeregisterReq, context: grpc.ServicerContext) -> pb.DeregisterRes:
        self.open_gate.wait(LIMIT)
        self.events.put(("deregister", "", request.workerID))
        return pb.DeregisterRes(success=True)
