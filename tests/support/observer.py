"""An observer that writes down what it is told."""

from __future__ import annotations

from typing import Any

from txworker.jobs import Job
from txworker.ports import Observer


class RecordingObserver(Observer):
    """`told`: the name of each method that was called and its arguments, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        """What it was told by these methods."""
        return [fact for fact in self.told if fact[0] in names]

    def started(self, seconds: float) -> None:
        self.told.append(("started", seconds))

    def refused(self, reason: str) -> None:
        self.told.append(("refused", reason))

    def taken_over(self) -> None:
        self.told.append(("taken_over",))

    def ended(self, job: Job, output_bytes: int) -> None:
        self.told.append(("ended", job.state.name, output_bytes))

    def output_lost(self, cause: str, count: int) -> None:
        self.told.append(("output_lost", cause, count))

    def call_answered(self, method: str, code: str, waited_seconds: float, seconds: float) -> None:
        self.told.append(("call_answered", method, code, waited_seconds, seconds))

    def stream_opened(self, method: str) -> None:
        self.told.append(("stream_opened", method))

    def stream_closed(self, method: str) -> None:
        self.told.append(("stream_closed", method))

    def retention_looked(self, removed: int) -> None:
        self.told.append(("retention_looked", removed))

    def retention_failed(self) -> None:
        self.told.append(("retention_failed",))
