"""Applies the decision of takeover.py: an earlier worker's unfinished jobs run on, are lost, or are dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from txworker.base.logs import Logger
from txworker.jobs import EndReason, EndRequested, Job, JobState, Lost, Started, TakenOver
from txworker.jobs.errors import OutOfResources
from txworker.jobs.held_process import HeldProcess
from txworker.ports import Observer, OutputDirectory, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.job_launcher import JobLauncher
from txworker.worker.job_records import JobRecords
from txworker.worker.submissions import Submissions
from txworker.worker.takeover import SCARCE, LostJob, RunsOn, Takeover, untaken


@dataclass(frozen=True)
class InheritedJobs:
    """The jobs that run on become active. Used once, before the reactor runs."""

    active: dict[str, ActiveJob]
    launcher: JobLauncher
    outputs: OutputDirectory
    records: JobRecords
    submissions: Submissions
    world: World
    observer: Observer
    grace_seconds: float

    _log = Logger()

    def settle(
        self, takeover: Takeover, end: Callable[[RunsOn], str], now_for: Callable[[Job], float] | None
    ) -> tuple[int, int]:
        """As Worker.take_over()."""
        now_for = now_for or (lambda job: self.world.now())
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
        self.records.settle([active.job for active in self.active.values()])
        return len(taken), len(lost)

    def _take_over(self, job: Job, held: HeldProcess, now: float) -> ActiveJob:
        """Make the job active; its process is not touched yet. Raises OSError: it cannot be; nothing has changed."""
        active = self.active[job.id] = self.launcher.take_over(job, held)
        active.ahead = now - self.world.elapsed()
        self.records.learn(active, TakenOver())
        self.submissions.remember(active.job)
        if job.state is JobState.PENDING:  # the earlier worker ended after the launch and before writing it down
            self.records.learn(active, Started(held.started_at, held.pid, held.ticks))
        self.observer.taken_over()
        if held.stopping:  # by the shim, or by a worker that could no longer write it down
            self.records.learn(active, EndRequested(held.reason or EndReason.REQUESTED))
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
            active.running.stop(self.grace_seconds, active.job.end_reason or EndReason.REQUESTED)
        if held.exit is not None:
            active.running.exited(held.exit)

    def _lose(self, lost: LostJob, now: float) -> None:
        job, text = lost.job, lost.text
        separate = job.spec.separate_stderr
        damaged = lost.incomplete or self.outputs.is_damaged(job.id, separate, begun=job.state is not JobState.PENDING)
        output_bytes = self.outputs.recover(job.id, separate)
        stderr_bytes = self.outputs.bytes_of(job.id, True) if separate else None
        fact = Lost(now, text, output_bytes, damaged, self.world.elapsed(), stderr_bytes)
        self.observer.ended(self.records.end(job, fact), 0)
        self._log.warn("Job {job_id} is {text}.", job_id=job.id, text=text)

    def _forget_unstarted(self, job: Job) -> None:
        """Its output goes first: retention finds none without a record."""
        self._log.info("Job {job_id} was never started; its record and its output are dropped.", job_id=job.id)
        try:
            self.outputs.remove([job.id])
        except OSError as error:
            self._log.warn("Output of job {job_id} cannot be removed: {error}.", job_id=job.id, error=error)
        self.records.drop(job)
