"""Which outputs are being read, so that retention does not remove them meanwhile. Any thread."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from txworker.jobs.errors import JobRemoved


class Viewers:
    """A job's output either has viewers, or can be claimed for removal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking: Counter[str] = Counter()
        self._claimed: set[str] = set()

    @contextmanager
    def looking(self, job_id: str) -> Iterator[None]:
        """
        While the context is open, the job's output is not removed.

        Raises:
            JobRemoved: the output is being removed.
        """
        with self._lock:
            if job_id in self._claimed:
                raise JobRemoved(job_id)
            self._looking[job_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._looking[job_id] -= 1
                if not self._looking[job_id]:
                    del self._looking[job_id]

    @property
    def any(self) -> bool:
        """Whether any output is being viewed."""
        return bool(self._looking)

    def claim(self, job_ids: Iterable[str]) -> set[str]:
        """The jobs of these that have no viewers; until release() they can get none."""
        with self._lock:
            free = {job_id for job_id in job_ids if job_id not in self._looking}
            self._claimed |= free
        return free

    def release(self, job_ids: Iterable[str]) -> None:
        """End the claim: the jobs are removed, or they stay after all."""
        with self._lock:
            self._claimed.difference_update(job_ids)
