"""
Reads jobs and their output: unfinished jobs from memory, finished jobs from the store. Changes nothing.

Any thread may call the methods, except those that return a Deferred: these are for the reactor thread.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Mapping
from itertools import groupby, islice

from twisted.internet.defer import Deferred, succeed

from txworker.base.directory import NotOurFile
from txworker.jobs import Job, JobSpec, Loss, Query
from txworker.jobs.errors import JobRemoved, NoSuchJob, OutOfResources, OutputGone, RequestReused, WorkerStopping
from txworker.jobs.live_usage import RunningProcess
from txworker.ports import Check, JobGenerator, OutputDirectory, Records
from txworker.worker.active_job import ActiveJob
from txworker.worker.change_feed import ChangeFeed
from txworker.worker.recovery import utc
from txworker.worker.viewers import Viewers


class Catalog:
    """active: the unfinished jobs by id; only the worker changes this mapping. changes: the feed for watchers."""

    def __init__(
        self,
        active: Mapping[str, ActiveJob],
        records: Records,
        outputs: OutputDirectory,
        changes: ChangeFeed,
        keeps_leftovers: bool = False,
    ) -> None:
        self._keeps_leftovers = keeps_leftovers
        self._active = active
        self._records = records
        self._outputs = outputs
        self.changes = changes
        self.viewers = Viewers()

    def get(self, job_id: str) -> Job:
        """
        The job's record at this moment.

        Raises:
            NoSuchJob: there is no job with that id.
            JobRemoved: retention has removed it.
        """
        active = self._active.get(job_id)
        if active is not None:
            return self._shown(active)
        job = self._records.get(job_id)
        if job is None:
            at = self._records.removed_at(job_id)
            raise NoSuchJob(job_id) if at is None else JobRemoved(job_id, utc(at))
        return job

    def with_full_spec(self, job: Job) -> Job:
        """The job with its whole spec: records in memory have long specs shortened."""
        spec = None if job.spec.cut is None else self._records.full_spec(job.id)
        return job if spec is None else job.changed(spec=spec)

    def running(self, job_ids: Collection[str]) -> list[RunningProcess]:
        """
        The running processes of these jobs; with no ids, of all jobs.

        Raises:
            NoSuchJob: there is no job with one of these ids.
        """
        active = [] if job_ids else list(self._active.values())
        for job_id in dict.fromkeys(job_ids):
            one = self._active.get(job_id)
            if one is None:
                self.get(job_id)  # raises if there is no such job
            else:
                active.append(one)
        return [RunningProcess(one.job.id, one.running.pid, one.running.cgroup) for one in active if not one.ending]

    def find(self, name: str) -> Job:
        """
        The job with that id; if there is none, the newest job that was started with that path.

        Raises:
            NoSuchJob: there is neither.
        """
        try:
            return self.get(name)
        except NoSuchJob:
            jobs = [active.now for active in list(self._active.values()) if name and active.job.spec.has_path(name)]
            finished = self._records.newest_with_path(name) if name else None
            if finished is not None:
                jobs.append(finished)
            if not jobs:
                raise
            return max(jobs, key=lambda job: job.number)

    def page(self, query: Query, before: int, most: int, check: Check = None) -> JobGenerator:
        """
        At most `most` of the jobs that match, with numbers below `before`, newest first. Each is read from the store
        when the iterator reaches it, so use the iterator up soon. check() is called meanwhile, and may raise.
        """
        active = list(self._active.values())
        unfinished = [
            self._shown(one) for one in active
        ]  # read first: a job that ends meanwhile is in the store's page
        matching = [job for job in unfinished if job.number < before and query.matches(job)]
        matching.sort(key=_newest_first)
        finished = self._records.finished_page(query, before, most, check)
        both = groupby(heapq.merge(matching, finished, key=_newest_first), _newest_first)
        yield from islice((list(records)[-1] for _, records in both), most)

    def ended_between(
        self, beyond: int, upto: int, most: int, labels: Mapping[str, str], check: Check = None
    ) -> JobGenerator:
        """Ended jobs that `changes` no longer holds: at most `most` with these labels, lowest revision first."""
        return self._records.finished_between(beyond, upto, most, labels, check)

    def open_output(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor that reads the job's output; the caller closes it.

        Raises:
            NoSuchJob: the job was removed meanwhile.
            OutputGone: the file was deleted, or replaced by another.
            OutOfResources: the file cannot be opened.
        """
        try:
            fd = self._outputs.open(job_id, stderr)
        except FileNotFoundError as error:
            self.get(job_id)  # raises if the job was removed meanwhile
            raise self._gone(job_id, "deleted") from error
        except NotOurFile as error:
            raise self._gone(job_id, "replaced") from error
        except OSError as error:
            raise OutOfResources(f"the output of job {job_id!r} cannot be read: {error}") from error
        active = self._active.get(job_id)
        if active is not None and not active.output.owns(os.fstat(fd), stderr):
            os.close(fd)
            raise self._gone(job_id, "replaced")
        return fd

    def _gone(self, job_id: str, what: str) -> OutputGone:
        """The error. What an unfinished job prints next is not lost, too: it goes to a new file."""
        active = self._active.get(job_id)
        if active is not None:
            active.output.check()
        return OutputGone(job_id, what)

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """What other programs have removed from the output so far."""
        active = self._active.get(job_id)
        return self._outputs.losses(job_id, stderr) if active is None else active.output.losses(stderr)

    def output_is_proven(self, job_id: str, fd: int, stderr: bool) -> bool:
        """Whether what was just read from that descriptor is the job's output, except for what losses() lists."""
        active = self._active.get(job_id)
        return active is None or active.output.is_intact(fd, stderr)

    def output_bytes(self, job: Job, stderr: bool) -> int | None:
        """How many bytes a finished job wrote to stdout, or to stderr; None: unknown."""
        if not job.spec.separate_stderr:
            return job.output_bytes
        if job.stderr_bytes is not None:
            return job.stderr_bytes if stderr else job.output_bytes - job.stderr_bytes
        in_other_file = self._outputs.bytes_of(job.id, not stderr)  # an older version has recorded the sum only
        return None if in_other_file is None else job.output_bytes - in_other_file

    def with_output(self, job: Job) -> Job:
        """A record, of an unfinished job with the output written so far: facts are noted without it. Any thread."""
        active = None if job.done else self._active.get(job.id)
        return job if active is None else active.with_output(job)

    def may_write_after_end(self, job: Job) -> bool:
        """Whether the job's leftovers stay alive, and so may write output after its end."""
        return job.spec.leftovers == "keep" if job.spec.leftovers else self._keeps_leftovers

    def recorded(self, job_id: str, stderr: bool) -> int:
        """How many bytes an unfinished job has written to that file so far; 0 for a finished job."""
        active = self._active.get(job_id)
        return 0 if active is None else active.output.recorded(stderr)

    def more_output(self, job_id: str, beyond: int, stderr: bool) -> Deferred[None]:
        """
        Fires when there is output at or after offset `beyond` or the job is done. Cancelling removes this waiter.

        Raises (through the Deferred):
            WorkerStopping: the job is left to the next worker.
        """
        active = self._active.get(job_id)
        return succeed(None) if active is None else active.output.more(beyond, stderr).addCallback(_check_left, active)

    def with_request_id(self, request_id: str) -> Job | None:
        """The job of the request with that id, as it was recorded last; None: there is none, or the id is empty."""
        return self._records.with_request_id(request_id) if request_id else None

    def submitted(self, spec: JobSpec) -> Job | None:
        """
        The job that an earlier request with the same request id started; None: there is none yet.

        Raises:
            RequestReused: that request had a different spec.
        """
        before = self.with_request_id(spec.request_id)
        job = None if before is None else self.launched(before.id)
        if job is not None:
            check_same(self.with_full_spec(job), spec)
        return job

    def launched(self, job_id: str) -> Job | None:
        """The job; None while it is being launched, and after a failed launch until its record is dropped."""
        active = self._active.get(job_id)
        job = self._records.get(job_id) if active is None else active.now
        return job if job is not None and (job.done or active is not None) else None

    def _shown(self, active: ActiveJob) -> Job:
        """An end is shown once the store has it, as its other readers see it from then on."""
        written = self._records.get(active.job.id) if active.ending else None
        return written if written is not None and written.done else active.now


def _check_left(_: None, active: ActiveJob) -> None:
    if active.left:
        raise WorkerStopping


def _newest_first(job: Job) -> int:
    return -job.number


def check_same(before: Job, spec: JobSpec) -> None:
    """
    Compare a spec with that of the job, from with_full_spec(), that has the same request id. If only the shortened spec
    could be salvaged from a damaged store, shortened specs are compared.

    Raises:
        RequestReused: they differ.
    """
    difference = before.spec.difference(spec if before.spec.cut is None else spec.shortened())
    if difference:
        raise RequestReused(spec.request_id, before.id, difference)
