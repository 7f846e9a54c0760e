"""
The worker accepts or refuses requests, and decides what a fact about a job leads to; job_records.py changes the job.

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
    Job,
    JobSpec,
    Lost,
    Started,
)
from txworker.jobs.errors import OutOfResources, TxWorkerError, WorkerStopping, shown_words
from txworker.ports import NO_OBSERVER, Launcher, Observer, OutputDirectory, Store, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.catalog import Catalog
from txworker.worker.inherited_jobs import InheritedJobs
from txworker.worker.job_launcher import JobLauncher
from txworker.worker.job_records import JobRecords
from txworker.worker.load import Load
from txworker.worker.policy import Policy
from txworker.worker.running_jobs import RunningJobs
from txworker.worker.submissions import Decisions, Submissions
from txworker.worker.takeover import RunsOn, Takeover, joined


class Worker:
    """
    Call take_over() before any other method.

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
        self._policy = policy
        self._world = world
        self._observer = observer
        self._records = JobRecords(store, world)
        self._active: dict[str, ActiveJob] = {}
        self._settled = Waiters()
        self._refusing = self._stopping = False
        self.catalog = Catalog(self._active, store, outputs, self._records.feed, policy.keeps_leftovers)
        decisions = Decisions(self._accept, self._check_accepting, self._launched, self._records.drop)
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
        inherited = InheritedJobs(
            self._active,
            self._job_launcher,
            self._outputs,
            self._records,
            self._submissions,
            self._world,
            self._observer,
            self._policy.grace_seconds,
        )
        return inherited.settle(takeover, end, now_for)

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
        self._log.warn("Job {job_id} is {text}.", job_id=active.job.id, text=text)
        self._records.end(active.job, fact, lambda job: self._finish(active, job))

    def leave_all(self) -> Deferred[int]:
        """
        Refuse new jobs and leave the running ones to the next worker. Fires with their number, once none of their
        output is being copied.
        """
        self.refuse()
        active = [one for one in self._active.values() if not one.ending]
        left = gatherResults([one.running.leave() for one in active])
        return left.addCallback(lambda _: self._close_outputs(active))

    def _close_outputs(self, active: Collection[ActiveJob]) -> int:
        for one in active:
            one.left = True
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
                self._records.learn(
                    active, EndBlocked(f"process {pid} still ran when the worker stopped, though it was killed")
                )

    def close(self) -> None:
        """Tell the watchers that no job will change any more."""
        self._records.feed.close()

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
        return self._records.new(spec, self._policy.settings(spec))

    def _check_accepting(self) -> None:
        """Any thread."""
        if self._refusing:
            raise WorkerStopping

    def _launched(self, active: ActiveJob) -> None:
        job, pid = active.job, active.running.pid
        self._active[job.id] = active
        self._records.learn(active, Started(active.running.started_at, pid, self._world.ticks()))
        self._observer.started(self._world.elapsed() + active.ahead - job.created_at)
        text = "Job {job_id} started as pid {pid}: {argv}"
        self._log.info(text, job_id=job.id, pid=pid, argv=shown_words(job.spec.shown_argv))
        if self._stopping:  # it began during the launch
            self._stop(job.id, None, EndReason.WORKER_STOPPING)

    def _stop(self, job_id: str, grace_seconds: float | None, reason: EndReason) -> Job:
        active = self._active.get(job_id)
        if active is None:
            return self.catalog.get(job_id)
        if not active.ending:
            grace = self._policy.grace_seconds if grace_seconds is None else grace_seconds
            self._log_stop(active, grace, reason)
            self._records.learn(active, EndRequested(reason))
            active.running.stop(grace, active.job.end_reason or reason)
        return active.now

    def _log_stop(self, active: ActiveJob, grace_seconds: float, reason: EndReason) -> None:
        """Log the first stop of a job, and later ones only if they more than halve the grace period."""
        if grace_seconds < active.logged_grace / 2:
            active.logged_grace = grace_seconds
            text = "Job {job_id} is being stopped, {grace} s of grace ({reason})."
            self._log.info(text, job_id=active.job.id, grace=grace_seconds, reason=reason.value)

    def _overdue(self, active: ActiveJob, reason: EndReason) -> None:
        self._log.info("Job {job_id} is being ended ({reason}).", job_id=active.job.id, reason=reason.value)
        self._records.learn(active, EndRequested(reason))

    def _end_blocked(self, active: ActiveJob, problem: str) -> None:
        if problem and problem != active.job.end_problem:
            self._log.error("Job {job_id} does not end: {problem}.", job_id=active.job.id, problem=problem)
            self._records.learn(active, EndBlocked(problem))

    def _ended(self, active: ActiveJob, exit: Exit) -> None:
        output = active.output
        active.ending = True
        output.finish()
        elapsed = self._world.elapsed()
        at = active.exited_before or elapsed + active.ahead
        fact = Exited(at, exit, output.size, output.truncated, elapsed, active.stderr_bytes)
        self._records.end(active.job, fact, lambda job: self._finish(active, job))

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
        self._records.feed.publish(job)
        self._settled.wake()
