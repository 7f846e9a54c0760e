"""Where spans are sent: to a collector by OTLP over HTTP, in batches, in a thread of OpenTelemetry's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from txworker.base.logs import Logger
from txworker.base.printable import cut, printable

_LOG_SECONDS = 60.0
"""The pause between two log lines about a collector that cannot be reached: OpenTelemetry logs one for each batch."""

_PATH = "/v1/traces"
"""The path for traces below an endpoint, as OTLP over HTTP specifies it."""


class Exporting:
    """tracer makes spans; close() sends the last of them."""

    def __init__(self, provider: TracerProvider, version: str) -> None:
        self._provider = provider
        self.tracer: trace.Tracer = provider.get_tracer("txworker", version)

    def close(self, done: Callable[[], object]) -> None:
        """Send the spans that are queued; done() is called in another thread when that has succeeded or failed."""

        def shut_down() -> None:
            try:
                self._provider.shutdown()
            finally:
                done()

        threading.Thread(target=shut_down, name="txworker-tracing-stop", daemon=True).start()


def exporting(
    endpoint: str,
    sample_ratio: float,
    attributes: Mapping[str, str],
    environ: Mapping[str, str],
    exporter: SpanExporter | None = None,
) -> Exporting:
    """
    Export to that endpoint; if it is empty, to the one that the environment names (OTEL_EXPORTER_OTLP_…). The other
    environment variables that OpenTelemetry has for traces apply as well.

    attributes: of the resource, the worker. exporter: used instead of OTLP, for tests.
    """
    handler = _LogHandler()
    logging.getLogger("opentelemetry").addHandler(handler)
    logging.getLogger("opentelemetry").propagate = False  # otherwise Python prints it on stderr
    sampler = ParentBased(TraceIdRatioBased(sample_ratio)) if sample_ratio < 1 else None  # None: the environment's
    provider = TracerProvider(sampler=sampler, resource=Resource.create(dict(attributes)))
    provider.add_span_processor(BatchSpanProcessor(exporter or _exporter(endpoint, environ)))
    return Exporting(provider, attributes.get("service.version", ""))


def _exporter(endpoint: str, environ: Mapping[str, str]) -> SpanExporter:
    if endpoint:
        return OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}{_PATH}")
    if environ.get("OTEL_TRACES_EXPORTER") == "console":
        return ConsoleSpanExporter()
    return OTLPSpanExporter()


class _LogHandler(logging.Handler):
    """Passes what OpenTelemetry logs to the worker's log, one line in _LOG_SECONDS at most."""

    _log = Logger()

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._now = now
        self._next_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """logging: a record was made. Any thread."""
        if self._now() >= self._next_at:
            self._next_at = self._now() + _LOG_SECONDS
            self._log.warn("Tracing: {text}.", text=printable(cut(record.getMessage())).rstrip("."))
