"""From an order that is written down to a job that runs: its output is made, then its process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from txworker.jobs import Job, Limits
from txworker.jobs.errors import OutOfResources
from txworker.jobs.held_process import HeldProcess
from txworker.ports import Launcher, Output, Shelf
from txworker.worker.active_job import ActiveJob, Ended, Hindered, Overdue


@dataclass(frozen=True)
class JobLauncher:
    """overdue(), hindered() and ended() are what every ActiveJob here tells of its child. Reactor thread."""

    launcher: Launcher
    shelf: Shelf
    overdue: Overdue
    hindered: Hindered
    ended: Ended

    async def launch(self, job: Job, limits: Limits, check: Callable[[], None]) -> ActiveJob:
        """
        The job with its process, which runs under these limits, not only under those that were ordered.

        check() is called last thing before the process is made, perhaps in another thread.

        Raises:
            TxWorkerError: it could not be started; no process and no output is left. Or whatever check() raises.
        """
        output = self._created(job, limits.max_output_bytes)
        active = ActiveJob(job, output, self.overdue, self.hindered, self.ended)
        try:
            spec = job.spec if limits == job.spec.limits else replace(job.spec, limits=limits)
            active.running = await self.launcher.launch(job.id, spec, active, check)
        except BaseException:
            output.discard()
            raise
        brief = job.spec.shortened()
        active.job = job if brief is job.spec else replace(job, spec=brief)
        return active

    def take_over(self, job: Job, held: HeldProcess) -> ActiveJob:
        """
        The job with the process that an earlier worker has started.

        Raises:
            OSError: its pipes cannot be watched.
        """
        output = self.shelf.resume(job.id, job.spec.separate_stderr, held.max_output, held.lost, held.discarded)
        active = ActiveJob(job, output, self.overdue, self.hindered, self.ended)
        active.running = self.launcher.take_over(job.id, job.spec, active, held)
        active.exited_before = held.exited_at
        return active

    def _created(self, job: Job, max_bytes: int) -> Output:
        try:
            return self.shelf.create(job.id, job.spec.separate_stderr, max_bytes)
        except OSError as error:
            what = f"jobs.output_directory: no output file can be made: {error.strerror or error}"
            raise OutOfResources(what) from error
