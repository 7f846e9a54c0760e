"""
Spans of calls and of jobs, by OpenTelemetry, and where they are sent.

Imported only if tracing is configured: a worker without it does not need OpenTelemetry.
"""

from txworker.monitoring.tracing.exporting import Exporting, exporting
from txworker.monitoring.tracing.spans import JobSpans, Spans

__all__ = ["Exporting", "JobSpans", "Spans", "exporting"]
