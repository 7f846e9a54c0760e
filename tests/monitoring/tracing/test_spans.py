"""Spans of calls and jobs, with OpenTelemetry's exporter to memory."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode
from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs import Job, JobSpec, JobState
from txworker.monitoring.tracing import Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
METADATA = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "vendor=1"), ("blob-bin", b"\x00"))
METHOD = "/jobscheduler.Worker/StartJob"


def a_job(spec: JobSpec, state: JobState = JobState.SUCCEEDED) -> Job:
    """A finished job."""
    return Job("id-1", spec, 10.0, 1, state=state, started_at=11.0, finished_at=12.0, pid=7, exit_code=0)


class SpansTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.addCleanup(self.provider.shutdown)
        self.spans = Spans(self.provider.get_tracer("txworker"))

    def exported(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def started(self, spec: JobSpec, metadata: tuple[tuple[str, str | bytes], ...] = METADATA) -> JobSpec:
        """The spec of a job that a call has started."""
        call = self.spans.call(METHOD, metadata, "ipv4:127.0.0.1:5", 1_000)
        with call.current():
            traced = self.spans.job(spec)
        call.ended("OK", "", "")
        return traced

    def test_call(self) -> None:
        """A call's span belongs to the client's, begins when the call came, and has its method, status and peer."""
        self.started(JobSpec("true"))
        (span,) = self.exported()
        assert span.parent is not None
        assert span.attributes is not None
        self.assertEqual((int(TRACE, 16), int(PARENT, 16)), (span.context.trace_id, span.parent.span_id))
        self.assertEqual(
            ("jobscheduler.Worker/StartJob", SpanKind.SERVER, 1_000), (span.name, span.kind, span.start_time)
        )
        self.assertEqual("OK", span.attributes["rpc.response.status_code"])
        self.assertEqual("ipv4:127.0.0.1:5", span.attributes["network.peer.address"])
        self.assertEqual(StatusCode.UNSET, span.status.status_code)

    def test_without_context(self) -> None:
        """A call without context, or with one that cannot be read, begins a trace of its own."""
        self.started(JobSpec("true"), ())
        self.started(JobSpec("true"), (("traceparent", "00-nonsense"),))
        self.assertEqual([None, None], [span.parent for span in self.exported()])

    def test_refusal(self) -> None:
        """A refusal is an error, with its sentence and its reason, and there is no span of a job."""
        call = self.spans.call(METHOD, METADATA, "", 1_000)
        with call.current():
            traced = self.spans.job(JobSpec("none"))
        self.spans.jobs.not_started(traced)
        call.ended("NOT_FOUND", "command: no such executable", "NO_SUCH_EXECUTABLE")
        (span,) = self.exported()
        assert span.attributes is not None
        self.assertEqual(
            (StatusCode.ERROR, "command: no such executable"), (span.status.status_code, span.status.description)
        )
        self.assertEqual("NO_SUCH_EXECUTABLE", span.attributes["error.type"])
        self.spans.jobs.close()
        self.assertEqual(1, len(self.exported()))

    def test_job(self) -> None:
        """A job's span lasts until the job's end; the job knows it, and nothing else of the request is in it."""
        secret = JobSpec("/bin/cat", args=("secret",), env={"A": "secret"})
        traced = self.started(secret)
        self.spans.jobs.ended(a_job(traced), 5)
        call, job = self.exported()
        assert job.parent is not None
        assert job.attributes is not None
        self.assertEqual(call.context.span_id, job.parent.span_id)
        self.assertEqual(
            {"TRACEPARENT": f"00-{TRACE}-{job.context.span_id:016x}-01", "TRACESTATE": "vendor=1"}, dict(traced.trace)
        )
        self.assertEqual(secret, traced)  # so that a repeated request is the same one
        self.assertEqual("cat", job.attributes["process.executable.name"])
        self.assertEqual(("id-1", 0), (job.attributes["txworker.job.id"], job.attributes["process.exit.code"]))
        self.assertEqual([11_000_000_000], [event.timestamp for event in job.events])
        self.assertNotIn("secret", job.to_json())

    def test_failed_job(self) -> None:
        """A job that fails is an error; one that was stopped on request is none."""
        for state, code in (
            (JobState.FAILED, StatusCode.ERROR),
            (JobState.LOST, StatusCode.ERROR),
            (JobState.STOPPED, StatusCode.UNSET),
        ):
            self.spans.jobs.ended(a_job(self.started(JobSpec("true")), state), 0)
            self.assertEqual(code, self.exported()[-1].status.status_code, state)

    def test_untraced_job(self) -> None:
        """A job of an earlier worker ends without a span."""
        self.spans.jobs.ended(a_job(JobSpec("true")), 0)
        self.assertEqual([], self.exported())

    def test_end_of_the_worker(self) -> None:
        """The spans of jobs that run on end with the worker, and say so."""
        self.started(JobSpec("true"))
        self.spans.jobs.close()
        self.assertEqual(["left to the next worker"], [event.name for event in self.exported()[-1].events])

    def test_not_submitted(self) -> None:
        """No span is left of a job that was never submitted."""
        self.spans.not_submitted(self.spans.job(JobSpec("true")))
        self.spans.jobs.close()
        self.assertEqual([], self.exported())

    def test_tracer_that_makes_nothing(self) -> None:
        """With a tracer that makes no spans a job starts all the same, without a trace."""
        self.assertEqual({}, dict(Spans(NoOpTracer()).job(JobSpec("true")).trace))

    def test_not_sampled(self) -> None:
        """Where a trace is not kept the job knows its trace all the same, and that it is not kept."""
        spans = Spans(TracerProvider(sampler=ALWAYS_OFF).get_tracer("txworker"))
        call = spans.call(METHOD, METADATA, "", 1_000)
        with call.current():
            known: Mapping[str, str] = spans.job(JobSpec("true")).trace
        self.assertRegex(known["TRACEPARENT"], f"00-{TRACE}-[0-9a-f]+-00")
