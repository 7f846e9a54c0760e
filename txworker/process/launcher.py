"""From an order to a running child: opens what it needs, starts it, and says in our words what went wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from txworker.jobs import EndReason, JobSpec, Usage
from txworker.jobs.errors import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    OutOfResources,
    TxWorkerError,
)
from txworker.process.child import stdin_file
from txworker.process.environ import environment
from txworker.process.protocol import JobProtocol
from txworker.process.run import Run, RunParts, begin, new_run
from txworker.process.spawner import SAME_PIPE
from txworker.waiting import Clock

_SHORTAGES = {
    errno.EMFILE: "the worker has no file descriptors left",
    errno.ENFILE: "the machine has no file descriptors left",
    errno.EAGAIN: "the machine allows no further process",
    errno.ENOMEM: "the machine has no memory left",
    errno.ENOSPC: "the disk is full",
}


class Starter(Protocol):
    """IReactorProcess, as far as it is used here."""

    def spawnProcess(self, processProtocol: Any, executable: str, *args: Any, **kwargs: Any) -> Any: ...


class Listener(Protocol):
    """Who hears what becomes of a child. Reactor thread."""

    def wrote(self, child_fd: int, data: bytes) -> None: ...

    def overdue(self, reason: EndReason) -> None: ...

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage) -> None: ...


@dataclass(frozen=True)
class Running:
    """A child that was started: its pid, and how to end it."""

    pid: int
    stop: Callable[[float], None]


@dataclass(frozen=True)
class Launcher:
    """
    Starts children. directory is theirs unless the order names one; base_environment is what they inherit.

    grace_seconds is what a time limit gives between TERM and KILL; drain_seconds is how long the output of an
    exited child is waited for when something it left behind holds the pipe.
    """

    starter: Starter
    clock: Clock
    base_environment: Mapping[str, str]
    directory: str
    grace_seconds: float
    drain_seconds: float

    def launch(self, job_id: str, spec: JobSpec, listener: Listener) -> Running:
        """
        Start the order's process. Reactor thread; takes about a millisecond.

        Raises:
            TxWorkerError: it could not be started; nothing is left behind.
        """
        parts = RunParts(
            self.clock,
            listener.overdue,
            self.grace_seconds,
            self.drain_seconds,
            spec.timeout_seconds,
            spec.quiet_timeout_seconds,
        )
        run = new_run(parts)
        child = self._start(job_id, spec, _protocol(run, parts, listener, spec))
        return Running(child.pid, run.stop)

    def _start(self, job_id: str, spec: JobSpec, protocol: JobProtocol) -> Any:
        directory = os.path.join(self.directory, spec.directory)
        argv = spec.argv
        try:
            with stdin_file(spec.stdin) as stdin:
                return self.starter.spawnProcess(
                    protocol,
                    argv[0],
                    argv,
                    environment(self.base_environment, spec, job_id),
                    directory,
                    childFDs={0: stdin.fileno(), 1: "r", 2: "r" if spec.separate_stderr else SAME_PIPE},
                )
        except OSError as error:
            raise _in_our_words(error, argv[0], directory) from error


def _protocol(run: Run, parts: RunParts, listener: Listener, spec: JobSpec) -> JobProtocol:
    def wrote(child_fd: int, data: bytes) -> None:
        parts.last_output = parts.clock.seconds()
        listener.wrote(child_fd, data)

    def ended(exit_code: int | None, signal: int | None, usage: Usage) -> None:
        run.ended()
        listener.ended(exit_code, signal, usage)

    write = listener.wrote if spec.quiet_timeout_seconds is None else wrote
    return JobProtocol(lambda child: begin(run, parts, child), write, run.exited, ended)


def _in_our_words(error: OSError, executable: str, directory: str) -> TxWorkerError:
    if error.errno in _SHORTAGES:
        return OutOfResources(_SHORTAGES[error.errno])
    if error.filename == directory:
        if error.errno in (errno.EACCES, errno.EPERM):
            return NotPermitted("directory", directory)
        return NoSuchDirectory(directory)
    if error.errno == errno.ENOENT and _is_there(executable, directory):
        return NoSuchExecutable(executable, "the interpreter that its first line names is not there")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return NoSuchExecutable(executable)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted("command", executable)
    if error.errno == errno.ENOEXEC:
        return InvalidRequest("command", executable, "is neither a program nor a script with a #! line")
    if error.errno == errno.E2BIG:
        return InvalidRequest("args", executable, "with its arguments and environment is too long for this machine")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidRequest("command", executable, "is too long for a file name")
    return OutOfResources(f"the machine could not start {executable!r}: {os.strerror(error.errno or 0)}")


def _is_there(executable: str, directory: str) -> bool:
    return "/" in executable and os.path.exists(os.path.join(directory, executable))
