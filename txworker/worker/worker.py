"""
The worker decides: which orders are taken, what becomes of a job, who is told. The only place that changes a job.

It knows the world by ports.py alone. Methods are for the reactor thread, except where a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from txworker.base.logs import Logger
from txworker.base.waiting import Waiters, detached
from txworker.jobs import (
    EndBlocked,
    EndReason,
    EndRequested,
    Exit,
    Exited,
    Fact,
    Job,
    JobSpec,
    JobState,
    Limits,
    Lost,
    Started,
    after,
)
from txworker.jobs.errors import CallerGone, OutOfResources, TxWorkerError, WorkerStopping, shown_words
from txworker.jobs.held_process import HeldProcess
from txworker.jobs.limits import effective
from txworker.ports import Launcher, Shelf, Store, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.catalog import Catalog, check_same
from txworker.worker.change_feed import ChangeFeed
from txworker.worker.job_launcher import JobLauncher
from txworker.worker.takeover import LostJob, Takeover, joined


@dataclass(frozen=True)
class Policy:
    """
    max_running: jobs at once, 0 for no ceiling. grace_seconds: between TERM and KILL when a request does not say.
    keeps_leftovers: what a job left behind is left alone when its request does not say.
    """

    max_running: int
    grace_seconds: float
    default_limits: Limits = Limits()
    ceilings: Limits = Limits()
    keeps_leftovers: bool = False


class Worker:
    """Continues with the numbers and revisions that the store has given; take_over() before anybody asks it."""

    _log = Logger()

    def __init__(self, launcher: Launcher, shelf: Shelf, store: Store, policy: Policy, world: World) -> None:
        self._job_launcher = JobLauncher(launcher, shelf, self._overdue, self._hindered, self._ended)
        self._shelf = shelf
        self._store = store
        self._policy = policy
        self._world = world
        self._number, self._revision = store.last()
        self._starting: dict[str, float] = {}  # as ActiveJob.ahead
        self._active: dict[str, ActiveJob] = {}
        self._requests: dict[str, Job] = {}
        self._settled = Waiters()
        self._feed = ChangeFeed(self._revision, world.soon)
        self._refusing = self._stopping = False
        self.catalog = Catalog(self._active, store, shelf, self._feed, policy.keeps_leftovers)

    def take_over(self, takeover: Takeover, now_for: Callable[[Job], float] | None = None) -> tuple[int, int]:
        """
        Apply the decision about an earlier worker's unfinished jobs; how many jobs run on, and how many are lost.

        now_for(job): the present time on the job's own clock; None: the wall clock's.

        Blocks until everything is written. To be called before the reactor runs and before any other method.

        Raises:
            StoreBroken: it cannot be written.
        """
        now_for = now_for or (lambda job: self._world.now())
        lost = list(takeover.lost)
        taken: list[tuple[ActiveJob, HeldProcess]] = []
        for one in takeover.run_on:
            active = self._take_over(one.job, one.held, now_for(one.job))
            if active is not None:
                taken.append((active, one.held))
            else:
                lost.append(LostJob(one.job, one.lost_text))
        for active, held in taken:  # all jobs are known first: a leftover of one could be taken for another's
            self._resume(active, held)
        for lost_job in lost:
            self._lose(lost_job.job, lost_job.text, now_for(lost_job.job))
        for job in takeover.never_started:
            self._log.info("Job {job_id} was never started; its record is dropped.", job_id=job.id)
            self._store.drop(job).addErrback(self._not_written, job)
        self._store.settle()
        self._feed.start_after(self._revision)
        return len(taken), len(lost)

    def _take_over(self, job: Job, held: HeldProcess, now: float) -> ActiveJob | None:
        """Make the job active; its process is not touched yet. None: it cannot be, and the log says why."""
        try:
            active = self._job_launcher.take_over(job, held)
        except OSError as error:
            self._log.error("Job {job_id} cannot be taken over: {error}.", job_id=job.id, error=error)
            return None
        self._active[job.id] = active
        active.ahead = now - self._world.elapsed()
        if job.spec.request_id:
            self._requests[job.spec.request_id] = job
        if job.state is JobState.PENDING:  # the earlier worker ended after the launch and before writing it down
            self._learn(active, Started(held.started_at, held.pid, held.ticks))
        if held.stopping:  # by the shim, or by a worker that could no longer write it down
            self._learn(active, EndRequested(held.reason or EndReason.REQUESTED))
        self._log.info("Job {job_id}, pid {pid}, is taken over.", job_id=job.id, pid=held.pid)
        return active

    def _resume(self, active: ActiveJob, held: HeldProcess) -> None:
        """Continue a stop that had begun, begin one that was only decided, and handle an exit that came meanwhile."""
        if held.stopping:
            active.running.resume_stop(held.kill_at)
        elif active.job.state is JobState.STOPPING:
            active.running.stop(self._policy.grace_seconds)
        if held.exit is not None:
            active.running.exited(held.exit)

    def _lose(self, job: Job, text: str, now: float) -> None:
        separate = job.spec.separate_stderr
        damaged = self._shelf.is_damaged(job.id, separate, begun=job.state is not JobState.PENDING)
        output_bytes = self._shelf.recover(job.id, separate)
        fact = Lost(now, text, output_bytes, damaged, self._world.elapsed())
        self._store.save(after(job, fact, self._next_revision()))
        self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)

    def shim_lost(
        self, job_ids: Collection[str], text: str, unended: Mapping[str, str] | None = None
    ) -> Deferred[None]:
        """
        The shim has ended, and these jobs, whose processes are ended by now, with it: they are lost, as `text` says.
        unended: as in take_over(). Fires when that is written down.
        """
        lost = [
            self._lose_active(self._active[job_id], joined(text, unended, job_id))
            for job_id in job_ids
            if job_id in self._active
        ]
        return gatherResults([Deferred.fromCoroutine(one) for one in lost]).addCallback(lambda _: None)

    async def _lose_active(self, active: ActiveJob, text: str) -> None:
        if active.ending:
            return
        active.ending = True
        await active.running.abandon()
        active.output.finish()
        elapsed = self._world.elapsed()
        fact = Lost(elapsed + active.ahead, text, active.output.size, active.output.truncated, elapsed)
        job = after(active.job, fact, self._next_revision())
        self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)
        self._store.save(job).addCallback(lambda _: self._tell_end(active, job)).addErrback(self._not_written, job)

    def leave_all(self) -> Deferred[int]:
        """
        Take no new jobs and leave those there are to the next worker; fires with how many, when nothing of their output
        is being copied any more.
        """
        self.refuse()
        active = [one for one in self._active.values() if not one.ending]
        left = gatherResults([one.running.leave() for one in active])
        return left.addCallback(lambda _: self._close_outputs(active))

    def _close_outputs(self, active: Collection[ActiveJob]) -> int:
        for one in active:
            one.output.finish()
            one.output.close()
        return len(active)

    def submit(self, spec: JobSpec, wanted: Callable[[], bool] = lambda: True) -> Deferred[Job]:
        """
        Start a job; fires with it once the order is in the store and its process runs.

        wanted() is asked last thing before the launch, in any thread: when the caller is gone, nothing is launched.
        Cancelling stops the waiting only. A request id that came before brings that job back.

        Raises (through the Deferred):
            RequestReused: the request id came before with another order.
            TxWorkerError: it could not be started; no job, no file and no process is left.
        """
        return detached(Deferred.fromCoroutine(self._submit(spec, wanted)), TxWorkerError)

    def stop(self, job_id: str, grace_seconds: float | None = None) -> Deferred[Job]:
        """
        Ask a job to end; fires at once, with the job as it stands then. A job that is done stays as it is.

        Raises (through the Deferred):
            NoSuchJob: there is none with that id.
        """
        return detached(Deferred.fromCoroutine(self._stop(job_id, grace_seconds, EndReason.REQUESTED)), TxWorkerError)

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

    def give_up(self) -> None:
        """The worker ends, and these jobs have not: their records say so."""
        for active in self._active.values():
            if not active.ending and not active.job.end_problem:
                pid = active.running.pid
                self._learn(
                    active, EndBlocked(f"process {pid} still ran when the worker stopped, though it was killed")
                )

    def close(self) -> None:
        """Nothing will change any more: those who watch are told."""
        self._feed.close()

    def running_ids(self) -> list[str]:
        """The jobs that are not done, those that are being launched included. Any thread."""
        return [*self._active, *self._starting]

    def running_jobs(self) -> list[Job]:
        """Those whose processes run, or have exited and are not done."""
        return [active.job for active in self._active.values() if not active.ending]

    async def _submit(self, spec: JobSpec, wanted: Callable[[], bool]) -> Job:
        while before := self._requests.get(spec.request_id):
            check_same(self.catalog.with_full_spec(before), spec)
            await self._begun(before.id)
            job = self.catalog.launched(before.id)
            if job is not None:
                return job  # else it could not be started; perhaps it can be now, and if not we shall know why
        self._check_room()
        self._job_launcher.launcher.check(spec)
        limits = effective(spec.limits, self._policy.default_limits, self._policy.ceilings)
        self._number += 1
        job = Job(self._world.new_id(), spec, self._world.now(), self._number, revision=self._next_revision())
        kept = await self._started(job, limits, wanted)
        if kept is not job:
            check_same(self.catalog.with_full_spec(kept), spec)
        return self._active[kept.id].now if kept.id in self._active else self.catalog.get(kept.id)

    def _begun(self, job_id: str) -> Deferred[None]:
        return self._settled.until(lambda: job_id not in self._starting)

    async def _started(self, job: Job, limits: Limits, wanted: Callable[[], bool]) -> Job:
        """Write the order down, then launch it; that job, or the one that its request id has brought before."""
        request_id = job.spec.request_id
        self._starting[job.id] = job.created_at - self._world.elapsed()
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
        except BaseException:
            self._store.drop(job).addErrback(self._not_written, job)
            raise

    def _check_room(self) -> None:
        if self._refusing:
            raise WorkerStopping
        ceiling = self._policy.max_running
        if ceiling and len(self._active) + len(self._starting) >= ceiling:
            raise OutOfResources(f"jobs.max_running: {ceiling} may run at once, and do", "MAX_RUNNING")

    async def _launch(self, job: Job, limits: Limits, check: Callable[[], None]) -> None:
        active = await self._job_launcher.launch(job, limits, check)
        self._active[job.id] = active
        active.ahead = self._starting[job.id]
        if job.spec.request_id:
            self._requests[job.spec.request_id] = active.job
        pid = active.running.pid
        at = max(self._world.elapsed() + active.ahead, job.created_at)
        self._learn(active, Started(at, pid, self._world.ticks()))
        active.running.note_start(at)
        text = "Job {job_id} started as pid {pid}: {argv}"
        self._log.info(text, job_id=job.id, pid=pid, argv=shown_words(job.spec.argv))
        if self._stopping:  # since it was begun
            await self._stop(job.id, None, EndReason.WORKER_STOPPING)

    async def _stop(self, job_id: str, grace_seconds: float | None, reason: EndReason) -> Job:
        active = self._active.get(job_id)
        if active is None:
            return self.catalog.get(job_id)
        if not active.ending:
            grace = self._policy.grace_seconds if grace_seconds is None else grace_seconds
            self._say_stopping(active, grace, reason)
            self._learn(active, EndRequested(reason))
            active.running.stop(grace)
        return active.now

    def _say_stopping(self, active: ActiveJob, grace_seconds: float, reason: EndReason) -> None:
        """Not each time that it is asked for, but once, and when there is to be less than half of the time."""
        if grace_seconds < active.told_grace / 2:
            active.told_grace = grace_seconds
            text = "Job {job_id} is being stopped, {grace} s of grace ({reason})."
            self._log.info(text, job_id=active.job.id, grace=grace_seconds, reason=reason.value)

    def _learn(self, active: ActiveJob, fact: Fact) -> None:
        """Decide at once, write it down, then tell."""
        job = after(active.job, fact, self._next_revision())
        if job is not active.job:
            active.job = job
            self._store.save(job).addCallback(lambda _: self._feed.publish(job)).addErrback(self._not_written, job)

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision

    def _overdue(self, active: ActiveJob, reason: EndReason) -> None:
        self._log.info("Job {job_id} is being ended ({reason}).", job_id=active.job.id, reason=reason.value)
        self._learn(active, EndRequested(reason))

    def _hindered(self, active: ActiveJob, problem: str) -> None:
        if problem and problem != active.job.end_problem:
            self._log.error("Job {job_id} does not end: {problem}.", job_id=active.job.id, problem=problem)
            self._learn(active, EndBlocked(problem))

    def _ended(self, active: ActiveJob, exit: Exit) -> None:
        """An end is shown to nobody before it is written down, for it must never be taken back."""
        output = active.output
        active.ending = True
        output.finish()
        elapsed = self._world.elapsed()
        at = active.exited_before or elapsed + active.ahead
        fact = Exited(at, exit, output.size, output.truncated, elapsed)
        job = after(active.job, fact, self._next_revision())
        self._store.save(job).addCallback(lambda _: self._tell_end(active, job)).addErrback(self._not_written, job)

    def _tell_end(self, active: ActiveJob, job: Job) -> None:
        active.job = job
        del self._active[job.id]
        self._requests.pop(job.spec.request_id, None)
        active.output.close()
        active.running.release()
        self._log.info(
            "Job {job_id} is done: {state}{why}, {output_bytes} bytes of output{leftovers}.",
            job_id=job.id,
            state=job.state.name,
            why=f" ({job.error_text})" if job.failed else "",
            output_bytes=job.output_bytes,
            leftovers=f", leftovers ended: {job.leftovers_ended}" if job.leftovers_ended else "",
        )
        self._feed.publish(job)
        self._settled.wake()

    def _not_written(self, failure: Any, job: Job) -> None:
        text = "Job {job_id} could not be written down as {state}: {error}."
        self._log.error(text, job_id=job.id, state=job.state.name, error=failure.value)
