"""The client for programs with threads, or with none: every method blocks until it is answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from txworker.client.connection import DEFAULT_ADDR, OPTIONS, TLS, target
from txworker.client.errors import Closed, NoSuchJob, WorkerError, error_of
from txworker.client.outage import Outage
from txworker.client.reading import Changes, Reading, decoder
from txworker.client.requests import StartDetails, list_request, start_request, stop_request
from txworker.client.telling import tell_log
from txworker.client.values import JobRecord, JobResult, JobState, record_of
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on; type checkers bring it

T = TypeVar("T")


class Client:
    """
    A worker, as a program uses it. Any thread may call, several at a time.

    addr: HOST:PORT, or unix:PATH of the worker's socket. patience: seconds for which a worker that restarts, drains or
    cannot be reached is waited for (math.inf: for ever), by every method alike. deadline: seconds for each single
    answer. tell(sentence) hears when the worker is waited for and when it is back; by default that is logged by
    logging's "txworker.client".

    Every method raises WorkerError: one class for each situation (errors.py); Unreachable once the patience is over.
    close() ends all that is under way with Closed; so does leaving the `with` block.
    """

    def __init__(
        self,
        addr: str = DEFAULT_ADDR,
        *,
        tls: TLS | None = None,
        patience: float = 60.0,
        deadline: float = 10.0,
        tell: Callable[[str], None] = tell_log,
    ) -> None:
        self.addr = addr
        self._patience = patience
        self._deadline = deadline
        self._tell = tell
        self._closed = threading.Event()
        self._calls: set[Any] = set()
        self._lock = threading.Lock()
        if tls is None:
            self._channel = grpc.insecure_channel(target(addr), OPTIONS)
        else:
            self._channel = grpc.secure_channel(target(addr), tls.credentials(), OPTIONS)
        self._stub = WorkerStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all calls and the connection. Jobs run on. Again is harmless."""
        self._closed.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        self._channel.close()

    def start(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Job:
        """
        Start a job; once this returns it runs. The details are those of start_request() (requests.py).

        Safe over lost connections: the request carries an id, and nothing is started twice.
        """
        request = start_request(command, path, details)
        answer = self._ask("starting a job", self._stub.StartJob, request)
        return Job(self, answer.jobID)

    def run(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> tuple[JobResult, bytes]:
        """Start a job and wait for it: how it ended, and what it printed, which is held in memory."""
        job = self.start(command, path, **details)
        printed = b"".join(job.follow())
        return job.wait(), printed

    def get(self, job_id: str) -> JobRecord:
        """How that job stands."""
        return record_of(self._ask(f"job {job_id}", self._stub.QueryJob, pb.QueryJobReq(jobID=job_id)).job)

    def job(self, job_id: str) -> Job:
        """A handle for a job that was started before; whether there is one is found out by its methods."""
        return Job(self, job_id)

    def jobs(self, states: Iterable[JobState] = (), labels: Mapping[str, str] | None = None) -> Iterator[JobRecord]:
        """The worker's jobs, the newest first, fetched page by page; of these states, with all of these labels."""
        request = list_request(states, labels)
        while True:
            answer = self._ask("listing jobs", self._stub.ListJobs, request)
            yield from map(record_of, answer.jobs)
            request.pageToken = answer.nextPageToken
            if not request.pageToken:
                return

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> JobRecord:
        """
        Ask a job to end: TERM, and KILL after `grace` seconds (None: the worker's default). How it stands then, or
        with `wait` how it has ended.
        """
        self._ask(f"stopping job {job_id}", self._stub.StopJob, stop_request(job_id, grace))
        return self.wait(job_id) if wait else self.get(job_id)

    def follow(self, job_id: str, offset: int = 0, *, stderr: bool = False, tail: int | None = None) -> Iterator[bytes]:
        """
        What the job prints from byte `offset` on, as it comes, until the job is done; every byte once, whatever
        connections are lost. Closing the iterator ends the call.

        stderr: of a job that keeps it separate. tail: begin so many lines before the end; 0: what comes from now on.
        """
        reading = Reading(job_id, offset, stderr, tail)
        outage = self._outage(f"following job {job_id}")
        while True:
            try:
                with self._open(self._stub.StreamJob(reading.request())) as messages:
                    for message in messages:
                        outage.over()
                        yield reading.take(message)
                return
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                self._pause(outage.failed(self._error(error), f"at byte {reading.position}"))

    def wait(self, job_id: str, timeout: float | None = None) -> JobResult:
        """
        How the job has ended, once it has.

        Raises:
            TimeoutError: it is not done after so many seconds. The job runs on.
            NoSuchJob: there is none.
        """
        for record in self.watch([job_id], timeout=timeout):
            if isinstance(record, JobResult):
                return record
        raise NoSuchJob(f"job {job_id} went away while it was waited for", "JOB_NOT_FOUND", "NOT_FOUND")

    def watch(
        self, job_ids: Iterable[str] = (), labels: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Iterator[JobRecord]:
        """
        The jobs as they stand, then each change; ends when all that were named are done, never where none was named.

        After a lost connection what has changed meanwhile is told. Raises TimeoutError after `timeout` seconds.
        """
        changes = Changes(list(job_ids), dict(labels or {}))
        outage = self._outage("watching jobs")
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"not done after {timeout:g} s")
            try:
                with self._open(self._stub.WatchJobs(changes.request(), timeout=left)) as events:
                    for event in events:
                        outage.over()
                        record = changes.take(event)
                        if record is not None:
                            yield record
                return
            except grpc.RpcError as error:
                self._pause(min(outage.failed(self._error(error)), left or self._patience))

    def _ask(self, what: str, method: Callable[..., T], request: Any) -> T:
        outage = self._outage(what)
        while True:
            try:
                answer = method(request, timeout=self._deadline)
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                self._pause(outage.failed(self._error(error)))
            except ValueError as error:  # gRPC's, of a channel that is closed
                raise Closed("the client was closed") from error
            else:
                outage.over()
                return answer

    @contextmanager
    def _open(self, call: Any) -> Iterator[Any]:
        """A stream, which close() can end, and which is ended when it is left."""
        with self._lock:
            self._calls.add(call)
        try:
            if self._closed.is_set():
                raise Closed("the client was closed")
            yield call
        finally:
            call.cancel()
            with self._lock:
                self._calls.discard(call)

    def _outage(self, what: str) -> Outage:
        if self._closed.is_set():
            raise Closed("the client was closed")
        return Outage(what, self._patience, self._tell, time.monotonic)

    def _error(self, error: grpc.RpcError) -> WorkerError:
        if self._closed.is_set():
            return Closed("the client was closed", "CLOSED")
        return error_of(error)

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise Closed("the client was closed")


class Job:
    """One job of a client's worker. Any thread."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"<job {self.id} of {self._client.addr}>"

    def record(self) -> JobRecord:
        """How it stands."""
        return self._client.get(self.id)

    def follow(self, offset: int = 0, *, stderr: bool = False, tail: int | None = None) -> Iterator[bytes]:
        """As Client.follow()."""
        return self._client.follow(self.id, offset, stderr=stderr, tail=tail)

    def text(self, offset: int = 0, *, stderr: bool = False, tail: int | None = None) -> Iterator[str]:
        """As follow(), decoded as UTF-8; what is none becomes U+FFFD."""
        decode = decoder().decode
        for data in self.follow(offset, stderr=stderr, tail=tail):
            yield decode(data)
        yield decode(b"", final=True)

    def wait(self, timeout: float | None = None) -> JobResult:
        """As Client.wait()."""
        return self._client.wait(self.id, timeout)

    def stop(self, grace: float | None = None, wait: bool = False) -> JobRecord:
        """As Client.stop()."""
        return self._client.stop(self.id, grace, wait)
