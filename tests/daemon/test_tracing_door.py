"""When tracing is on, and who is told."""

from __future__ import annotations

import sys
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.observer import RecordingObserver
from txworker.config import Tracing
from txworker.daemon.directories import NotUsable
from txworker.daemon.tracing_door import TracingDoor, both, tracing_door, wanted_by
from txworker.ports import NO_OBSERVER

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


class WantedTests(SynchronousTestCase):
    def test_environment(self) -> None:
        """OpenTelemetry's variables turn tracing on and off."""
        table: tuple[tuple[dict[str, str], bool], ...] = (
            ({}, False),
            (ENDPOINT, True),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
            ({"OTEL_TRACES_EXPORTER": "console"}, True),
            ({"OTEL_TRACES_EXPORTER": "otlp"}, False),
            ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
            ({**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
            ({"OTEL_SERVICE_NAME": "x"}, False),
        )
        for environ, wanted in table:
            self.assertEqual(wanted, wanted_by(environ), environ)

    def test_off(self) -> None:
        """Off, nothing is imported, and there is nothing to be told or to close."""
        with mock.patch.dict(sys.modules, {"txworker.monitoring.tracing": None}):
            door = tracing_door(Tracing(), "w", 1, {})
        self.assertEqual((None, NO_OBSERVER, None), (door.tracer, door.observer, door.close(Clock())))

    def test_disabled(self) -> None:
        """OTEL_SDK_DISABLED holds whatever the configuration says: OpenTelemetry would make no spans."""
        self.assertIsNone(tracing_door(Tracing("http://127.0.0.1:1"), "w", 1, {"OTEL_SDK_DISABLED": "true"}).tracer)

    def test_not_installed(self) -> None:
        """Configured, it is needed; from the environment, which may be meant for others, it is only warned of."""
        with mock.patch.dict(sys.modules, {"txworker.monitoring.tracing": None}):
            with self.assertRaisesRegex(NotUsable, r"tracing.endpoint: tracing needs OpenTelemetry: pip install"):
                tracing_door(Tracing("http://127.0.0.1:1"), "w", 1, {})
            self.assertIsNone(tracing_door(Tracing(), "w", 1, ENDPOINT).tracer)

    def test_collector_that_does_not_answer(self) -> None:
        """Closing waits for a collector for a few seconds only."""
        spans, clock = mock.Mock(), Clock()
        closed = TracingDoor(mock.Mock(), spans).close(clock)
        assert closed is not None
        spans.jobs.close.assert_called_once_with()
        self.assertNoResult(closed)
        clock.advance(3)
        self.successResultOf(closed)


class BothTests(SynchronousTestCase):
    def test_both(self) -> None:
        """Both are told everything; one that counts nothing is left out."""
        first, second = RecordingObserver(), RecordingObserver()
        told = both(first, second)
        told.refused("REASON")
        told.call_answered("StartJob", "OK", 0.5, seconds=1.0)
        expected = [("refused", "REASON"), ("call_answered", "StartJob", "OK", 0.5, 1.0)]
        self.assertEqual((expected, expected), (first.told, second.told))
        self.assertIs(first, both(first, NO_OBSERVER))
        self.assertIs(second, both(NO_OBSERVER, second))
        self.assertIs(NO_OBSERVER, both(NO_OBSERVER, NO_OBSERVER))
