"""Makes a recorded job active: creates its output, then its process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from txworker.jobs import Job, Limits
from txworker.jobs.errors import OutOfResources
from txworker.jobs.held_process import HeldProcess
from txworker.ports import Launcher, Output, OutputDirectory
from txworker.worker.active_job import ActiveJob, EndBlocked, Ended, Overdue


@dataclass(frozen=True)
class JobLauncher:
    """overdue(), end_blocked() and ended() receive the events of every ActiveJob made here. Reactor thread."""

    launcher: Launcher
    outputs: OutputDirectory
    overdue: Overdue
    end_blocked: EndBlocked
    ended: Ended

    async def launch(self, job: Job, limits: Limits, check: Callable[[], None], now: Callable[[], float]) -> ActiveJob:
        """
        Start the job's process under these limits, which add defaults and ceilings to the spec's.

        check() is called immediately before the process is created, perhaps in another thread, and may raise.
        now() is the time by the job's clock, in seconds since the epoch.

        Raises:
            TxWorkerError: the process could not be started; no process and no output is left.
        """
        output = self._created(job, limits.max_output_bytes)
        active = ActiveJob(job, output, self.overdue, self.end_blocked, self.ended)
        try:
            spec = job.spec if limits == job.spec.limits else job.spec.with_limits(limits)
            active.running = await self.launcher.launch(job.id, spec, output, active, check, now)
        except BaseException:
            output.discard()
            raise
        shortened = job.spec.shortened()
        active.job = job if shortened is job.spec else job.changed(spec=shortened)
        return active

    def take_over(self, job: Job, held: HeldProcess) -> ActiveJob:
        """
        Take over the job's process, which an earlier worker started.

        Raises:
            OSError: its pipes cannot be watched, or its output cannot be read; the process and its pipes are as before.
        """
        output = self.outputs.resume(held, job.spec.separate_stderr)
        active = ActiveJob(job, output, self.overdue, self.end_blocked, self.ended)
        try:
            active.running = self.launcher.take_over(job.id, job.spec, output, active, held)
        except BaseException:
            output.close()
            raise
        active.exited_before = held.exited_at
        return active

    def _created(self, job: Job, max_bytes: int) -> Output:
        try:
            return self.outputs.create(job.id, job.spec.separate_stderr, max_bytes)
        except OSError as error:
            what = f"jobs.output_directory: no output file can be made: {error.strerror or error}"
            raise OutOfResources(what) from error
