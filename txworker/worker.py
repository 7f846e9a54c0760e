"""
The worker decides: which orders are taken, what becomes of a job, who is told. The only place that changes a job.

It knows the world by ports.py alone. Methods are for the reactor thread, except where a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from txworker.jobs import EndAsked, EndReason, Exited, Fact, Job, JobSpec, Limits, Started, Usage, after
from txworker.jobs.errors import (
    CallerGone,
    NoSuchJob,
    OutOfResources,
    RequestReused,
    TxWorkerError,
    WorkerStopping,
)
from txworker.jobs.limits import effective
from txworker.ports import Launcher, Output, Running, Shelf, Store
from txworker.waiting import Waiters, detached


@dataclass(frozen=True)
class Policy:
    """max_running: jobs at once, 0 for no ceiling. grace_seconds: between TERM and KILL when nobody says otherwise."""

    max_running: int
    grace_seconds: float
    default_limits: Limits = Limits()
    ceilings: Limits = Limits()


class _Active:
    """A job that is not done, with what is alive of it. Hears its child (ports.Listener) and passes it on."""

    __slots__ = ("_worker", "job", "output", "pour", "poured", "running", "wrote")

    def __init__(self, worker: Worker, job: Job, output: Output) -> None:
        self._worker = worker
        self.job = job
        self.output = output
        self.wrote = output.write
        self.pour = output.pour
        self.poured = output.poured
        self.running: Running | None = None

    def overdue(self, reason: EndReason) -> None:
        self._worker._overdue(self, reason)

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int) -> None:
        self._worker._ended(self, exit_code, signal, usage, leftovers_ended)


class Worker:
    """now() is wall-clock time in seconds, for showing; new_id() makes a job's id."""

    _log = Logger()

    def __init__(
        self,
        launcher: Launcher,
        shelf: Shelf,
        store: Store,
        policy: Policy,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._launcher = launcher
        self._shelf = shelf
        self._store = store
        self._policy = policy
        self._now = now
        self._new_id = new_id
        self._active: dict[str, _Active] = {}
        self._changed = Waiters()
        self._refusing = False

    def submit(self, spec: JobSpec, wanted: Callable[[], bool] = lambda: True) -> Deferred[Job]:
        """
        Start a job; fires with it once its process runs and the store has it.

        wanted() is asked last thing before the launch: when the caller is gone, nothing is launched. Cancelling
        stops the waiting only.

        Raises (through the Deferred):
            TxWorkerError: it could not be started; no job, no file and no process is left.
        """
        return detached(Deferred.fromCoroutine(self._submit(spec, wanted)))

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
            NoSuchJob: there is none with that id.
        """
        active = self._active.get(job_id)
        if active is not None:
            return replace(active.job, output_bytes=active.output.size)
        job = self._store.get(job_id)
        if job is None:
            raise NoSuchJob(job_id)
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
            job = self._store.newest_with_path(name) if name else None
            if job is None:
                raise
            return job

    def output_path(self, job_id: str, stderr: bool) -> Path:
        """The file that holds what a job prints. Any thread."""
        return self._shelf.path(job_id, stderr)

    def more_output(self, job_id: str, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is output at or after offset `beyond`, or the job is done. Cancelling leaves alone."""
        active = self._active.get(job_id)
        return succeed(None) if active is None else active.output.more(beyond, stderr)

    def refuse(self) -> None:
        """Take no new jobs from now on."""
        self._refusing = True

    def stop_all(self) -> Deferred[None]:
        """Take no new jobs and end those there are; fires when the last is done."""
        self.refuse()
        for job_id in list(self._active):
            Deferred.fromCoroutine(self._stop(job_id, None, EndReason.WORKER_STOPPING))
        return self._changed.until(lambda: not self._active)

    def running_ids(self) -> list[str]:
        """The jobs that are not done. Any thread."""
        return list(self._active)

    async def _submit(self, spec: JobSpec, wanted: Callable[[], bool]) -> Job:
        before = self._store.with_request_id(spec.request_id) if spec.request_id else None
        if before is not None:
            _check_same(before.spec, spec)
            return self.get(before.id)
        self._check_room()
        limits = effective(spec.limits, self._policy.default_limits, self._policy.ceilings)
        if not wanted():
            raise CallerGone
        active = self._launch(Job(self._new_id(), spec, self._now()), limits)
        await self._store.save(active.job)
        return active.job

    def _check_room(self) -> None:
        if self._refusing:
            raise WorkerStopping
        ceiling = self._policy.max_running
        if ceiling and len(self._active) >= ceiling:
            raise OutOfResources(f"jobs.max_running: {ceiling} jobs are running already", "MAX_RUNNING")

    def _launch(self, job: Job, limits: Limits) -> _Active:
        output = self._create_output(job, limits.max_output_bytes)
        active = _Active(self, job, output)
        try:
            spec = job.spec if limits == job.spec.limits else replace(job.spec, limits=limits)
            active.running = self._launcher.launch(job.id, spec, active)
        except BaseException as error:
            output.discard()
            if isinstance(error, TxWorkerError):
                self._log.info("No job was started: {error}.", error=error)
            raise
        self._active[job.id] = active
        active.job = after(job, Started(self._now(), active.running.pid))
        self._log.info(
            "Job {job_id} started as pid {pid}: {argv}.", job_id=job.id, pid=active.job.pid, argv=job.spec.argv
        )
        return active

    def _create_output(self, job: Job, max_bytes: int) -> Output:
        try:
            return self._shelf.create(job.id, job.spec.separate_stderr, max_bytes)
        except OSError as error:
            self._log.error("No output file can be made: {error}.", error=error)
            raise OutOfResources(f"jobs.output_directory: no output file can be made: {error}") from error

    async def _stop(self, job_id: str, grace_seconds: float | None, reason: EndReason) -> Job:
        active = self._active.get(job_id)
        if active is None or active.running is None or active.job.done:
            return self.get(job_id)
        grace = self._policy.grace_seconds if grace_seconds is None else grace_seconds
        self._log.info(
            "Job {job_id} is being stopped, {grace} s of grace ({reason}).",
            job_id=job_id,
            grace=grace,
            reason=reason.value,
        )
        saved = self._learn(active, EndAsked(reason))
        active.running.stop(grace)
        await saved
        return self.get(job_id)

    def _learn(self, active: _Active, fact: Fact) -> Deferred[None]:
        active.job = after(active.job, fact)
        return self._store.save(active.job)

    def _overdue(self, active: _Active, reason: EndReason) -> None:
        self._log.info("Job {job_id} is being ended ({reason}).", job_id=active.job.id, reason=reason.value)
        self._learn(active, EndAsked(reason))

    def _ended(
        self, active: _Active, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int
    ) -> None:
        output = active.output
        fact = Exited(self._now(), exit_code, signal, usage, output.size, output.truncated, leftovers_ended)
        self._learn(active, fact).addCallback(lambda _: self._tell_end(active))

    def _tell_end(self, active: _Active) -> None:
        job = active.job
        del self._active[job.id]
        active.output.close()
        self._log.info(
            "Job {job_id} is done: {state}{why}, {output_bytes} bytes of output{leftovers}.",
            job_id=job.id,
            state=job.state.name,
            why=f" ({job.error_text})" if job.failed else "",
            output_bytes=job.output_bytes,
            leftovers=f", {job.leftovers_ended} leftovers ended" if job.leftovers_ended else "",
        )
        self._changed.wake()


def _check_same(before: JobSpec, now: JobSpec) -> None:
    for field in fields(JobSpec):
        if getattr(before, field.name) != getattr(now, field.name):
            raise RequestReused(now.request_id, field.name)
