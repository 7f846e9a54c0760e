"""The process of one job: Twisted's protocol of its transport, and what holds its state machine and its leftovers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from txworker.base.reactor import Clock
from txworker.jobs import EndReason, Exit
from txworker.jobs.held_process import HeldProcess
from txworker.leftovers.cleanup import Cleanup
from txworker.leftovers.survivors import why_running
from txworker.ports import Listener, OutputWriter
from txworker.process.job_leftovers import JobLeftovers
from txworker.process.job_stdin import JobStdin
from txworker.process.state_machine import Context, StateMachine
from txworker.process.time_limits import TimeLimits
from txworker.process.timers import Timers


class JobProcess(ProcessProtocol):
    """
    One job's process (ports.Running), from before its launch until its end is written down. Reactor thread.

    It is the protocol of its transport: pipes write straight to `output`, the exit goes to the state machine.
    """

    transport: Any  # ChildTransport or ReactorTransport

    def __init__(
        self,
        job_id: str,
        output: OutputWriter,
        listener: Listener,
        clock: Clock,
        limits: TimeLimits,
        leftovers: JobLeftovers,
        has_terminal: bool = False,
    ) -> None:
        self.output = output if limits.quiet_seconds is None else _TimedOutput(output, self._printed)
        self._listener: Listener | None = listener
        self._leftovers = leftovers
        self._leftovers_ended = 0
        self._end: Any = None  # ProcessDone or ProcessTerminated
        self._cleanup: Cleanup | None = None
        if not leftovers.keep:
            self._cleanup = Cleanup(clock, job_id, leftovers.processes, self._cleaned_up)
            self._cleanup.end_blocked = listener.end_blocked
        timers = Timers(clock)
        self._context = Context(
            timers, limits, self._cleanup, listener.overdue, self._blocked, self._done, has_terminal
        )
        self._machine = StateMachine(self._context)

    @property
    def pid(self) -> int:
        """The id of the process; 0 before it is launched."""
        pid: int = self.transport.pid
        return pid

    @property
    def cgroup(self) -> str | None:
        """The directory of the job's cgroup; None: it has none. Any thread."""
        return self._leftovers.cgroup

    @property
    def started_at(self) -> float:
        """When it was started, in seconds since the epoch, by the now() that the launcher was given."""
        at: float = self.transport.started_at
        return at

    @property
    def exited_at(self) -> float | None:
        """When it exited, in seconds since the epoch; None: it runs."""
        return self.transport.exited_at or None

    @property
    def stdin(self) -> JobStdin | None:
        """Its standard input, if it was started with feed."""
        stdin: JobStdin | None = self.transport.stdin
        return stdin

    def stop(self, grace_seconds: float, reason: EndReason = EndReason.REQUESTED) -> None:
        """Send TERM now, and KILL when the grace period is over."""
        self._context.reason = reason
        self._machine.stop(grace_seconds)

    def renew_lease(self) -> None:
        """Its lease, if it has one, counts from now."""
        self._context.limit_timers.renew_lease()

    def resume_limits(self, held: HeldProcess) -> None:
        """Before it is taken over: timeout and quietTimeout go on from where an earlier worker began to count."""
        self._context.limit_timers.timeout_at = held.timeout_at
        self._context.limit_timers.last_output = held.last_output

    def resume_stop(self, kill_at: float | None, reason: EndReason) -> None:
        """An earlier worker sent TERM: send KILL at kill_at, at once when that is unknown."""
        self._context.reason = reason
        self._machine.resume_stop(0.0 if kill_at is None else kill_at - self._context.timers.seconds())

    def signal(self, number: int) -> None:
        """Signal the process group. Raises ProcessExitedAlready, or PermissionError."""
        self.transport.signalGroup(number)

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal that size. Raises ProcessExitedAlready. Only with a terminal."""
        self.transport.resize(rows, columns)

    def exited(self, how: Mapping[str, Any]) -> None:
        """It exited before this worker took it over."""
        self.transport.exited(how)

    def release(self) -> None:
        """Its end is written down: it may be reaped. What refers to this object is dropped, so all is freed at once."""
        self.transport.release(self._leftovers.keep)
        self._context.forget()
        self._cleanup = self._listener = None

    def launch_failed(self) -> None:
        """There is no process."""
        self._leftovers.launch_failed()

    def abandon(self) -> Deferred[Exit | None]:
        """
        The shim has ended, and nothing more is told. Fires when what its pipes hold is written, with its exit; None: it
        had not exited.
        """
        self._context.timers.cancel()
        self._context.forget()
        if self._cleanup is not None:
            self._cleanup.abandon()
        self._leftovers.abandon()
        drained: Deferred[None] = self.transport.abandon()
        return drained.addCallback(lambda _: self._exit())

    def leave(self) -> Deferred[None]:
        """The worker ends and the process runs on. Fires when this worker copies no more of its output."""
        self._context.timers.cancel()
        left: Deferred[None] = self.transport.leave()
        return left

    def connectionMade(self) -> None:
        """Twisted: the process runs."""
        self._leftovers.launched(self.pid)
        self._machine.begin(self.transport)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted: the process wrote to its descriptor. Only the reactor's own transport calls this."""
        self.output.write(childFD, data)

    def processExited(self, reason: Failure) -> None:
        """Twisted: the process exited; other processes may hold its pipes open."""
        self._end = reason.value
        self._leftovers.leader_exited(self.transport.cgroup_removed)
        self._machine.exited()

    def processEnded(self, reason: Failure) -> None:
        """Twisted: the process exited and its pipes are closed."""
        self._machine.output_closed()

    def _printed(self) -> None:
        self._context.limit_timers.printed()

    def _blocked(self) -> None:
        assert self._listener is not None
        self._listener.end_blocked(why_running([self.pid]))

    def _cleaned_up(self, leftovers_ended: int) -> None:
        self._leftovers_ended = leftovers_ended
        self._machine.cleaned_up()

    def _done(self) -> None:
        self._leftovers.job_done()
        exit = self._exit()
        assert self._listener is not None
        assert exit is not None
        self._listener.ended(exit)

    def _exit(self) -> Exit | None:
        if self._end is None:
            return None
        transport, problem = self.transport, "" if self._cleanup is None else self._cleanup.problem
        code, signal, core_dumped = self._end.exitCode, self._end.signal, bool(transport.core_dumped)
        return Exit(code, signal, transport.usage, self._leftovers_ended, core_dumped, problem)


class _TimedOutput:
    """The output of a job with a quietTimeout: printed() is called whenever the process has printed."""

    def __init__(self, output: OutputWriter, printed: Callable[[], None]) -> None:
        self._output = output
        self._printed = printed
        self.copy_pipe = output.copy_pipe

    def ready(self, child_fd: int) -> bool:
        """Output counts as printed even when it cannot be written yet."""
        self._printed()
        return self._output.ready(child_fd)

    def write(self, child_fd: int, data: bytes) -> None:
        """As OutputWriter.write()."""
        self._printed()
        self._output.write(child_fd, data)

    def pipe_copied(self, child_fd: int) -> None:
        """As OutputWriter.pipe_copied()."""
        self._printed()
        self._output.pipe_copied(child_fd)
