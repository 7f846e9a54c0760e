"""Streams one job to a browser: its record, the state of its worker, and its usage; output_stream.py its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.client import NoSuchJob, WorkerError
from txworker.page.event_stream import EventStream
from txworker.page.samples import Samples
from txworker.page.table import JobTable
from txworker.page.values import Key, details
from txworker.page.worker_link import WorkerLink, sentence_of

TICK_SECONDS = 0.25


class JobStream:
    """
    Sends "record" (all of it), "row" (what changes while it runs), "samples" (new ones) and "worker". now() is the time
    of day.
    """

    _log = Logger()

    def __init__(
        self,
        stream: EventStream,
        clock: Clock,
        now: Callable[[], float],
        jobs: JobTable,
        samples: Samples,
        link: WorkerLink,
        job_id: str,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._now = now
        self._jobs = jobs
        self._samples = samples
        self._link = link
        self._job_id = job_id
        self._key: Key = (link.worker.name, job_id)
        self._changed = True
        self._recorded = False
        self._asking: Deferred[None] | None = None
        self._sampled_at = 0.0
        self._worker: dict[str, Any] = {}
        self._timer: Timer | None = None
        stream.on_end(self._end)
        stream.on_end(jobs.subscribe(self._learned))
        stream.on_end(link.look_at(job_id))
        self._tick()

    def _learned(self, key: Key) -> None:
        self._changed = self._changed or key == self._key

    def _tick(self) -> None:
        if not self._stream.paused:
            self._send_worker()
            if self._changed:
                self._changed = False
                self._send_row()
            if not self._recorded and self._asking is None and self._link.there:
                self._asking = Deferred.fromCoroutine(self._send_record())
                self._asking.addErrback(self._failed)
                self._asking.addBoth(self._asked)
            self._send_samples()
        self._timer = self._clock.callLater(TICK_SECONDS, self._tick)

    def _send_worker(self) -> None:
        worker = self._link.status()
        shown = {name: worker[name] for name in ("name", "addr", "state", "problem")}
        if shown != self._worker:
            self._worker = shown
            self._stream.send("worker", shown)

    def _send_row(self) -> None:
        row = self._jobs.get(self._key)
        if row is not None:
            self._stream.send("row", row.as_json())
            if row.finished is not None:  # its record says more now: usage, leftovers
                self._recorded = False

    async def _send_record(self) -> None:
        try:
            record = await self._link.client.get(self._job_id)
        except NoSuchJob as error:
            self._link.forget(self._job_id)
            self._recorded = True
            self._stream.send("gone", sentence_of(error))
            return
        row = self._link.learn(record)
        self._changed = False
        self._recorded = True
        self._stream.send("record", {**row.as_json(), **details(record), "now": self._now()})

    def _send_samples(self) -> None:
        columns = self._samples.of(self._key)
        new = [number for number, at in enumerate(columns["time"]) if at > self._sampled_at]
        if new:
            self._sampled_at = columns["time"][-1]
            self._stream.send("samples", {name: values[new[0] :] for name, values in columns.items()})

    def _failed(self, failure: Failure) -> None:
        """A worker that is away is asked again when it is back."""
        if not failure.check(CancelledError, WorkerError):
            self._log.failure("Querying job {job_id} failed", failure=failure, job_id=self._job_id)

    def _asked(self, _: object) -> None:
        self._asking = None

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
