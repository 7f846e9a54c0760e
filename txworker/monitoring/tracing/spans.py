"""
The spans of calls and of jobs. A job's span is a child of the call that started the job.

Only times, names and outcomes become attributes: never arguments, environment or output. A refused
call has the sentence of its refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from os.path import basename

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from txworker.jobs import Job, JobSpec, JobState
from txworker.ports import Observer

_PARENT = "TRACEPARENT"
_FAILED = (JobState.FAILED, JobState.TIMED_OUT, JobState.LOST)
"""Not STOPPED: that was asked for."""

_w3c = TraceContextTextMapPropagator()


class Spans:
    """A Tracer (ports/tracer.py). jobs: the jobs' spans, until they end."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self.jobs = JobSpans()

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]], peer: str, came_ns: int) -> _CallSpan:
        """Begin the span of a call, as a child of the span in its metadata (W3C: traceparent and tracestate)."""
        carrier = {name: value for name, value in metadata if isinstance(value, str)}
        service, _, name = method.strip("/").rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
            "network.peer.address": peer,
        }
        return _CallSpan(
            self._tracer.start_span(
                f"{service}/{name}", _w3c.extract(carrier), SpanKind.SERVER, attributes, start_time=came_ns
            )
        )

    def job(self, spec: JobSpec) -> JobSpec:
        """Begin the span of a job, as a child of the current call's."""
        span = self._tracer.start_span("job", attributes={"process.executable.name": basename(spec.argv[0])})
        known: dict[str, str] = {}
        _w3c.inject(known, trace.set_span_in_context(span))
        traced = replace(spec, trace={name.upper(): value for name, value in known.items()})
        self.jobs.add(traced.trace, span)
        return traced

    def not_submitted(self, spec: JobSpec) -> None:
        """As Tracer."""
        self.jobs.not_started(spec)


class JobSpans(Observer):
    """The spans of unfinished jobs; each ends when the observer is told what became of its job. Any thread."""

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}  # by TRACEPARENT

    def add(self, known: Mapping[str, str], span: Span) -> None:
        """A job may be started with this trace in its environment. It is empty if the tracer makes no spans."""
        if parent := known.get(_PARENT):
            self._spans[parent] = span

    def not_started(self, spec: JobSpec) -> None:
        """No job was started: drop its span; that of the call says why."""
        self._spans.pop(spec.trace.get(_PARENT, ""), None)

    def ended(self, job: Job, output_bytes: int) -> None:
        """End the job's span, if this worker started the job and traces it."""
        span = self._spans.pop(job.spec.trace.get(_PARENT, ""), None)
        if span is None:
            return
        span.set_attributes(
            {
                "txworker.job.id": job.id,
                "txworker.job.state": job.state.name,
                "txworker.job.output_bytes": job.output_bytes,
                **({} if job.pid is None else {"process.pid": job.pid}),
                **({} if job.exit_code is None else {"process.exit.code": job.exit_code}),
            }
        )
        if job.started_at is not None:
            span.add_event("process started", timestamp=int(job.started_at * 1e9))
        if job.state in _FAILED:
            span.set_status(Status(StatusCode.ERROR, job.error_text))
        span.end()

    def close(self) -> None:
        """End the spans of jobs that run on without this worker."""
        while self._spans:
            _, span = self._spans.popitem()
            span.add_event("left to the next worker")
            span.end()


class _CallSpan:
    """A CallSpan (ports/tracer.py)."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def current(self) -> AbstractContextManager[object]:
        """As CallSpan. An exception that leaves the block is not recorded: ended() says how the call ended."""
        return trace.use_span(self._span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    def ended(self, code: str, details: str, reason: str) -> None:
        """As CallSpan. A second call changes nothing: OpenTelemetry ignores what follows the end of a span."""
        self._span.set_attribute("rpc.response.status_code", code)
        if code != "OK":
            self._span.set_attribute("error.type", reason or code)
            self._span.set_status(Status(StatusCode.ERROR, details))
        self._span.end()
