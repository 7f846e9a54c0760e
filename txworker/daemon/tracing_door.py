"""Tracing, if the configuration or the environment asks for it: which spans are made, and where they are sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from txworker.base.logs import Logger
from txworker.config import Tracing
from txworker.daemon.directories import NotUsable
from txworker.daemon.version import own_version
from txworker.ports import NO_OBSERVER, Observer, Tracer

if TYPE_CHECKING:
    from txworker.monitoring.tracing import Exporting, Spans

_CLOSE_SECONDS = 3.0
"""How long the worker's end may wait for a collector."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_log = Logger()


class TracingDoor:
    """tracer: None if nothing is traced; observer is told what becomes of jobs."""

    def __init__(self, exporting: Exporting | None = None, spans: Spans | None = None) -> None:
        self._exporting = exporting
        self._spans = spans
        self.tracer: Tracer | None = spans
        self.observer: Observer = NO_OBSERVER if spans is None else spans.jobs

    def close(self, reactor: Any) -> Deferred[None] | None:
        """End the spans of jobs that run on, and send what has gathered; fires in bounded time."""
        if self._exporting is None or self._spans is None:
            return None
        self._spans.jobs.close()
        closed: Deferred[None] = Deferred()

        def fire_closed() -> None:
            if not closed.called:
                closed.callback(None)

        self._exporting.close(lambda: reactor.callFromThread(fire_closed))
        return closed.addTimeout(_CLOSE_SECONDS, reactor, lambda *_: _log.warn("Not all spans could be sent."))


def tracing_door(config: Tracing, name: str, instance: int, environ: Mapping[str, str] = os.environ) -> TracingDoor:
    """
    name, instance: the worker's.

    Raises:
        NotUsable: the configuration asks for tracing, and OpenTelemetry is not installed.
    """
    if not config.endpoint and not wanted_by(environ):
        return TracingDoor()
    if _disabled(environ):
        _log.warn("Nothing is traced, whatever tracing.endpoint says: OTEL_SDK_DISABLED is true.")
        return TracingDoor()
    try:
        from txworker.monitoring.tracing import Spans, exporting  # not before: what it imports need not be installed
    except ImportError as error:
        sentence = f"tracing needs OpenTelemetry: pip install 'txworker[otel]' ({error})"
        if config.endpoint:
            raise NotUsable(f"tracing.endpoint: {sentence}") from error
        _log.warn("The environment asks for traces, but {sentence}.", sentence=sentence)
        return TracingDoor()
    attributes = {"service.version": own_version(), "service.instance.id": f"{name}/{instance}"}
    if config.service_name or "OTEL_SERVICE_NAME" not in environ:
        attributes["service.name"] = config.service_name or "txworker"
    made = exporting(config.endpoint, config.sample_ratio, attributes, environ)
    _log.info("Calls and jobs are traced.")
    return TracingDoor(made, Spans(made.tracer))


def wanted_by(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for traces."""
    if _disabled(environ) or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return environ.get("OTEL_TRACES_EXPORTER") == "console" or any(environ.get(name) for name in _ENDPOINTS)


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def both(first: Observer, second: Observer) -> Observer:
    """An observer that tells both; one that counts nothing costs nothing."""
    if second is NO_OBSERVER or first is NO_OBSERVER:
        return first if second is NO_OBSERVER else second
    made = Observer()
    for name in (name for name in vars(Observer) if not name.startswith("_")):
        setattr(made, name, _telling(getattr(first, name), getattr(second, name)))
    return made


def _telling(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def tell_both(*facts: Any, **named: Any) -> None:
        first(*facts, **named)
        second(*facts, **named)

    return tell_both
