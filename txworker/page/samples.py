"""What running jobs have used over time: CPU, memory, output. Pure: the time is handed in."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from txworker.client import LiveUsage
from txworker.page.values import Key

MOST_SAMPLES = 600
"""The most of one job; beyond it every second one is dropped, so that the plot keeps its beginning."""

MOST_JOBS = 300
"""The most jobs with samples; the one that was sampled longest ago is dropped first."""

COLUMNS = ("time", "cpu", "memory", "output")
"""Units: seconds since the epoch, CPUs, bytes, bytes."""


class _Job:
    def __init__(self) -> None:
        self.samples: list[tuple[float, float, int, int]] = []
        self.last: tuple[float, float] | None = None


class Samples:
    """The samples of each job, oldest first."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[Key, _Job] = OrderedDict()

    def add(self, key: Key, now: float, usage: LiveUsage, output_bytes: int) -> None:
        """Add a sample. Its CPU is the average since the one before, so the first one of a job only sets the start."""
        job = self._jobs.setdefault(key, _Job())
        self._jobs.move_to_end(key)
        seconds = usage.user_cpu + usage.system_cpu
        if job.last is not None and now > job.last[0]:
            cpus = max(0.0, seconds - job.last[1]) / (now - job.last[0])
            job.samples.append((now, round(cpus, 3), usage.rss_bytes, output_bytes))
        job.last = (now, seconds)
        if len(job.samples) > MOST_SAMPLES:
            job.samples = job.samples[::2]
        while len(self._jobs) > MOST_JOBS:
            self._jobs.popitem(last=False)

    def of(self, key: Key) -> dict[str, Any]:
        """The samples of a job, as columns; empty columns if there are none."""
        job = self._jobs.get(key)
        samples = job.samples if job is not None else []
        return {name: [sample[column] for sample in samples] for column, name in enumerate(COLUMNS)}
