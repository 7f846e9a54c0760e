"""Who looks at a job's output, so that nobody takes it away meanwhile. Any thread."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from txworker.jobs.errors import JobRemoved


class Viewers:
    """Either somebody looks at a job's output, or it may be claimed for removal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking: Counter[str] = Counter()
        self._claimed: set[str] = set()

    @contextmanager
    def looking(self, job_id: str) -> Iterator[None]:
        """
        Inside, that job's output stays.

        Raises:
            JobRemoved: it is being removed.
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
        """Somebody looks at some job's output."""
        return bool(self._looking)

    def claim(self, job_ids: Iterable[str]) -> set[str]:
        """Those of them that nobody looks at; from now on nobody may."""
        with self._lock:
            free = {job_id for job_id in job_ids if job_id not in self._looking}
            self._claimed |= free
        return free

    def release(self, job_ids: Iterable[str]) -> None:
        """They are removed, or stay after all."""
        with self._lock:
            self._claimed.difference_update(job_ids)
