"""The client for programs with threads, or with none: every method blocks until it is answered. And its jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc

from txworker.client.calls import Calls
from txworker.client.connection import DEFAULT_ADDR, TLS
from txworker.client.errors import NoSuchJob
from txworker.client.feed_thread import FeedCalls, FeedThread
from txworker.client.feeding import Source, Unacknowledged, check_source
from txworker.client.leases import RenewalThread
from txworker.client.outage import TimeLimit, done_now, is_over
from txworker.client.parameters import check_seconds
from txworker.client.reading import Changes, Reading, decoder
from txworker.client.requests import (
    id_of,
    ids_of,
    list_request,
    next_page,
    only_job,
    prefix_request,
    query_request,
    resize_request,
    signal_request,
    stop_request,
    watch_request,
)
from txworker.client.starts import StartDetails, start_request
from txworker.client.telling import tell_log
from txworker.client.values import JobRecord, JobResult, JobState, LiveUsage, record_of, usages_of
from txworker.pb import worker_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack  # typing has it from Python 3.11 on; type checkers bring it

T = TypeVar("T")


class Client:
    """
    A connection to a worker. Any thread may call, several at a time.

    addr: HOST:PORT, or unix:PATH of the worker's socket. patience: seconds for which every method waits for a worker
    that restarts, drains or cannot be reached (math.inf: for ever); first_patience: the same until the worker has
    answered once (None: as patience). deadline: seconds for each single answer. tell(sentence) is called when the
    worker is waited for and when it answers again; by default the logger "txworker.client" logs the sentence.

    Every method may raise a WorkerError: one class for each situation (errors.py), Unreachable once the patience is
    over. close() ends all calls under way with Closed; so does leaving the `with` block.
    """

    def __init__(
        self,
        addr: str = DEFAULT_ADDR,
        *,
        tls: TLS | None = None,
        patience: float = 60.0,
        first_patience: float | None = None,
        deadline: float = 10.0,
        tell: Callable[[str], None] = tell_log,
    ) -> None:
        self.addr = addr
        self._calls = Calls(addr, tls, patience, first_patience, deadline, tell)
        self._stub = self._calls.stub
        self._leases = RenewalThread(self._renew_once, tell)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all calls, in every thread, and close the connection. Jobs run on. May be called again."""
        self._calls.close()
        self._leases.close()

    def start(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> Job:
        """
        Start a job; it runs once this returns. details: the fields of `StartDetails`, by keyword.

        Safe across lost connections: the request carries an id, so nothing is started twice.
        """
        request = start_request(command, path, details)
        answer = self._calls.ask("starting a job", self._stub.StartJob, request)
        return Job(self, answer.jobID, details.get("lease"))

    def run(self, command: str, path: str = "", **details: Unpack[StartDetails]) -> tuple[JobResult, bytes]:
        """
        Start a job and wait for it. Returns how it ended and what it printed, which is held in memory. Its lease, if it
        has one, is renewed meanwhile.
        """
        job = self.start(command, path, **details)
        printed = b"".join(job.follow())
        return job.wait(), printed

    def get(self, job_id: str) -> JobRecord:
        """
        The record of a job. The first characters of its id (at least 4) are enough if no other id begins with them.

        Raises:
            NoSuchJob, AmbiguousJob: no id begins with these characters, or several do.
        """
        what = f"job {job_id}"
        try:
            return record_of(self._calls.ask(what, self._stub.QueryJob, query_request(job_id)).job)
        except NoSuchJob as missing:
            request = prefix_request(job_id, missing)
            whole = only_job(job_id, self._calls.ask(what, self._stub.ListJobs, request))
            if not whole:
                raise
        return record_of(self._calls.ask(what, self._stub.QueryJob, query_request(whole)).job)

    def job(self, job_id: str, lease: float | None = None) -> Job:
        """
        A handle for a job that was started before. Only the methods of the handle ask the worker whether it exists.

        lease: that of the job in seconds, if the handle is to renew it while the job is followed or waited for.
        """
        return Job(self, job_id, lease)

    def jobs(
        self,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        *,
        limit: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Generator[JobRecord, None, None]:
        """
        The worker's jobs, the newest first, fetched page by page; of these states, with all of these labels, created
        at the time `since` or later and before `until`, at most `limit` (0: all). A time without a zone is local.
        """
        request = list_request(states, labels, limit, since, until)
        left = limit
        while True:
            answer = self._calls.ask("listing jobs", self._stub.ListJobs, request)
            yield from map(record_of, answer.jobs)
            left -= len(answer.jobs)
            if (limit and left <= 0) or not next_page(request, answer, max(left, 0)):
                return

    def stop(self, job_id: str, grace: float | None = None, wait: bool = False) -> JobRecord:
        """
        Ask a job to end: TERM, and KILL after `grace` seconds (None: the worker's default). Returns its record then, or
        with `wait` the last one, once it has ended.
        """
        self._calls.ask(f"stopping job {job_id}", self._stub.StopJob, stop_request(job_id, grace, wait))
        return self.wait(job_id) if wait else self.get(job_id)

    def signal(self, job_id: str, number: int) -> None:
        """
        Send a signal to a running job's process group. The job counts as stopped only by stop().

        Sent once: if the connection breaks before the answer, this raises a WorkerError, and the signal may have
        arrived.

        Raises:
            JobNotRunning: it is done.
        """
        once = partial(self._stub.SignalJob, wait_for_ready=True)
        self._calls.ask_once(once, signal_request(job_id, number))

    def feed(self, job_id: str, source: Source, *, end: bool = True) -> int:
        """
        Write to the stdin of a job that was started with `feed`, as fast as the job reads: bytes, a file in binary
        mode, or anything that yields bytes. Then close it, unless `end` is False. Returns how many bytes the job has
        taken: fewer than there were, if it closed its stdin or ended meanwhile.

        Each byte is written exactly once, even if connections are lost or workers replaced; only one call can feed a
        job at a time. The source is read in this thread once the worker has accepted the feeding, and
        read ahead by a few megabytes at most. When the job takes no more, that is noticed at the source's next piece.

        Raises:
            NotFed: it was started without `feed`.
            JobNotRunning: it was done before.
            FeedInProgress: another call feeds it.
        """
        check_source(source)
        return FeedThread(Unacknowledged(job_id, end), FeedCalls(self._calls, job_id)).run(source)

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        """
        Give the terminal of a job that was started with `tty` another size; its foreground processes get SIGWINCH.

        Raises:
            NoTerminal: it was started without one.
            JobNotRunning: it is done.
        """
        request = resize_request(job_id, rows, columns)
        self._calls.ask(f"resizing the terminal of job {job_id}", self._stub.ResizeJob, request)

    def renew(self, job_ids: Iterable[str]) -> list[str]:
        """
        Count the leases of these jobs from now. Returns the ids of the jobs that no longer run: done, removed, or
        unknown.

        A job without a lease is not changed.
        """
        request = pb.RenewLeasesReq(jobIDs=ids_of(job_ids))
        return list(self._calls.ask("renewing leases", self._stub.RenewLeases, request).gone)

    def renewing(self, job_id: str, lease: float | None) -> AbstractContextManager[None]:
        """
        Inside the block the job's lease of that many seconds is renewed at once and after each third of it; None: it
        has none. One thread of the client renews all leases while there are any.

        A renewal that fails is repeated as long as the block lasts; `tell` is called for a failure that does not pass.

        Raises:
            ValueError: the lease is not more than 0.
        """
        return self._leases.renewing(job_id, lease)

    def usage(self, job_ids: Iterable[str] = ()) -> dict[str, LiveUsage]:
        """What running jobs use now, by job id; of all if none is named. A job that is done is left out."""
        return usages_of(self._calls.ask("usage of jobs", self._stub.JobUsage, pb.JobUsageReq(jobIDs=ids_of(job_ids))))

    def follow(
        self, job_id: str, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> Generator[bytes, None, None]:
        """
        What the job prints from byte `offset` on, as it comes, until the job is done; every byte exactly once, even if
        connections are lost. Closing the generator ends the call.

        stderr: that of a job that keeps it separate. tail: begin that many lines before the end; 0: what comes from now
        on (if the connection is lost before the first byte, what is printed meanwhile is missed).
        live=False: only to the current end.
        """
        reading = Reading(job_id, offset, stderr, tail, live)
        outage = self._calls.outage(f"following job {job_id}")
        while True:
            try:
                with self._calls.open(self._stub.StreamJob, reading.request()) as messages:
                    for message in messages:
                        self._calls.over(outage)
                        yield reading.take(message)
                return
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                self._calls.reach(outage, self._calls.error(error), f"at byte {reading.position}")

    def wait(self, job_id: str, timeout: float | None = None) -> JobResult:
        """
        Wait until the job is done; returns its last record. With a timeout of 0 the worker is asked once.

        Raises:
            TimeoutError: it is not done after `timeout` seconds. The job runs on.
            NoSuchJob: there is none.
        """
        if is_over(timeout):
            return done_now(self.get(job_id), timeout or 0.0)
        with closing(self.watch([id_of(job_id)], timeout=timeout)) as records:
            for record in records:
                if isinstance(record, JobResult):
                    return record
        raise NoSuchJob(f"job {job_id} disappeared while it was waited for", "JOB_NOT_FOUND", "NOT_FOUND")

    def watch(
        self, job_ids: Iterable[str] = (), labels: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Generator[JobRecord, None, None]:
        """
        The jobs as they are now, then each change. Ends when all named jobs are done; never if none was named.

        After a lost connection each job that has changed meanwhile comes once, as it is then. Closing the generator
        ends the call.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
        """
        changes = Changes(watch_request(job_ids, labels))
        outage = self._calls.outage("watching jobs")
        limit = TimeLimit(timeout, time.monotonic)
        while True:
            try:
                with self._calls.open(self._stub.WatchJobs, changes.request(), limit.left()) as events:
                    for event in events:
                        self._calls.over(outage)
                        record = changes.take(event)
                        if record is not None:
                            yield record
                return
            except grpc.RpcError as error:  # noqa: PERF203  # each turn of the loop is an attempt
                failure = self._calls.error(error)
                limit.check(failure)
                self._calls.reach(outage, failure, "", limit)

    def _renew_once(self, job_ids: list[str]) -> Iterable[str]:
        answer: pb.RenewLeasesRes = self._calls.ask_once(self._stub.RenewLeases, pb.RenewLeasesReq(jobIDs=job_ids))
        return answer.gone


class Job:
    """
    One job of a client's worker, by its `id`. Any thread.

    lease: the seconds that it was started with; follow(), text() and wait() renew it. None: it has none, or none is
    renewed.
    """

    def __init__(self, client: Client, job_id: str, lease: float | None = None) -> None:
        check_seconds("lease", lease)
        self.id = id_of(job_id)
        self.lease = lease
        self._client = client

    def __repr__(self) -> str:
        return f"<job {self.id} of {self._client.addr}>"

    def record(self) -> JobRecord:
        """The record of the job now."""
        return self._client.get(self.id)

    def follow(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> Generator[bytes, None, None]:
        """As `Client.follow`; the lease is renewed from the first byte that is asked for until the generator ends."""
        with self._client.renewing(self.id, self.lease):
            yield from self._client.follow(self.id, offset, stderr=stderr, tail=tail, live=live)

    def text(
        self, offset: int = 0, *, stderr: bool = False, tail: int | None = None, live: bool = True
    ) -> Generator[str, None, None]:
        """As `Job.follow`, decoded as UTF-8, in pieces of any length; invalid UTF-8 becomes U+FFFD."""
        decode = decoder().decode
        with closing(self.follow(offset, stderr=stderr, tail=tail, live=live)) as chunks:
            yield from filter(None, map(decode, chunks))
        if rest := decode(b"", final=True):
            yield rest

    def wait(self, timeout: float | None = None) -> JobResult:
        """As `Client.wait`; the lease is renewed meanwhile."""
        with self._client.renewing(self.id, self.lease):
            return self._client.wait(self.id, timeout)

    def stop(self, grace: float | None = None, wait: bool = False) -> JobRecord:
        """As `Client.stop`."""
        return self._client.stop(self.id, grace, wait)

    def signal(self, number: int) -> None:
        """As `Client.signal`."""
        self._client.signal(self.id, number)

    def feed(self, source: Source, *, end: bool = True) -> int:
        """As `Client.feed`."""
        return self._client.feed(self.id, source, end=end)

    def resize(self, rows: int, columns: int) -> None:
        """As `Client.resize`."""
        self._client.resize(self.id, rows, columns)
