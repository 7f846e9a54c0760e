"""
The worker decides: which orders are taken, what becomes of a job, who is told. The only place that changes a job.

It knows the world by ports.py alone. Methods are for the reactor thread, except where a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from txworker.active import Active
from txworker.changes import Changed, Changes
from txworker.jobs import EndAsked, EndReason, Exited, Fact, Job, JobSpec, Limits, Lost, Query, Started, Usage, after
from txworker.jobs.errors import (
    CallerGone,
    JobRemoved,
    NoSuchJob,
    OutOfResources,
    RequestReused,
    TxWorkerError,
    WorkerStopping,
)
from txworker.jobs.limits import effective
from txworker.ports import Launcher, Output, Shelf, Store
from txworker.recovery import utc
from txworker.viewers import Viewers
from txworker.waiting import Waiters, detached


@dataclass(frozen=True)
class Policy:
    """max_running: jobs at once, 0 for no ceiling. grace_seconds: between TERM and KILL when nobody says otherwise."""

    max_running: int
    grace_seconds: float
    default_limits: Limits = Limits()
    ceilings: Limits = Limits()


@dataclass(frozen=True)
class World:
    """
    What the worker reads of the world: now() is wall-clock time in seconds, for showing; ticks() is the time in clock
    ticks since boot; new_id() makes a job's id; soon(call) makes a call a moment later.
    """

    now: Callable[[], float]
    ticks: Callable[[], int]
    new_id: Callable[[], str]
    soon: Callable[[Callable[[], None]], object]


class Worker:
    """Continues with the numbers and revisions that the store has given; recover() it before anybody asks it."""

    _log = Logger()

    def __init__(self, launcher: Launcher, shelf: Shelf, store: Store, policy: Policy, world: World) -> None:
        self._launcher = launcher
        self._shelf = shelf
        self._store = store
        self._policy = policy
        self._world = world
        self._number, self._revision = store.last()
        self._starting: dict[str, Job] = {}
        self._active: dict[str, Active] = {}
        self._requests: dict[str, Job] = {}
        self._settled = Waiters()
        self._changes = Changes(self._revision, world.soon)
        self._refusing = self._stopping = False
        self.viewers = Viewers()

    def recover(self, text: str) -> int:
        """
        Give up the jobs that an earlier worker left unfinished, for the reason that `text` says; how many they were.

        Blocks until that is written: before the reactor runs, and before anybody asks.
        """
        unfinished = self._store.unfinished()
        for job in unfinished:
            fact = Lost(self._world.now(), text, self._shelf.recover(job.id, job.spec.separate_stderr))
            self._store.save(after(job, fact, self._next_revision()))
            self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)
        self._store.settle()
        self._changes = Changes(self._revision, self._world.soon)
        return len(unfinished)

    def submit(self, spec: JobSpec, wanted: Callable[[], bool] = lambda: True) -> Deferred[Job]:
        """
        Start a job; fires with it once the order is in the store and its process runs.

        wanted() is asked last thing before the launch, in any thread: when the caller is gone, nothing is launched.
        Cancelling stops the waiting only. A request id that came before brings that job back.

        Raises (through the Deferred):
            RequestReused: the request id came before with another order.
            TxWorkerError: it could not be started; no job, no file and no process is left.
        """
        return detached(Deferred.fromCoroutine(self._submit(spec, wanted)))

    def submitted(self, spec: JobSpec) -> Job | None:
        """
        The job that this order's request id has brought before, if there is one by now. Any thread.

        Raises:
            RequestReused: it was another order.
        """
        before = self._store.with_request_id(spec.request_id) if spec.request_id else None
        job = None if before is None else self._lasting(before.id)
        if job is not None:
            _check_same(job, spec)
        return job

    def stop(self, job_id: str, grace_seconds: float | None = None) -> Deferred[Job]:
        """
        Ask a job to end; fires at once, with the job as it stands then. A job that is done stays as it is.

        Raises (through the Deferred):
            NoSuchJob: there is none with that id.
        """
        return detached(Deferred.fromCoroutine(self._stop(job_id, grace_seconds, EndReason.ASKED)))

    def get(self, job_id: str) -> Job:
        """
        The job as it stands now. Any thread.

        Raises:
            NoSuchJob: there is none with that id, or no more (JobRemoved).
        """
        active = self._active.get(job_id)
        if active is not None:
            return self._shown(active)
        job = self._store.get(job_id)
        if job is None:
            at = self._store.removed_at(job_id)
            raise NoSuchJob(job_id) if at is None else JobRemoved(job_id, utc(at))
        return job

    def find(self, name: str) -> Job:
        """
        The job with that id, or else the newest that was started with that path. Any thread.

        Raises:
            NoSuchJob: there is neither.
        """
        try:
            return self.get(name)
        except NoSuchJob:
            jobs = [active.now for active in list(self._active.values()) if name and active.job.spec.path == name]
            finished = self._store.newest_with_path(name) if name else None
            if finished is not None:
                jobs.append(finished)
            if not jobs:
                raise
            return max(jobs, key=lambda job: job.number)

    def page(self, query: Query, before: int, most: int) -> list[Job]:
        """At most so many of the jobs that are meant, with numbers below `before`, newest first. Any thread."""
        running = [
            self._shown(active) for active in list(self._active.values())
        ]  # first: what ends meanwhile is seen below
        found = {job.id: job for job in running if job.number < before and query.matches(job)}
        found.update((job.id, job) for job in self._store.finished_page(query, before, most))
        return sorted(found.values(), key=lambda job: -job.number)[:most]

    def changes(self, beyond: int) -> Deferred[Changed]:
        """
        What changed beyond that revision, as soon as anything has; 0 for all there is. Cancelling leaves alone.

        Raises (through the Deferred):
            WorkerStopping: nothing will change any more.
        """
        return self._changes.since(beyond)

    def changes_of(self, known: Mapping[str, int]) -> Deferred[None]:
        """Fires when one of these jobs has changed beyond the revision known of it; as changes()."""
        return self._changes.of(known)

    def ended_between(self, beyond: int, upto: int, most: int) -> list[Job]:
        """What changes() leaves to the store: at most so many, lowest revision first. Any thread."""
        return self._store.finished_between(beyond, upto, most)

    def output_path(self, job_id: str, stderr: bool) -> Path:
        """The file that holds what a job prints. Any thread."""
        return self._shelf.path(job_id, stderr)

    def viewing(self, job_id: str) -> AbstractContextManager[None]:
        """Inside, that job's output stays. Any thread; raises NoSuchJob when it is just being removed."""
        return self.viewers.looking(job_id)

    def more_output(self, job_id: str, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is output at or after offset `beyond`, or the job is done. Cancelling leaves alone."""
        active = self._active.get(job_id)
        return succeed(None) if active is None else active.output.more(beyond, stderr)

    def refuse(self) -> None:
        """Take no new jobs from now on."""
        self._refusing = True

    def drain(self) -> Deferred[None]:
        """Take no new jobs; fires when those there are have come to their end. Cancelling leaves alone."""
        self.refuse()
        return self._settled.until(lambda: not self._active and not self._starting)

    def stop_all(self) -> Deferred[None]:
        """Take no new jobs and end those there are; fires when the last is done."""
        self._stopping = True
        for job_id in list(self._active):
            Deferred.fromCoroutine(self._stop(job_id, None, EndReason.WORKER_STOPPING))
        return self.drain()

    def close(self) -> None:
        """Nothing will change any more: those who watch are told."""
        self._changes.close()

    def running_ids(self) -> list[str]:
        """The jobs that are not done, those that are being launched included. Any thread."""
        return [*self._active, *self._starting]

    def _shown(self, active: Active) -> Job:
        """An end is known as soon as it is written, for whoever reads the store (a list) knows it from then on."""
        written = self._store.get(active.job.id) if active.ending else None
        return written if written is not None and written.done else active.now

    async def _submit(self, spec: JobSpec, wanted: Callable[[], bool]) -> Job:
        while before := self._requests.get(spec.request_id):
            _check_same(before, spec)
            await self._begun(before.id)
            job = self._lasting(before.id)
            if job is not None:
                return job  # else it could not be started; perhaps it can be now, and if not we shall know why
        self._check_room()
        limits = effective(spec.limits, self._policy.default_limits, self._policy.ceilings)
        self._number += 1
        job = Job(self._world.new_id(), spec, self._world.now(), self._number, revision=self._next_revision())
        kept = await self._started(job, limits, wanted)
        if kept is not job:
            _check_same(kept, spec)
        return self._active[kept.id].now if kept.id in self._active else self.get(kept.id)

    def _begun(self, job_id: str) -> Deferred[None]:
        return self._settled.until(lambda: job_id not in self._starting)

    def _lasting(self, job_id: str) -> Job | None:
        """That job, unless it is only being started, or could not be and is about to be forgotten. Any thread."""
        active = self._active.get(job_id)
        job = self._store.get(job_id) if active is None else active.now
        return job if job is not None and (job.done or active is not None) else None

    async def _started(self, job: Job, limits: Limits, wanted: Callable[[], bool]) -> Job:
        """Write the order down, then launch it; that job, or the one that its request id has brought before."""
        request_id = job.spec.request_id
        self._starting[job.id] = job
        if request_id:
            self._requests[request_id] = job
        try:
            kept = await self._store.add(job)
            if kept.id == job.id:
                await self._launch_or_drop(job, limits, wanted)
                return job
            self._requests.pop(request_id, None)
            return kept
        except BaseException:
            self._requests.pop(request_id, None)
            raise
        finally:
            del self._starting[job.id]
            self._settled.wake()

    async def _launch_or_drop(self, job: Job, limits: Limits, wanted: Callable[[], bool]) -> None:
        def check() -> None:
            """Last thing before its process is made, perhaps in another thread: others may have taken their time."""
            if self._refusing:
                raise WorkerStopping
            if not wanted():
                raise CallerGone

        try:
            await self._launch(job, limits, check)
        except BaseException as error:
            self._store.drop(job).addErrback(self._not_written, job)
            if isinstance(error, TxWorkerError):
                self._log.info("No job was started: {error}.", error=error)
            raise

    def _check_room(self) -> None:
        if self._refusing:
            raise WorkerStopping
        ceiling = self._policy.max_running
        if ceiling and len(self._active) + len(self._starting) >= ceiling:
            raise OutOfResources(f"jobs.max_running: {ceiling} jobs are running already", "MAX_RUNNING")

    async def _launch(self, job: Job, limits: Limits, check: Callable[[], None]) -> None:
        output = self._create_output(job, limits.max_output_bytes)
        active = Active(job, output, self._overdue, self._ended)
        try:
            spec = job.spec if limits == job.spec.limits else replace(job.spec, limits=limits)
            active.running = await self._launcher.launch(job.id, spec, active, check)
        except BaseException:
            output.discard()
            raise
        active.job = job if job.spec is job.spec.started() else job.but(spec=job.spec.started())
        self._active[job.id] = active
        if job.spec.request_id:
            self._requests[job.spec.request_id] = active.job
        self._learn(active, Started(self._world.now(), active.running.pid, self._world.ticks()))
        self._log.info(
            "Job {job_id} started as pid {pid}: {argv}.", job_id=job.id, pid=active.job.pid, argv=job.spec.argv
        )
        if self._stopping:  # since it was begun
            await self._stop(job.id, None, EndReason.WORKER_STOPPING)

    def _create_output(self, job: Job, max_bytes: int) -> Output:
        try:
            return self._shelf.create(job.id, job.spec.separate_stderr, max_bytes)
        except OSError as error:
            self._log.error("No output file can be made: {error}.", error=error)
            raise OutOfResources(f"jobs.output_directory: no output file can be made: {error}") from error

    async def _stop(self, job_id: str, grace_seconds: float | None, reason: EndReason) -> Job:
        active = self._active.get(job_id)
        if active is None or active.running is None:
            return self.get(job_id)
        if not active.ending:
            grace = self._policy.grace_seconds if grace_seconds is None else grace_seconds
            text = "Job {job_id} is being stopped, {grace} s of grace ({reason})."
            self._log.info(text, job_id=job_id, grace=grace, reason=reason.value)
            self._learn(active, EndAsked(reason))
            active.running.stop(grace)
        return active.now

    def _learn(self, active: Active, fact: Fact) -> None:
        """Decide at once, write it down, then tell."""
        job = after(active.job, fact, self._next_revision())
        if job is not active.job:
            active.job = job
            self._store.save(job).addCallback(lambda _: self._changes.tell(job)).addErrback(self._not_written, job)

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision

    def _overdue(self, active: Active, reason: EndReason) -> None:
        self._log.info("Job {job_id} is being ended ({reason}).", job_id=active.job.id, reason=reason.value)
        self._learn(active, EndAsked(reason))

    def _ended(
        self, active: Active, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int
    ) -> None:
        """An end is shown to nobody before it is written down, for it must never be taken back."""
        output = active.output
        active.ending = True
        output.finish()
        fact = Exited(self._world.now(), exit_code, signal, usage, output.size, output.truncated, leftovers_ended)
        job = after(active.job, fact, self._next_revision())
        self._store.save(job).addCallback(lambda _: self._tell_end(active, job)).addErrback(self._not_written, job)

    def _tell_end(self, active: Active, job: Job) -> None:
        active.job = job
        del self._active[job.id]
        self._requests.pop(job.spec.request_id, None)
        active.output.close()
        self._log.info(
            "Job {job_id} is done: {state}{why}, {output_bytes} bytes of output{leftovers}.",
            job_id=job.id,
            state=job.state.name,
            why=f" ({job.error_text})" if job.failed else "",
            output_bytes=job.output_bytes,
            leftovers=f", {job.leftovers_ended} leftovers ended" if job.leftovers_ended else "",
        )
        self._changes.tell(job)
        self._settled.wake()

    def _not_written(self, failure: Any, job: Job) -> None:
        text = "Job {job_id} could not be written down as {state}: {error}."
        self._log.error(text, job_id=job.id, state=job.state.name, error=failure.value)


def _check_same(before: Job, spec: JobSpec) -> None:
    difference = before.spec.difference(spec)
    if difference:
        raise RequestReused(spec.request_id, before.id, difference)
