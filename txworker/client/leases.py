"""Renews the leases of jobs while they are followed or waited for: when, and in a thread or in a task."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from txworker.client.errors import Closed, WorkerError, passes
from txworker.client.parameters import check_seconds
from txworker.client.requests import id_of

PART = 3
"""A lease is renewed whenever a third of it has passed, so that it survives two renewals that fail."""

_LONGEST_RETRY_SECONDS = 5.0


@dataclass
class _Held:
    """One lease: how many callers hold it, and when its renewal is due."""

    period: float
    due: float
    holders: int = 1
    gone: bool = False


class Renewals:
    """The leases that are held, and when the renewal of each is due. Pure decisions; now() is a clock in seconds."""

    def __init__(self, now: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._now = now
        self._jitter = jitter
        self._held: dict[str, _Held] = {}
        self._failing = False

    def hold(self, job_id: str, lease: float) -> None:
        """
        Renew a lease of that many seconds at once, and then again and again. It may be held several times; only the
        first one makes a renewal due at once.

        Raises:
            TypeError: it is not a number, or the job's id not a string.
            ValueError: it is not more than 0.
        """
        check_seconds("lease", lease)
        id_of(job_id)
        if lease <= 0:
            raise ValueError(f"a lease of {lease} seconds cannot be renewed")
        held = self._held.get(job_id)
        if held is None:
            self._held[job_id] = _Held(lease / PART, self._now())
        else:
            held.holders += 1
            held.period = min(held.period, lease / PART)
            held.due = min(held.due, self._now() + held.period)

    def drop(self, job_id: str) -> None:
        """Undo one hold(); after the last one the lease is not renewed any more."""
        held = self._held[job_id]
        held.holders -= 1
        if not held.holders:
            del self._held[job_id]

    def left(self) -> float | None:
        """The seconds until a renewal is due; None: no lease is held."""
        dues = [held.due for held in self._held.values() if not held.gone]
        return max(0.0, min(dues) - self._now()) if dues else None

    def due(self) -> list[str]:
        """The jobs that are due for a renewal; each is due again when its part of the lease has passed."""
        now = self._now()
        found = [job_id for job_id, held in self._held.items() if held.due <= now and not held.gone]
        for job_id in found:
            self._held[job_id].due = now + self._held[job_id].period
        return found

    def renewed(self, gone: Iterable[str]) -> None:
        """These were renewed, except the jobs that no longer run: those are not due again."""
        self._failing = False
        for job_id in gone:
            if job_id in self._held:
                self._held[job_id].gone = True

    def failed(self, job_ids: Iterable[str], error: WorkerError) -> str:
        """
        The renewal of these failed: they are due again soon. Returns a sentence about it; empty if the error may pass
        by itself, or was reported before.
        """
        for job_id in job_ids:
            if held := self._held.get(job_id):
                held.due = self._now() + min(held.period / 4, _LONGEST_RETRY_SECONDS) * (0.5 + self._jitter() / 2)
        if passes(error) or self._failing:
            return ""
        self._failing = True
        return f"renewing leases: {error}"


class RenewalThread:
    """
    Renews leases in a thread, which runs while one is held. Any thread.

    renew(ids) makes one attempt, and returns the jobs that no longer run; tell(sentence) is called in the thread.
    """

    def __init__(self, renew: Callable[[list[str]], Iterable[str]], tell: Callable[[str], None]) -> None:
        self._renew = renew
        self._tell = tell
        self._changed = threading.Condition()
        self._renewals = Renewals(time.monotonic)
        self._running = self._closed = False

    @contextmanager
    def renewing(self, job_id: str, lease: float | None) -> Iterator[None]:
        """Inside the block the lease is renewed; None: the job has none. Raises ValueError: it is not more than 0."""
        if lease is None:
            yield
            return
        with self._changed:
            self._renewals.hold(job_id, lease)
            if not (self._running or self._closed):
                self._running = True
                threading.Thread(target=self._run, name="txworker-leases", daemon=True).start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._renewals.drop(job_id)
                self._changed.notify()

    def close(self) -> None:
        """Renew nothing any more. Does not wait for the thread, which ends with its call."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while due := self._due():
            self._attempt(due)

    def _attempt(self, due: list[str]) -> None:
        try:
            gone = self._renew(due)
        except Closed:
            self.close()
        except WorkerError as error:
            with self._changed:
                sentence = self._renewals.failed(due, error)
            if sentence:
                self._tell(sentence)
        else:
            with self._changed:
                self._renewals.renewed(gone)

    def _due(self) -> list[str]:
        """Waits until leases are due; none, when the thread is to end."""
        with self._changed:
            while not self._closed and (left := self._renewals.left()) is not None:
                if due := self._renewals.due():
                    return due
                self._changed.wait(left)
            self._running = False
            return []


class RenewalTask:
    """
    Renews leases in a task, which runs while one is held. One event loop.

    renew(ids) makes one attempt, and returns the jobs that no longer run.
    """

    def __init__(self, renew: Callable[[list[str]], Awaitable[Iterable[str]]], tell: Callable[[str], None]) -> None:
        self._renew = renew
        self._tell = tell
        self._renewals = Renewals(time.monotonic)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @contextmanager
    def renewing(self, job_id: str, lease: float | None) -> Iterator[None]:
        """Inside the block the lease is renewed; None: the job has none. Raises ValueError: it is not more than 0."""
        if lease is None:
            yield
            return
        self._renewals.hold(job_id, lease)
        self._changed.set()
        if self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield
        finally:
            self._renewals.drop(job_id)
            if self._renewals.left() is None:
                self._end()

    def close(self) -> None:
        """Renew nothing any more."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            while not (due := self._renewals.due()):
                self._changed.clear()
                await self._wait(self._renewals.left())
            try:
                self._renewals.renewed(await self._renew(due))
            except Closed:
                return
            except WorkerError as error:
                if sentence := self._renewals.failed(due, error):
                    self._tell(sentence)

    async def _wait(self, seconds: float | None) -> None:
        """
        Wait that long, or until another lease is held; None: until then.

        Not by asyncio.wait_for(), which before Python 3.12 may lose the cancellation of a task.
        """
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            if timer is not None:
                timer.cancel()
