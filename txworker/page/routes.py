"""The API of the page: the list, a job, its output; and stopping a job, the only request that changes something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from txworker.base.logs import Logger
from txworker.base.reactor import Clock
from txworker.client import NoSuchJob, WorkerError
from txworker.page.access import Access, Action
from txworker.page.event_stream import MOST_STREAMS, EventStream, OpenStreams, set_headers
from txworker.page.guard import Refused
from txworker.page.job_stream import JobStream
from txworker.page.list_stream import ListStream, listed
from txworker.page.output_reading import MOST_RANGE, output_size, read_range
from txworker.page.output_stream import OutputStream
from txworker.page.page_resource import Bytes, Call, Route
from txworker.page.samples import Samples
from txworker.page.selection import WrongQuery, selection_of
from txworker.page.table import JobTable
from txworker.page.values import details
from txworker.page.worker_link import WorkerLink

DEFAULT_LISTED, MOST_LISTED = 200, 5000
"""How many jobs the list shows."""

MOST_OFFSET = 2**62

MOST_GRACE = 315_576_000_000
"""Seconds: what a duration of the wire may be."""


class Routes:
    """Handlers by path. now() is the wall clock, in seconds since the epoch."""

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        now: Callable[[], float],
        links: Sequence[WorkerLink],
        jobs: JobTable,
        samples: Samples,
        access: Access,
        most_streams: int = MOST_STREAMS,
    ) -> None:
        self._clock = clock
        self._now = now
        self._links = {link.worker.name: link for link in links}
        self._jobs = jobs
        self._samples = samples
        self._access = access
        self.streams = OpenStreams(most_streams)
        self.seen: dict[str, Route] = {
            "api/workers": self._workers,
            "api/jobs": self._list,
            "api/events": self._list_events,
            "api/job": self._job,
            "api/job/events": self._job_events,
            "api/output": self._output,
        }
        self.changes: dict[str, Route] = {"api/stop": self._stop}

    async def _workers(self, call: Call) -> dict[str, Any]:
        return {
            "workers": [link.status() for link in self._links.values()],
            "mayStop": self._access.may(call.caller, Action.STOP),
        }

    async def _list(self, call: Call) -> dict[str, Any]:
        rows, found = listed(self._jobs, selection_of(call.query), _limit(call), self._now())
        return {"jobs": [row.as_json() for row in rows], "total": len(found), "now": self._now()}

    async def _list_events(self, call: Call) -> None:
        selection, limit = selection_of(call.query), _limit(call)
        if (stream := self._stream(call)) is None:
            return
        ListStream(stream, self._clock, self._now, self._jobs, list(self._links.values()), selection, limit)

    async def _job(self, call: Call) -> dict[str, Any]:
        link, job_id = self._link(call.one("worker")), call.one("id")
        try:
            record = await link.client.get(job_id)
        except NoSuchJob:
            link.forget(job_id)
            raise
        sizes = {name: await output_size(link.client, record, name == "stderr") for name in ("stdout", "stderr")}
        return {**link.learn(record).as_json(), **details(record), "sizes": sizes, "now": self._now()}

    async def _job_events(self, call: Call) -> None:
        link, job_id, stderr = self._link(call.one("worker")), call.one("id"), call.maybe("stderr") == "1"
        offset = _resumed_at(call)
        if (stream := self._stream(call)) is None:
            return
        JobStream(stream, self._clock, self._now, self._jobs, self._samples, link, job_id)
        if call.maybe("output") != "0":
            OutputStream(stream, self._clock, link, job_id, offset, stderr)

    async def _output(self, call: Call) -> Bytes:
        link = self._link(call.one("worker"))
        offset, limit = call.number("offset", 0, MOST_OFFSET), call.number("limit", MOST_RANGE, MOST_RANGE)
        return Bytes(await read_range(link.client, call.one("id"), offset, limit, call.maybe("stderr") == "1"))

    async def _stop(self, call: Call) -> dict[str, Any]:
        worker, job_id, grace = (call.body.get(name) for name in ("worker", "id", "grace"))
        if not (_is_text(worker) and _is_text(job_id) and job_id):
            raise Refused(400, "worker and id must be strings")
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, (int, float))):
            raise Refused(400, "grace must be a number of seconds, or null")
        if grace is not None and not 0 <= grace <= MOST_GRACE:  # NaN is not, either
            raise Refused(400, f"grace must be from 0 to {MOST_GRACE} seconds")
        link = self._link(worker)
        try:
            row = link.learn(await link.client.stop(job_id, grace))
        except WorkerError as error:
            self._log.info(
                "{caller} could not stop job {job_id} of worker {worker}: {error}",
                caller=str(call.caller),
                job_id=job_id,
                worker=worker,
                error=error,
            )
            raise
        self._log.info(
            "{caller} stops job {job_id} of worker {worker}.", caller=str(call.caller), job_id=job_id, worker=worker
        )
        return row.as_json()

    def _stream(self, call: Call) -> EventStream | None:
        """The stream of events that answers; None: the request is a HEAD, which is answered here."""
        if call.request.method != b"HEAD":
            return EventStream(call.request, self._clock, self.streams)
        set_headers(call.request)
        call.request.finish()
        return None

    def _link(self, name: str) -> WorkerLink:
        if name not in self._links:
            raise Refused(404, f"this page shows no worker with that name; it shows {', '.join(self._links)}")
        return self._links[name]


def _is_text(value: object) -> bool:
    """A string that can be sent: JSON may hold halves of characters."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _limit(call: Call) -> int:
    return call.number("limit", DEFAULT_LISTED, MOST_LISTED)


def _resumed_at(call: Call) -> int | None:
    """The offset at which a browser resumes after a lost connection, or wants to begin; None: near the end."""
    last = call.request.getHeader("last-event-id") or ""
    if last:
        if not (last.isascii() and last.isdigit() and len(last) < 19):
            raise WrongQuery("Last-Event-ID must be an offset")
        return int(last)
    return call.number("offset", 0, MOST_OFFSET) if call.maybe("offset") else None
