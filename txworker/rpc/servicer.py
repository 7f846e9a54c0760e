"""The Worker service: one short method per RPC, which reads the request, calls the worker and answers. gRPC threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NoReturn, TypeVar

import grpc
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from txworker.base.logs import Logger
from txworker.base.ratelimit import Allows
from txworker.jobs import Job, JobSpec
from txworker.jobs.errors import CallerGone, CallerLeft, InvalidRequest, TxWorkerError, shown_words
from txworker.pb import worker_pb2 as pb
from txworker.pb import worker_pb2_grpc
from txworker.ports import NO_OBSERVER, LiveUsages, Observer, Tracer
from txworker.rpc.bridge import Bridge, Caller
from txworker.rpc.feed import FeedCall
from txworker.rpc.streams import job_of, stream
from txworker.rpc.watch import watch
from txworker.rpc.wire.jobs import (
    job_to_pb,
    query_to_pb,
    seconds_from_pb,
    signal_from_pb,
    spec_from_pb,
    terminal_size_from_pb,
    usages_to_pb,
)
from txworker.rpc.wire.lists import page_size, page_start, page_to_pb, query_from_pb
from txworker.rpc.wire.status import status_of
from txworker.worker.worker import Worker

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""How long a call waits for the worker. A client's own deadline is usually shorter."""


class WorkerServicer(worker_pb2_grpc.WorkerServicer):
    """
    The Worker service over one worker. user: the names of the user that jobs run as, the usual one first.

    allows(kind) limits the rate of log lines that clients cause.
    """

    _log = Logger()

    def __init__(
        self,
        worker: Worker,
        bridge: Bridge,
        usages: LiveUsages,
        user: Sequence[str],
        allows: Allows = lambda kind: True,
        observer: Observer = NO_OBSERVER,
        tracer: Tracer | None = None,
    ) -> None:
        self._worker = worker
        self._catalog = worker.catalog
        self._bridge = bridge
        self._usages = usages
        self._user = user
        self._allows = allows
        self._observer = observer
        self._tracer = tracer

    def StartJob(self, request: pb.StartJobReq, context: grpc.ServicerContext) -> pb.StartJobRes:
        """Starts a job. Answers when its process runs."""

        def answer() -> pb.StartJobRes:
            try:
                return pb.StartJobRes(jobID=self._submitted(request, context).id)
            except TxWorkerError as error:
                self._observer.refused(error.reason)
                if self._allows(f"starts refused ({error.reason})"):
                    self._log_refusal(request.requestID, context.peer(), error)
                raise

        return self._answered(context, answer)

    def StopJob(self, request: pb.StopJobReq, context: grpc.ServicerContext) -> pb.StopJobRes:
        """Asks a job to end. Answers at once."""

        def answer() -> pb.StopJobRes:
            grace = seconds_from_pb("grace", request.grace) if request.HasField("grace") else None
            self._bridge.caller(context).call(lambda: self._worker.stop(_id_of(request), grace), ANSWER_SECONDS)
            return pb.StopJobRes()

        return self._answered(context, answer)

    def QueryJob(self, request: pb.QueryJobReq, context: grpc.ServicerContext) -> pb.QueryJobRes:
        """A job's present record, with its full spec."""
        return self._answered(
            context, lambda: query_to_pb(self._catalog.with_full_spec(self._catalog.get(_id_of(request))))
        )

    def StreamJob(self, request: pb.StreamJobReq, context: grpc.ServicerContext) -> Iterator[Any]:
        """A job's output, then what is written to it until the job is done. Yields StreamJobRes, serialized."""

        def messages(caller: Caller) -> Iterator[bytes]:
            job = job_of(self._catalog, request)
            with self._catalog.viewers.looking(job.id):
                yield from stream(self._catalog, caller, job.id, request)

        return self._streamed(context, messages)

    def ListJobs(self, request: pb.ListJobsReq, context: grpc.ServicerContext) -> pb.ListJobsRes:
        """A page of jobs, newest first."""

        def answer() -> pb.ListJobsRes:
            query, most = query_from_pb(request), page_size(request)
            check = self._bridge.caller(context).check
            check()  # the client may have left while the call waited for a thread
            with closing(self._catalog.page(query, page_start(request, query), most + 1, check)) as jobs:
                return page_to_pb(jobs, most, query)

        return self._answered(context, answer)

    def WatchJobs(self, request: pb.WatchJobsReq, context: grpc.ServicerContext) -> Iterator[pb.JobEvent]:
        """The present records of the jobs, then every change."""

        def events(caller: Caller) -> Iterator[pb.JobEvent]:
            for job in watch(self._catalog, caller, request):
                yield pb.JobEvent(job=job_to_pb(job))

        return self._streamed(context, events)

    def SignalJob(self, request: pb.SignalJobReq, context: grpc.ServicerContext) -> pb.SignalJobRes:
        """Sends a signal to a job's process group. Answers at once."""

        def answer() -> pb.SignalJobRes:
            job_id, number = _id_of(request), signal_from_pb(request)
            self._bridge.caller(context).call(lambda: self._worker.running.signal(job_id, number), ANSWER_SECONDS)
            if self._allows("signals"):
                text = "Job {job_id} was sent signal {number} by {peer}."
                self._log.info(text, job_id=job_id, number=number, peer=context.peer())
            return pb.SignalJobRes()

        return self._answered(context, answer)

    def JobUsage(self, request: pb.JobUsageReq, context: grpc.ServicerContext) -> pb.JobUsageRes:
        """What running jobs use now. Read in this thread, because /proc may be long."""

        def answer() -> pb.JobUsageRes:
            check = self._bridge.caller(context).check
            check()  # the client may have left while the call waited for a thread
            return usages_to_pb(self._usages.read(self._catalog.running(request.jobIDs), check))

        return self._answered(context, answer)

    def RenewLeases(self, request: pb.RenewLeasesReq, context: grpc.ServicerContext) -> pb.RenewLeasesRes:
        """Counts the leases of jobs from now; tells which of the jobs run no longer."""

        def answer() -> pb.RenewLeasesRes:
            job_ids = list(request.jobIDs)
            caller = self._bridge.caller(context)
            return pb.RenewLeasesRes(
                gone=caller.call(lambda: self._worker.running.renew_leases(job_ids), ANSWER_SECONDS)
            )

        return self._answered(context, answer)

    def FeedJob(self, request_iterator: Iterator[pb.FeedJobReq], context: grpc.ServicerContext) -> pb.FeedJobRes:
        """Feeds a job's stdin until the client's messages end, or the stdin is closed."""
        feeding = FeedCall(self._worker.running, self._bridge, context)
        return self._answered(context, lambda: feeding.answer(request_iterator))

    def ResizeJob(self, request: pb.ResizeJobReq, context: grpc.ServicerContext) -> pb.ResizeJobRes:
        """Gives a job's terminal another size. Answers at once."""

        def answer() -> pb.ResizeJobRes:
            job_id, (rows, columns) = _id_of(request), terminal_size_from_pb(request)
            self._bridge.caller(context).call(
                lambda: self._worker.running.resize(job_id, rows, columns), ANSWER_SECONDS
            )
            return pb.ResizeJobRes()

        return self._answered(context, answer)

    def _log_refusal(self, request_id: str, peer: str, error: TxWorkerError) -> None:
        done = "not answered" if isinstance(error, CallerLeft) else "refused"
        text = "A start requested by {peer}{request_id} was {done}: {error}"
        request = f", request id {shown_words([request_id])}," if request_id else ""
        self._log.info(text, peer=peer, request_id=request, done=done, error=error)

    def _submitted(self, request: pb.StartJobReq, context: grpc.ServicerContext) -> Job:
        caller = self._bridge.caller(context)
        caller.check()  # before a request of up to 4 MiB is converted
        spec = spec_from_pb(request, self._users(request))
        job = self._catalog.submitted(spec)
        if job is not None:
            return job
        self._worker.check(spec)
        try:
            return self._submit(spec, caller)
        except CallerLeft:
            raise
        except CallerGone:
            caller.check()  # raises DeadlineExceeded if that is the reason
            raise

    def _users(self, request: pb.StartJobReq) -> Sequence[str]:
        """The names of users that the request may give. jobs.user may be another one than when its job was started."""
        if not request.user or request.user in self._user:
            return self._user
        before = self._catalog.with_request_id(request.requestID)
        return self._user if before is None else (*self._user, before.settings.user)

    def _submit(self, spec: JobSpec, caller: Caller) -> Job:
        if self._tracer is None:
            return caller.call(lambda: self._worker.submit(spec, caller.there), ANSWER_SECONDS)
        traced = self._tracer.job(spec)
        submitted = False

        def submit_traced() -> Deferred[Job]:
            nonlocal submitted
            submitted = True
            return self._worker.submit(traced, caller.there)

        try:
            return caller.call(submit_traced, ANSWER_SECONDS)
        finally:
            if not submitted:
                self._tracer.not_submitted(traced)

    def _streamed(self, context: grpc.ServicerContext, messages: Callable[[Caller], Iterator[T]]) -> Iterator[T]:
        try:
            yield from messages(self._bridge.caller(context))
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))
        except Exception:
            self._abort_internal(context)

    def _answered(self, context: grpc.ServicerContext, answer: Callable[[], T]) -> T:
        try:
            return answer()
        except TxWorkerError as error:
            context.abort_with_status(status_of(error))
        except DeferredTimeout:
            if self._allows("calls not answered"):
                text = (
                    "A call was not answered for {seconds:g} s: perhaps a launch waits for a disk that does not answer."
                )
                self._log.warn(text, seconds=ANSWER_SECONDS)
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"the worker was busy for {ANSWER_SECONDS:g} s; with the same requestID it is safe to try again",
            )
        except Exception:
            self._abort_internal(context)

    def _abort_internal(self, context: grpc.ServicerContext) -> NoReturn:
        """For an exception that is a programming error: the log gets the traceback, the client a sentence."""
        if self._allows("mistakes in answering calls"):
            self._log.failure("answering a call")
        context.abort(grpc.StatusCode.INTERNAL, "the worker made a mistake; its log says more")


def _id_of(request: pb.StopJobReq | pb.QueryJobReq | pb.SignalJobReq | pb.ResizeJobReq) -> str:
    if not request.jobID:
        raise InvalidRequest("jobID", request.jobID, "is no job's id")
    return request.jobID
