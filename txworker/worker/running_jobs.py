"""What clients ask of running jobs that changes no record: signals, stdin, sizes of terminals, renewals of leases."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ProcessExitedAlready

from txworker.jobs import JobState
from txworker.jobs.errors import FeedInProgress, JobNotRunning, NoTerminal, NotFed, NotPermitted
from txworker.worker.active_job import ActiveJob
from txworker.worker.catalog import Catalog
from txworker.worker.feeder import Feeder


class RunningJobs:
    """
    active: the launched jobs by id, starting: those that are being launched; only the worker changes these mappings.

    Nothing here is written to the store. Reactor thread.
    """

    def __init__(self, active: Mapping[str, ActiveJob], starting: Collection[str], catalog: Catalog) -> None:
        self._active = active
        self._starting = starting
        self._catalog = catalog
        self._fed: set[str] = set()

    def signal(self, job_id: str, number: int) -> Deferred[None]:
        """
        Send a signal to a job's process group. Whatever the job does with it, the record stays as it is. Fires at once.

        Raises (through the Deferred):
            NoSuchJob: there is no job with that id.
            JobNotRunning: it is done, or not started yet.
            NotPermitted: the worker may not signal any of its processes.
        """
        return maybeDeferred(self._signal, job_id, number)

    def resize(self, job_id: str, rows: int, columns: int) -> Deferred[None]:
        """
        Set the size of a job's terminal; its foreground process group gets SIGWINCH. Fires at once.

        Raises (through the Deferred):
            NoSuchJob: there is no job with that id.
            NoTerminal: it was started without one.
            JobNotRunning: it is done, or not started yet.
        """
        return maybeDeferred(self._resize, job_id, rows, columns)

    def feeder(self, job_id: str) -> Deferred[Feeder]:
        """
        Begin to feed a job; call close() of the result in any case. Fires at once.

        Raises (through the Deferred):
            NoSuchJob: there is no job with that id.
            NotFed: it was started without feed.
            JobNotRunning: it is done, or not started yet.
            FeedInProgress: another Feeder of it is open.
        """
        return maybeDeferred(self._feeder, job_id)

    def renew_leases(self, job_ids: Collection[str]) -> Deferred[list[str]]:
        """
        Count the leases of these jobs from now. Fires at once, with the ids of those that run no longer: they are done
        or unknown, each once. A job without a lease is left as it is.
        """
        gone = []
        for job_id in dict.fromkeys(job_ids):
            active = self._active.get(job_id)
            if active is not None and not active.ending:
                active.running.renew_lease()
            elif job_id not in self._starting:
                gone.append(job_id)
        return succeed(gone)

    def _signal(self, job_id: str, number: int) -> None:
        active = self._get(job_id, "no process to signal")
        try:
            active.running.signal(number)
        except ProcessExitedAlready as error:
            raise JobNotRunning(job_id, "has exited: it has no process group to signal") from error
        except PermissionError as error:
            raise NotPermitted("signal", str(number), "the worker may not signal any process of the job") from error

    def _resize(self, job_id: str, rows: int, columns: int) -> None:
        if not self._catalog.get(job_id).spec.tty:
            raise NoTerminal(job_id)
        active = self._get(job_id, "no terminal to resize")
        try:
            active.running.resize(rows, columns)
        except ProcessExitedAlready as error:
            raise JobNotRunning(job_id, "has exited: it has no terminal to resize") from error

    def _feeder(self, job_id: str) -> Feeder:
        if not self._catalog.get(job_id).spec.feed:
            raise NotFed(job_id)
        stdin = self._get(job_id, "no stdin to feed").running.stdin
        if stdin is None:  # the shim of an older version has it
            raise NotFed(job_id)
        if job_id in self._fed:
            raise FeedInProgress(job_id)
        self._fed.add(job_id)
        return Feeder(stdin, lambda: self._fed.discard(job_id))

    def _get(self, job_id: str, without: str) -> ActiveJob:
        active = self._active.get(job_id)
        if active is None and self._catalog.get(job_id).state is JobState.PENDING:
            raise JobNotRunning(job_id, f"is not started yet: it has {without}")
        if active is None or active.ending:
            raise JobNotRunning(job_id, f"is done: it has {without}")
        return active
