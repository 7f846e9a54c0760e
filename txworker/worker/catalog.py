"""
The jobs there are: those that are not done, as they stand now, and those that are, from the store. Changes nothing.

Methods are for any thread, but for those that give a Deferred: these are the reactor thread's.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby, islice

from twisted.internet.defer import Deferred, succeed

from txworker.base.directory import NotOurFile
from txworker.jobs import Job, JobSpec, Loss, Query
from txworker.jobs.errors import JobRemoved, NoSuchJob, OutOfResources, OutputGone, RequestReused
from txworker.ports import Check, Jobs, Records, Shelf
from txworker.worker.active_job import ActiveJob
from txworker.worker.change_feed import ChangeFeed
from txworker.worker.recovery import utc
from txworker.worker.viewers import Viewers


class Catalog:
    """active: the jobs that are not done, by id; the worker's, who alone changes it. changes: of all jobs."""

    def __init__(
        self,
        active: Mapping[str, ActiveJob],
        records: Records,
        shelf: Shelf,
        changes: ChangeFeed,
        keeps_leftovers: bool = False,
    ) -> None:
        self._keeps_leftovers = keeps_leftovers
        self._active = active
        self._records = records
        self._shelf = shelf
        self.changes = changes
        self.viewers = Viewers()

    def get(self, job_id: str) -> Job:
        """
        The job as it stands now.

        Raises:
            NoSuchJob: there is none with that id, or no more (JobRemoved).
        """
        active = self._active.get(job_id)
        if active is not None:
            return self._shown(active)
        job = self._records.get(job_id)
        if job is None:
            at = self._records.removed_at(job_id)
            raise NoSuchJob(job_id) if at is None else JobRemoved(job_id, utc(at))
        return job

    def in_full(self, job: Job) -> Job:
        """That job with all of its order, where the long parts of that are not held."""
        order = None if job.spec.cut is None else self._records.full_spec(job.id)
        return job if order is None else replace(job, spec=order)

    def find(self, name: str) -> Job:
        """
        The job with that id, or else the newest that was started with that path.

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

    def page(self, query: Query, before: int, most: int, check: Check = None) -> Jobs:
        """
        At most so many of the jobs that are meant, with numbers below `before`, newest first: each is read when it is
        asked for, to be done with soon. check() is called meanwhile, and may raise.
        """
        active = list(self._active.values())
        running = [self._shown(one) for one in active]  # first: what ends meanwhile is seen below
        meant = [job for job in running if job.number < before and query.matches(job)]
        meant.sort(key=_newest_first)
        finished = self._records.finished_page(query, before, most, check)
        both = groupby(heapq.merge(meant, finished, key=_newest_first), _newest_first)
        yield from islice((list(records)[-1] for _, records in both), most)

    def ended_between(self, beyond: int, upto: int, most: int, labels: Mapping[str, str], check: Check = None) -> Jobs:
        """What `changes` leave to the store: at most so many with these labels, lowest revision first."""
        return self._records.finished_between(beyond, upto, most, labels, check)

    def open_output(self, job_id: str, stderr: bool) -> int:
        """
        A descriptor to read by what a job prints.

        Raises:
            NoSuchJob: it was removed meanwhile.
            OutputGone: the file is not there, or what is there is another.
            OutOfResources: it cannot be opened.
        """
        try:
            fd = self._shelf.open(job_id, stderr)
        except FileNotFoundError as error:
            self.get(job_id)  # says so when the job was removed meanwhile
            raise OutputGone(job_id, "deleted") from error
        except NotOurFile as error:
            raise OutputGone(job_id, "replaced") from error
        except OSError as error:
            raise OutOfResources(f"the output of job {job_id!r} cannot be read: {error}") from error
        active = self._active.get(job_id)
        if active is not None and not active.output.owns(os.fstat(fd), stderr):
            os.close(fd)
            raise OutputGone(job_id, "replaced")
        return fd

    def losses(self, job_id: str, stderr: bool) -> tuple[Loss, ...]:
        """What others have taken away of it by now."""
        active = self._active.get(job_id)
        return self._shelf.losses(job_id, stderr) if active is None else active.output.losses(stderr)

    def output_holds(self, job_id: str, fd: int, stderr: bool) -> bool:
        """What was read just now by that descriptor was there, or losses() says what was not."""
        active = self._active.get(job_id)
        return active is None or active.output.is_intact(fd, stderr)

    def output_bytes(self, job: Job, stderr: bool) -> int | None:
        """How many bytes of a job that is done are in that file, if it is unchanged; None: not known."""
        others = self._shelf.bytes_of(job.id, not stderr) if job.spec.separate_stderr else 0
        return None if others is None else job.output_bytes - others

    def may_print_on(self, job: Job) -> bool:
        """What a job left behind is left alone, and may print though the job is done."""
        return job.spec.leftovers == "keep" if job.spec.leftovers else self._keeps_leftovers

    def recorded(self, job_id: str, stderr: bool) -> int:
        """Bytes that are in that file by now, if the job is not done; else 0."""
        active = self._active.get(job_id)
        return 0 if active is None else active.output.recorded(stderr)

    def more_output(self, job_id: str, beyond: int, stderr: bool) -> Deferred[None]:
        """Fires when there is output at or after offset `beyond`, or the job is done. Cancelling leaves alone."""
        active = self._active.get(job_id)
        return succeed(None) if active is None else active.output.more(beyond, stderr)

    def submitted(self, spec: JobSpec) -> Job | None:
        """
        The job that this order's request id has brought before, if there is one by now.

        Raises:
            RequestReused: it was another order.
        """
        before = self._records.with_request_id(spec.request_id) if spec.request_id else None
        job = None if before is None else self.lasting(before.id)
        if job is not None:
            check_same(self.in_full(job), spec)
        return job

    def lasting(self, job_id: str) -> Job | None:
        """That job, unless it is only being started, or could not be and is about to be forgotten."""
        active = self._active.get(job_id)
        job = self._records.get(job_id) if active is None else active.now
        return job if job is not None and (job.done or active is not None) else None

    def _shown(self, active: ActiveJob) -> Job:
        """An end is known as soon as it is written, for whoever reads the store (a list) knows it from then on."""
        written = self._records.get(active.job.id) if active.ending else None
        return written if written is not None and written.done else active.now


def _newest_first(job: Job) -> int:
    return -job.number


def check_same(before: Job, spec: JobSpec) -> None:
    """
    That order is the one that its request id has brought before: a job in_full(). If no more than its brief order could
    be saved of a damaged store, that is what is compared.

    Raises:
        RequestReused: it is another.
    """
    difference = before.spec.difference(spec if before.spec.cut is None else spec.shortened())
    if difference:
        raise RequestReused(spec.request_id, before.id, difference)
