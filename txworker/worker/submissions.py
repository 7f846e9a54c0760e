"""Makes one job of each request: once for each request id, written down before its process is launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from txworker.base.waiting import Waiters
from txworker.jobs import Job, JobSpec
from txworker.jobs.errors import CallerGone
from txworker.ports import Store, World
from txworker.worker.active_job import ActiveJob
from txworker.worker.catalog import Catalog, check_same
from txworker.worker.job_launcher import JobLauncher


@dataclass(frozen=True)
class Decisions:
    """
    What the worker decides about a submission.

    accept(spec) makes the job's record, or raises. check() raises when no job may be launched any more; it is called
    in any thread. launched(active) is told of the process. drop(job) takes a record back after a failed launch.
    """

    accept: Callable[[JobSpec], Job]
    check: Callable[[], None]
    launched: Callable[[ActiveJob], None]
    drop: Callable[[Job], None]


class Submissions:
    """
    starting has the jobs that are being recorded or launched (by id, the later ActiveJob.ahead); _requests these and
    the unfinished ones, by request id. settled is woken when a launch is over. Reactor thread.
    """

    def __init__(
        self,
        launcher: JobLauncher,
        store: Store,
        world: World,
        catalog: Catalog,
        settled: Waiters,
        decisions: Decisions,
    ) -> None:
        self.starting: dict[str, float] = {}
        self._requests: dict[str, Job] = {}
        self._launcher = launcher
        self._store = store
        self._world = world
        self._catalog = catalog
        self._settled = settled
        self._decisions = decisions

    def remember(self, job: Job) -> None:
        """From now on a request with this job's request id gets this job."""
        if job.spec.request_id:
            self._requests[job.spec.request_id] = job

    def forget(self, job: Job) -> None:
        """The job is finished, or was dropped: from now on the store is asked for its request id."""
        self._requests.pop(job.spec.request_id, None)

    async def submit(self, spec: JobSpec, wanted: Callable[[], bool]) -> Job:
        """The job of that request, once its process runs. As Worker.submit()."""
        while before := self._requests.get(spec.request_id):
            check_same(self._catalog.with_full_spec(before), spec)
            await self._launch_ended(before.id, wanted)
            if before.id in self.starting:
                raise CallerGone
            job = self._catalog.launched(before.id)
            if job is not None:
                return job  # otherwise its launch failed: this request tries again and gets its own error
        job = self._decisions.accept(spec)
        kept = await self._record_and_launch(job, wanted)
        if kept is not job:
            check_same(self._catalog.with_full_spec(kept), spec)
        return self._catalog.launched(kept.id) or self._catalog.get(kept.id)

    def _launch_ended(self, job_id: str, wanted: Callable[[], bool]) -> Deferred[None]:
        """Fires also when wanted() is false: a launch may hang, and a call that waits for it holds a whole spec."""
        return self._settled.until(lambda: job_id not in self.starting or not wanted())

    async def _record_and_launch(self, job: Job, wanted: Callable[[], bool]) -> Job:
        """Write the job to the store, then launch it; the job, or the earlier one that has the same request id."""
        self.starting[job.id] = job.created_at - self._world.elapsed()
        self.remember(job)
        try:
            kept = await self._store.add(job)
            if kept.id == job.id:
                await self._launch_or_drop(job, wanted)
                return job
            self.forget(job)
            return kept
        except BaseException:
            self.forget(job)
            raise
        finally:
            del self.starting[job.id]
            self._settled.wake()

    async def _launch_or_drop(self, job: Job, wanted: Callable[[], bool]) -> None:
        def check() -> None:
            """Called after all waiting, immediately before the process is created; perhaps in another thread."""
            self._decisions.check()
            if not wanted():
                raise CallerGone

        ahead = self.starting[job.id]
        try:
            active = await self._launcher.launch(job, job.settings.limits, check, lambda: self._world.elapsed() + ahead)
        except BaseException:
            self._decisions.drop(job)
            raise
        active.ahead = ahead  # from here on the job runs: whatever fails, its record stays
        self.remember(active.job)
        self._decisions.launched(active)
