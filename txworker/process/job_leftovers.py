"""What one job leaves behind, as its JobProcess reports it to the scan (leftovers/)."""

from __future__ import annotations

from txworker.leftovers.job_processes import JobProcesses, LeftoverScan
from txworker.linux.cgroup import JobCgroup


class JobLeftovers:
    """One job's, from before its launch on. keep: they may run on. Reactor thread."""

    def __init__(self, job_id: str, scan: LeftoverScan, cgroup: JobCgroup | None, keep: bool) -> None:
        self.keep = keep
        self.cgroup = None if cgroup is None else cgroup.path
        self.processes = JobProcesses(job_id, scan, cgroup)
        self._cgroup = cgroup
        self._scan = scan
        self._leader = scan.expect(job_id)

    def launched(self, pid: int) -> None:
        """The job leader runs."""
        self._scan.enter(self._leader, pid)

    def leader_exited(self, cgroup_removed: bool) -> None:
        """The job leader exited. cgroup_removed: nothing else was in the job's cgroup, and the shim has removed it."""
        if self._cgroup is not None:
            self._cgroup.removed = cgroup_removed
        self._scan.exited(self._leader)

    def job_done(self) -> None:
        """The job is done."""
        if self.keep:
            self.processes.close()
            self._scan.keep(self._leader)
        else:
            self._scan.leave(self._leader)

    def launch_failed(self) -> None:
        """The launch failed: there is no process."""
        self._scan.leave(self._leader)

    def abandon(self) -> None:
        """The job is lost: look for nothing more."""
        self._scan.leave(self._leader)
        self.processes.close()
