"""
One worker as the page knows it: one watch and one poll, shared by all browsers.

The watch brings every change of every job. The poll tells whether the worker answers, how much its running jobs have
printed, and what they use. A worker that does not answer is polled until it does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.printable import cut, printable
from txworker.base.reactor import Clock, Timer
from txworker.client import JobRecord, LiveUsage, NoSuchJob, Unreachable, WorkerError
from txworker.client.tx import TwistedClient
from txworker.page.history import History
from txworker.page.samples import Samples
from txworker.page.table import MOST_ROWS, JobTable
from txworker.page.values import UNFINISHED, Key, PageWorker, Row, row_of

POLL_SECONDS = 2.0
"""While a browser shows the worker or one of its jobs."""

IDLE_POLL_SECONDS = 10.0
"""While none does: plots have fewer points then, and the worker has fewer calls to answer."""

MOST_POLLED = 200
"""The usage of this many running jobs is polled, the newest ones; and that of every job that a browser shows."""

RECONCILE_SECONDS = 600.0
"""How often the page looks for jobs that retention has removed, because a watch does not report them."""


class WorkerLink:
    """
    `client` must have no patience, so that each of its calls fails at once if the worker does not answer.
    there: whether it answers; None: not known yet. problem: why it does not. Reactor thread only.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Clock,
        worker: PageWorker,
        client: TwistedClient,
        jobs: JobTable,
        samples: Samples,
        now: Callable[[], float],
    ) -> None:
        self.worker = worker
        self.client = client
        self.history = History()
        self.there: bool | None = None
        self.problem = ""
        self.viewers = 0
        self._clock = clock
        self._jobs = jobs
        self._samples = samples
        self._now = now
        self._shown: list[Key] = []
        self._listed_at = clock.seconds()
        self._changed: list[Callable[[], None]] = []
        self._watch: Deferred[None] | None = None
        self._asking: Deferred[None] | None = None
        self._timer: Timer | None = None
        self._stopped = False

    def start(self) -> None:
        """Begin to poll; returns at once."""
        self._poll()

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when all of its calls have ended."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self.client.close()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call changed() when the worker goes away or comes back. Returns the function that ends the subscription."""
        self._changed.append(changed)
        return lambda: self._changed.remove(changed)

    def look_at(self, job_id: str = "") -> Callable[[], None]:
        """A browser shows the worker, or one of its jobs. Returns the function to call when it no longer does."""
        key = (self.worker.name, job_id)
        self.viewers += 1
        self._shown.append(key)
        if self._timer is not None:  # poll now, not in ten seconds
            self._timer.cancel()
            self._poll()

        def look_away() -> None:
            self.viewers -= 1
            self._shown.remove(key)

        return look_away

    def status(self) -> dict[str, Any]:
        """As it is sent to browsers."""
        state = {None: "connecting", True: "connected", False: "away"}[self.there]
        return {
            "name": self.worker.name,
            "addr": self.worker.addr,
            "state": state,
            "problem": self.problem,
            "running": self._jobs.running(self.worker.name),
            "jobs": self._jobs.total(self.worker.name),
        }

    def learn(self, record: JobRecord) -> Row:
        """Take in a record from any answer of the worker."""
        row = row_of(self.worker.name, record)
        old = self._jobs.get(row.key)
        if old is not None and old.finished is not None and row.finished is None:
            return old  # this answer is older than the job's end
        self.history.learn(self._jobs.put(row), row, self._now())
        return row

    def forget(self, job_id: str) -> None:
        """The worker has said that there is no such job."""
        self._jobs.remove((self.worker.name, job_id))

    def _poll(self) -> None:
        self._timer = None
        self._asking = Deferred.fromCoroutine(self._ask())
        self._asking.addBoth(self._polled)

    async def _ask(self) -> None:
        records = await self.client.jobs(UNFINISHED, limit=MOST_POLLED)
        rows = {row.id: row for row in map(self.learn, records)}
        for _, job_id in self._shown:
            row = self._jobs.get((self.worker.name, job_id))
            if row is not None and row.finished is None and job_id not in rows:
                await self._ask_for(job_id, rows)
        for job_id, usage in (await self._usage(list(rows))).items():
            self._samples.add((self.worker.name, job_id), self._now(), usage, rows[job_id].output_bytes)

        if self._clock.seconds() - self._listed_at >= RECONCILE_SECONDS:
            self._listed_at = self._clock.seconds()
            await self._forget_removed()

    async def _forget_removed(self) -> None:
        """A job that was known to be done before the worker lists its jobs, and is not in the list, was removed."""
        known = self._jobs.done(self.worker.name)
        listed = {record.id for record in await self.client.jobs(limit=MOST_ROWS)} if known else set()
        for job_id in known:
            if job_id not in listed:
                self.forget(job_id)

    async def _ask_for(self, job_id: str, rows: dict[str, Row]) -> None:
        try:
            rows[job_id] = self.learn(await self.client.get(job_id))
        except NoSuchJob:
            self.forget(job_id)

    async def _usage(self, job_ids: list[str]) -> dict[str, LiveUsage]:
        if not job_ids:
            return {}
        try:
            found = await self.client.usage(job_ids)
        except NoSuchJob:  # removed meanwhile
            return {}
        except WorkerError as error:
            if error.code == "UNIMPLEMENTED":  # an older worker
                return {}
            raise
        return {job_id: usage for job_id, usage in found.items() if job_id in job_ids}

    def _polled(self, result: Any) -> None:
        self._asking = None
        if self._stopped:
            return
        if isinstance(result, Failure):
            if not result.check(WorkerError):
                self._log.failure("Polling worker {worker} failed", failure=result, worker=self.worker.name)
            self._away(sentence_of(result.value))
        else:
            self._back()
        seconds = POLL_SECONDS if self.viewers or not self.there else IDLE_POLL_SECONDS
        self._timer = self._clock.callLater(seconds, self._poll)

    def _back(self) -> None:
        if self._watch is None:
            watch = self._watch = self.client.watch(self.learn)
            watch.addBoth(self._watch_ended)
        if not self.there:
            self._log.info("Worker {worker} at {addr} answers.", worker=self.worker.name, addr=self.worker.addr)
            self.there, self.problem = True, ""
            self._tell()

    def _away(self, problem: str) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self.there is not False or problem != self.problem:
            if self.there is not False:
                self._log.warn("Worker {worker} is away: {problem}", worker=self.worker.name, problem=problem)
            self.there, self.problem = False, problem
            self._tell()

    def _watch_ended(self, result: Any) -> None:
        """The next poll tells whether the worker answers, and begins another watch."""
        self._watch = None
        if isinstance(result, Failure) and not result.check(WorkerError, CancelledError):
            self._log.failure("Watching worker {worker} failed", failure=result, worker=self.worker.name)
        if not self._stopped and self._timer is not None and self.there:
            self._timer.cancel()
            self._timer = self._clock.callLater(1.0, self._poll)

    def _tell(self) -> None:
        for changed in list(self._changed):
            changed()


def sentence_of(error: BaseException | None) -> str:
    """An error as a sentence for browsers; of a worker that does not answer, the error of the last attempt."""
    last = error.__cause__ if isinstance(error, Unreachable) and error.__cause__ else error
    return printable(cut(str(last) or type(last).__name__, 500))
