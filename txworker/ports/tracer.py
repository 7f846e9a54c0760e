"""What rpc/ asks to be traced; monitoring/tracing/ makes spans of it, if that is configured."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from txworker.jobs import JobSpec


class CallSpan(Protocol):
    """The span of one call. Any thread."""

    def current(self) -> AbstractContextManager[object]:
        """In the block, what this thread does belongs to the call."""

    def ended(self, code: str, details: str, reason: str) -> None:
        """The call has ended with this status; reason: that of the error, or empty. Only the first call counts."""


class Tracer(Protocol):
    """Makes spans. Any thread; neither blocks nor raises."""

    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]], peer: str, came_ns: int) -> CallSpan:
        """
        A call has come. method: /SERVICE/METHOD; metadata: the client's, which may name the span that it belongs to;
        came_ns: nanoseconds since the epoch.
        """

    def job(self, spec: JobSpec) -> JobSpec:
        """
        The spec of a job that the current call asks for, with the trace that its process is to know. To be called
        before the job is submitted; an Observer is told what becomes of it (ended(), not_started()).
        """

    def not_submitted(self, spec: JobSpec) -> None:
        """The job of job() does not reach the worker: its client has left, or the worker stops."""
