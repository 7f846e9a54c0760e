"""
The worker accepts or refuses requests, and is the only place that changes a job: by a fact, and after(job, fact).

It reaches the outside world only through ports/. Methods are for the reactor thread, unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred

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
    Lost,
    Started,
    TakenOver,
    after,
)
from txworker.jobs.errors import OutOfResources, TxWorkerError, WorkerStopping, shown_words
from txworker.jobs.held_process import HeldProcess
from txworker.ports import NO_OBSERVER, Launcher, Observer, OutputDirectory, Store, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.catalog import Catalog
from txworker.worker.change_feed import ChangeFeed
from txworker.worker.job_launcher import JobLauncher
from txworker.worker.load import Load
from txworker.worker.policy import Policy
from txworker.worker.running_jobs import RunningJobs
from txworker.worker.submissions import Decisions, Submissions
from txworker.worker.takeover import SCARCE, LostJob, RunsOn, Takeover, joined, untaken


class Worker:
    """
    Continues the numbers and revisions that are in the store. Call take_over() before any other method.

    _active has the jobs that run, by id. catalog reads jobs; running is asked what changes no record.
    """

    _log = Logger()

    def __init__(
        self,
        launcher: Launcher,
        outputs: OutputDirectory,
        store: Store,
        policy: Policy,
        world: World,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._launcher = launcher
        self._job_launcher = JobLauncher(launcher, outputs, self._overdue, self._end_blocked, self._ended)
        self._outputs = outputs
        self._store = store
        self._policy = policy
        self._world = world
        self._observer = observer
        self._number, self._revision = store.last()
        self._active: dict[str, ActiveJob] = {}
        self._settled = Waiters()
        self._feed = ChangeFeed(self._revision, world.soon)
        self._refusing = self._stopping = False
        self.catalog = Catalog(self._active, store, outputs, self._feed, policy.keeps_leftovers)
        decisions = Decisions(self._accept, self._check_accepting, self._launched, self._drop)
        self._submissions = Submissions(self._job_launcher, store, world, self.catalog, self._settled, decisions)
        self.running = RunningJobs(self._active, self._submissions.starting, self.catalog)
        self.load = Load(self._active, self._submissions.starting)

    def take_over(
        self, takeover: Takeover, end: Callable[[RunsOn], str], now_for: Callable[[Job], float] | None = None
    ) -> tuple[int, int]:
        """
        Apply the decision about an earlier worker's unfinished jobs; how many jobs run on, and how many are lost.

        end(job) ends the process of a job that cannot be taken over, and returns what could not be ended, and why.
        now_for(job): the present time on the job's own clock; None: the wall clock's.

        Blocks until everything is written. To be called before the reactor runs and before any other method.

        Raises:
            StoreBroken: it cannot be written.
            OutOfResources: the machine lacks what a takeover needs. No job is ended: the shim keeps them.
        """
        now_for = now_for or (lambda job: self._world.now())
        lost = list(takeover.lost)
        taken: list[tuple[ActiveJob, HeldProcess]] = []
        for one in takeover.run_on:
            try:
                taken.append((self._take_over(one.job, one.held, now_for(one.job)), one.held))
            except OSError as error:  # noqa: PERF203  # one such job must not stop the others
                lost.append(self._end_untaken(one, error, end))
        for active, held in taken:  # all jobs are known first: a leftover of one could be taken for another's
            self._resume(active, held)
        for lost_job in lost:
            self._lose(lost_job, now_for(lost_job.job))
        for job in takeover.never_started:
            self._forget_unstarted(job)
        self._store.settle()
        self._feed.start_after(self._revision, [active.job for active in self._active.values()])
        return len(taken), len(lost)

    def _take_over(self, job: Job, held: HeldProcess, now: float) -> ActiveJob:
        """Make the job active; its process is not touched yet. Raises OSError: it cannot be; nothing has changed."""
        active = self._job_launcher.take_over(job, held)
        self._active[job.id] = active
        active.ahead = now - self._world.elapsed()
        job = active.job = after(job, TakenOver(), self._next_revision())
        self._store.save(job).addErrback(self._not_written, job)
        self._submissions.remember(job)
        if job.state is JobState.PENDING:  # the earlier worker ended after the launch and before writing it down
            self._learn(active, Started(held.started_at, held.pid, held.ticks))
        self._observer.taken_over()
        if held.stopping:  # by the shim, or by a worker that could no longer write it down
            self._learn(active, EndRequested(held.reason or EndReason.REQUESTED))
        self._log.info("Job {job_id}, pid {pid}, is taken over.", job_id=job.id, pid=held.pid)
        return active

    def _end_untaken(self, one: RunsOn, error: OSError, end: Callable[[RunsOn], str]) -> LostJob:
        if error.errno in SCARCE:
            raise OutOfResources(f"job {one.job.id} cannot be taken over: {error.strerror}") from error
        self._log.error("Job {job_id} cannot be taken over, so it is ended: {error}.", job_id=one.job.id, error=error)
        return untaken(one.job, error, end(one))

    def _resume(self, active: ActiveJob, held: HeldProcess) -> None:
        """Continue a stop that had begun, begin one that was only decided, and handle an exit that came meanwhile."""
        if held.stopping:
            active.running.resume_stop(held.kill_at, active.job.end_reason or EndReason.REQUESTED)
        elif active.job.state is JobState.STOPPING:
            active.running.stop(self._policy.grace_seconds, active.job.end_reason or EndReason.REQUESTED)
        if held.exit is not None:
            active.running.exited(held.exit)

    def _forget_unstarted(self, job: Job) -> None:
        """Its output goes first: retention finds none without a record."""
        self._log.info("Job {job_id} was never started; its record and its output are dropped.", job_id=job.id)
        try:
            self._outputs.remove([job.id])
        except OSError as error:
            self._log.warn("Output of job {job_id} cannot be removed: {error}.", job_id=job.id, error=error)
        self._drop(job)

    def _lose(self, lost: LostJob, now: float) -> None:
        job, text = lost.job, lost.text
        separate = job.spec.separate_stderr
        damaged = lost.incomplete or self._outputs.is_damaged(job.id, separate, begun=job.state is not JobState.PENDING)
        output_bytes = self._outputs.recover(job.id, separate)
        stderr_bytes = self._outputs.bytes_of(job.id, True) if separate else None
        fact = Lost(now, text, output_bytes, damaged, self._world.elapsed(), stderr_bytes)
        job = after(job, fact, self._next_revision())
        self._store.save(job)
        self._observer.ended(job, 0)
        self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)

    def shim_lost(
        self, job_ids: Collection[str], text: str, unended: Mapping[str, str] | None = None
    ) -> Deferred[None]:
        """
        Mark these jobs as lost, with this errorText: their shim has ended, and their processes have been ended. A job
        whose process had exited before has its own end. unended: see takeover.decide(). Fires when the ends are handed
        to the store.
        """
        lost = [
            self._lose_active(self._active[job_id], text, unended or {}) for job_id in job_ids if job_id in self._active
        ]
        return gatherResults([Deferred.fromCoroutine(one) for one in lost]).addCallback(lambda _: None)

    async def _lose_active(self, active: ActiveJob, text: str, unended: Mapping[str, str]) -> None:
        if active.ending:
            return
        active.ending = True
        exit = await active.running.abandon()
        if exit is not None:
            self._ended(active, replace(exit, end_problem=exit.end_problem or unended.get(active.job.id, "")))
            return
        text = joined(text, unended, active.job.id)
        active.output.finish()
        elapsed = self._world.elapsed()
        at, output = elapsed + active.ahead, active.output
        fact = Lost(at, text, output.size, output.truncated, elapsed, active.stderr_bytes)
        job = after(active.job, fact, self._next_revision())
        self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)
        self._store.save(job).addCallback(lambda _: self._finish(active, job)).addErrback(self._not_written, job)

    def leave_all(self) -> Deferred[int]:
        """
        Refuse new jobs and leave the running ones to the next worker. Fires with their number, once no output of theirs
        is being copied.
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

    def check(self, spec: JobSpec) -> None:
        """
        To be called before submit(). Any thread, and not the reactor's: a request may have two million arguments.

        Raises:
            InvalidRequest: no machine could start a process from that spec.
        """
        self._launcher.check(spec)

    def submit(self, spec: JobSpec, wanted: Callable[[], bool] = lambda: True) -> Deferred[Job]:
        """
        Start a job; fires with it once its record is in the store and its process runs. For a request id that was used
        before, fires with the earlier job.

        wanted() is called immediately before the launch, in any thread; if it is false, nothing is launched.
        Cancelling stops only the waiting.

        Raises (through the Deferred):
            RequestReused: the request id was used before, with a different spec.
            CallerGone: wanted() was false.
            TxWorkerError: the job could not be started; no record, no file and no process is left.
        """
        job = Deferred.fromCoroutine(self._submissions.submit(spec, wanted))
        if spec.trace:
            job.addBoth(self._trace_settled, spec)
        return detached(job, TxWorkerError, lambda _: self._settled.wake())

    def _trace_settled(self, result: Any, spec: JobSpec) -> Any:
        """A finished job's record comes from the store, without its trace: the end was told before."""
        if not isinstance(result, Job) or result.spec.trace != spec.trace:
            self._observer.not_started(spec)
        return result

    def stop(self, job_id: str, grace_seconds: float | None = None) -> Deferred[Job]:
        """
        Begin to end a job. Fires at once, with its record at that moment. A finished job is not changed.

        Raises (through the Deferred):
            NoSuchJob: there is no job with that id.
        """
        return maybeDeferred(self._stop, job_id, grace_seconds, EndReason.REQUESTED)

    def set_policy(self, policy: Policy) -> None:
        """Decide by that policy from now on. Jobs that were accepted before keep their settings."""
        self._policy = policy

    def refuse(self) -> None:
        """Refuse new jobs from now on."""
        self._refusing = True

    def drain(self) -> Deferred[None]:
        """Refuse new jobs; fires when all others have ended by themselves. Cancelling removes only this waiter."""
        self.refuse()
        return self._settled.until(lambda: not self._active and not self._submissions.starting)

    def stop_all(self) -> Deferred[None]:
        """Refuse new jobs and end all others; fires when the last is done."""
        self._stopping = True
        for job_id in list(self._active):
            self._stop(job_id, None, EndReason.WORKER_STOPPING)
        return self.drain()

    def give_up(self) -> None:
        """Record that the remaining jobs did not end, although the worker killed them and stops."""
        for active in self._active.values():
            if not active.ending and not active.job.end_problem:
                pid = active.running.pid
                self._learn(
                    active, EndBlocked(f"process {pid} still ran when the worker stopped, though it was killed")
                )

    def close(self) -> None:
        """Tell the watchers that no job will change any more."""
        self._feed.close()

    def running_ids(self) -> list[str]:
        """The ids of all unfinished jobs, including those that are being launched. Any thread."""
        return [*self._active, *self._submissions.starting]

    def running_jobs(self) -> list[Job]:
        """The jobs that were launched and have not ended yet."""
        return [active.job for active in self._active.values() if not active.ending]

    def _accept(self, spec: JobSpec) -> Job:
        """The record of a new job. Raises TxWorkerError: the worker takes none, or not this one."""
        self._check_accepting()
        ceiling = self._policy.max_running
        if ceiling and len(self.running_ids()) >= ceiling:
            raise OutOfResources(f"jobs.max_running: {ceiling} may run at once, and do", "MAX_RUNNING")
        settings = self._policy.settings(spec)
        self._number += 1
        return Job(
            self._world.new_id(),
            spec,
            self._world.now(),
            self._number,
            revision=self._next_revision(),
            settings=settings,
        )

    def _check_accepting(self) -> None:
        """Any thread."""
        if self._refusing:
            raise WorkerStopping

    def _launched(self, active: ActiveJob) -> None:
        job, pid = active.job, active.running.pid
        self._active[job.id] = active
        self._learn(active, Started(active.running.started_at, pid, self._world.ticks()))
        self._observer.started(self._world.elapsed() + active.ahead - job.created_at)
        text = "Job {job_id} started as pid {pid}: {argv}"
        self._log.info(text, job_id=job.id, pid=pid, argv=shown_words(job.spec.shown_argv))
        if self._stopping:  # it began during the launch
            self._stop(job.id, None, EndReason.WORKER_STOPPING)

    def _drop(self, job: Job) -> None:
        self._store.drop(job).addErrback(self._not_written, job)

    def _stop(self, job_id: str, grace_seconds: float | None, reason: EndReason) -> Job:
        active = self._active.get(job_id)
        if active is None:
            return self.catalog.get(job_id)
        if not active.ending:
            grace = self._policy.grace_seconds if grace_seconds is None else grace_seconds
            self._log_stop(active, grace, reason)
            self._learn(active, EndRequested(reason))
            active.running.stop(grace, active.job.end_reason or reason)
        return active.now

    def _log_stop(self, active: ActiveJob, grace_seconds: float, reason: EndReason) -> None:
        """Log the first stop of a job, and later ones only if they more than halve the grace period."""
        if grace_seconds < active.logged_grace / 2:
            active.logged_grace = grace_seconds
            text = "Job {job_id} is being stopped, {grace} s of grace ({reason})."
            self._log.info(text, job_id=active.job.id, grace=grace_seconds, reason=reason.value)

    def _learn(self, active: ActiveJob, fact: Fact) -> None:
        """Apply the fact at once, write the record, then publish it."""
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

    def _end_blocked(self, active: ActiveJob, problem: str) -> None:
        if problem and problem != active.job.end_problem:
            self._log.error("Job {job_id} does not end: {problem}.", job_id=active.job.id, problem=problem)
            self._learn(active, EndBlocked(problem))

    def _ended(self, active: ActiveJob, exit: Exit) -> None:
        """An end is published only after it is written, because a published end must never be taken back."""
        output = active.output
        active.ending = True
        output.finish()
        elapsed = self._world.elapsed()
        at = active.exited_before or elapsed + active.ahead
        fact = Exited(at, exit, output.size, output.truncated, elapsed, active.stderr_bytes)
        job = after(active.job, fact, self._next_revision())
        self._store.save(job).addCallback(lambda _: self._finish(active, job)).addErrback(self._not_written, job)

    def _finish(self, active: ActiveJob, job: Job) -> None:
        active.job = job
        del self._active[job.id]
        self._submissions.forget(job)
        active.output.close()
        active.running.release()
        self._observer.ended(job, active.output.size - active.output_before)
        self._log.info(
            "Job {job_id} is done: {state}{why}, {output_bytes} bytes of output in {seconds} s{leftovers}.",
            job_id=job.id,
            seconds=round(job.seconds, 3),
            exit_code=job.exit_code,  # for formats that have all fields
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
