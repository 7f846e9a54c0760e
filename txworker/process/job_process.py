"""What belongs together of one job's process: its run, what hears it, what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from txworker.base.reactor import Clock
from txworker.jobs import Exit, JobSpec, Usage
from txworker.leftovers.cleanup import Cleanup
from txworker.leftovers.job_processes import JobProcesses, LeftoverScan
from txworker.leftovers.survivors import why_running
from txworker.linux.cgroup import JobCgroup
from txworker.ports import Listener
from txworker.process.protocol import JobProtocol, Sink
from txworker.process.state_machine import Run, begin, new_run
from txworker.process.timers import RunParts


@dataclass(frozen=True)
class Patience:
    """
    grace_seconds is what a time limit gives between TERM and KILL; drain_seconds is how long what an exited process
    left behind may take to end, and then how long its output is waited for when another process holds the pipe.
    """

    grace_seconds: float
    drain_seconds: float


class JobProcess:
    """
    One job's process, from before its start until its end is written down. Reactor thread.

    enforce(reason, kill_at) says what the shim is to enforce should this worker die.
    """

    def __init__(
        self,
        job_id: str,
        spec: JobSpec,
        listener: Listener,
        clock: Clock,
        scan: LeftoverScan,
        cgroup: JobCgroup | None,
        patience: Patience,
        keep_leftovers: bool,
        enforce: Callable[[str, float], None],
    ) -> None:
        self._scan = scan
        self._job_id = job_id
        self._listener = listener
        self._leftovers = 0
        self._leader = scan.expect(job_id)
        self._end: tuple[int | None, int | None, Usage] = (None, None, Usage())
        self._processes = JobProcesses(job_id, scan, cgroup)
        self._keep = keep_leftovers
        self._transport: Any = None
        self._problem = ""
        self.parts = RunParts(
            clock,
            listener.overdue,
            self._over,
            patience.grace_seconds,
            patience.drain_seconds,
            spec.timeout_seconds,
            spec.quiet_timeout_seconds,
            None if keep_leftovers else self._cleanup(clock, job_id),
            enforce=enforce,
            hindered=self._hindered,
        )
        self.run: Run = new_run(self.parts)
        self.protocol = JobProtocol(job_id, self._started, self._exited, self._ended, self._sink(spec))

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._leader.pid is not None
        return self._leader.pid

    @property
    def started_at(self) -> float:
        """When it was started, in seconds since the epoch, as the launcher's now() has them."""
        at: float = self._transport.started_at
        return at

    @property
    def exited_at(self) -> float | None:
        """When it exited, in seconds since the epoch; None: it runs."""
        return self._transport.exited_at or None

    def stop(self, grace_seconds: float) -> None:
        """TERM now, KILL when the grace period is over."""
        self.run.stop(grace_seconds)

    def resume_stop(self, kill_at: float | None) -> None:
        """It was asked to end before this worker came: KILL is due then, or at once when that is not known."""
        clock = self.parts.clock
        self.run.resume_stop(0.0 if kill_at is None else kill_at - clock.seconds())

    def exited(self, how: Mapping[str, Any]) -> None:
        """It had exited before this worker came."""
        self._transport.exited(how)

    def release(self) -> None:
        """Its end is written down: the process may be reaped."""
        self._transport.release(self._keep)

    def launch_failed(self) -> None:
        """There is no process."""
        self._scan.leave(self._leader)

    def abandon(self) -> Deferred[None]:
        """The shim has ended: hear of nothing more. Fires when what is left in the pipes is written down."""
        self.parts.cancel()
        self._scan.leave(self._leader)
        self._processes.close()
        drained: Deferred[None] = self._transport.abandon()
        return drained

    def leave(self) -> Deferred[None]:
        """The worker ends and the process runs on. Fires when nothing of its output is being copied here any more."""
        self.parts.cancel()
        left: Deferred[None] = self._transport.leave()
        return left

    def _started(self, transport: Any) -> None:
        self._transport = transport
        self._scan.enter(self._leader, transport.pid)
        begin(self.run, self.parts, transport)

    def _cleanup(self, clock: Clock, job_id: str) -> Cleanup:
        cleanup = Cleanup(clock, job_id, self._processes, lambda count: self._cleared(count, cleanup.problem))
        cleanup.end_blocked = self._listener.end_blocked
        return cleanup

    def _hindered(self) -> None:
        self._listener.end_blocked(why_running([self.pid]))

    def _sink(self, spec: JobSpec) -> Sink:
        listener = self._listener
        if spec.quiet_timeout_seconds is None:
            return Sink(listener.ready, listener.wrote, listener.copy_pipe, listener.pipe_copied)
        return Sink(self._ready, self._wrote, listener.copy_pipe, self._poured)

    def _ready(self, child_fd: int) -> bool:
        """It has printed, though that may have to wait."""
        self.parts.last_output = self.parts.clock.seconds()
        return self._listener.ready(child_fd)

    def _wrote(self, child_fd: int, data: bytes) -> None:
        self.parts.last_output = self.parts.clock.seconds()
        self._listener.wrote(child_fd, data)

    def _poured(self, child_fd: int) -> None:
        self.parts.last_output = self.parts.clock.seconds()
        self._listener.pipe_copied(child_fd)

    def _exited(self) -> None:
        self._scan.exited(self._leader)
        self.run.exited()

    def _cleared(self, leftovers: int, problem: str) -> None:
        self._leftovers = leftovers
        self._problem = problem
        self.run.cleared()

    def _ended(self, exit_code: int | None, signal: int | None, usage: Usage) -> None:
        self._end = (exit_code, signal, usage)
        self.run.ended()

    def _over(self) -> None:
        if self._keep:
            self._processes.close()
            self._scan.keep(self._leader)
        else:
            self._scan.leave(self._leader)
        core_dumped = bool(self._transport.core_dumped)
        self._listener.ended(Exit(*self._end, self._leftovers, core_dumped, self._problem))
