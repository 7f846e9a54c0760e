"""A job of the shim: its process, our ends of its pipes, and what to enforce while no worker is connected."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from txworker.linux.clock import boot_seconds
from txworker.linux.wait import Exit
from txworker.shim.events import Events
from txworker.shim.feeding import Feeding
from txworker.shim.spawn_thread import Result
from txworker.shim.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

END_OF_TRANSMISSION = b"\x04"
"""Ctrl-D: a terminal has no other end of its input (VEOF; termios(3))."""

_KEPT = ("grace", "cgroup", "separate_stderr", "max_output", "quiet", "terminal", "feed")
"""What is kept of a spawn request; the rest, which may be long, is dropped when the process runs."""


class HeldJob:
    """
    Times are in seconds of the monotonic clock, except for wall times, which are by the job's own clock: `ahead` plus
    the clock since boot, which no step of the wall clock moves.

    pipes: the read ends by the job's descriptors, 1 and 2. terminal: None: it has none. stdin: what feeds its standard
    input; None: it has none, or got all of it. reason: why it is being ended. kill_at: when KILL is due. lost: bytes
    that the disk refused, by descriptor, of which no line in the output tells yet.
    last_output: when it printed last, as far as is known here (a worker may have read more). recorded_bytes: what the
    files of its output had when the latest worker came; negative: unknown.
    """

    def __init__(
        self,
        result: Result,
        pipes: dict[int, int],
        terminal: Terminal | None = None,
        stdin: Feeding | None = None,
    ) -> None:
        request = result.request
        now = time.monotonic()
        self.request = {name: request[name] for name in _KEPT}
        self._keeps_leftovers: bool = request.get("keep", False)  # an older worker does not send it
        self.id: str = request["job"]
        self.pid = result.pid
        self.ticks = result.ticks
        self.pipes = pipes
        self.terminal = terminal
        self.stdin = stdin
        self.started_wall = result.wall_time
        self._ahead: float = request["ahead"]
        self.timeout_at: float | None = None if request["timeout"] is None else now + request["timeout"]
        self.last_output = now
        self.recorded_bytes = 0
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.exit: Exit | None = None
        self.exit_wall = 0.0
        self.cgroup_removed = False
        self.lost = {1: 0, 2: 0}
        self.discarded = {1: 0, 2: 0}
        self._incomplete: frozenset[int] = frozenset()

    @property
    def is_over(self) -> bool:
        """It has exited, and no KILL is due for what it left behind."""
        return self.exit is not None and self.kill_at is None

    def output_file(self, child_fd: int) -> str:
        """The name of the file for what it prints to that descriptor, in the output directory."""
        return f"{self.id}.{'err' if child_fd == 2 and self.request['separate_stderr'] else 'out'}"

    def set_lost(self, child_fd: int, count: int) -> None:
        """Output of that descriptor is missing from its file: a worker has lost that many bytes, and says so."""
        self.lost[child_fd] = count
        self._incomplete |= {child_fd}

    def signal_group(self, number: int) -> None:
        """Signal its process group. The pid is not given to another process before the job is released."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def end(self, reason: str) -> None:
        """Send TERM (with a terminal HUP first) now, and let KILL be due when the grace period is over."""
        self.reason = reason
        self.kill_at = time.monotonic() + self.request["grace"]
        if self.request["terminal"]:
            self.signal_group(signal.SIGHUP)  # an interactive shell ignores TERM
        self.signal_group(signal.SIGTERM)
        self.signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """KILL its process group and its cgroup; nothing that is left behind and kept."""
        self.kill_at = None
        if self._keeps_leftovers and self.exit is not None:
            return
        self.signal_group(signal.SIGKILL)
        if self.request["cgroup"] and not self._keeps_leftovers:
            with suppress(OSError), open(f"{self.request['cgroup']}/cgroup.kill", "w") as file:
                file.write("1")

    def exited(self, exit: Exit) -> None:
        """It has exited: remove its cgroup. If another process is in it, the worker does so when that has ended."""
        self.exit, self.exit_wall = exit, boot_seconds() + self._ahead
        if self.request["cgroup"]:
            with suppress(OSError):
                os.rmdir(self.request["cgroup"])
                self.cgroup_removed = True

    def close(self) -> None:
        """Close its descriptors, but for its stdin."""
        for fd in self.pipes.values():
            os.close(fd)
        self.pipes = {}
        if self.terminal is not None:
            self.terminal.close()

    def record(self) -> dict[str, Any]:
        """The message `job`: what a worker needs to take it over."""
        return {
            "type": "job",
            "job": self.id,
            "pid": self.pid,
            "ticks": self.ticks,
            "started_wall": self.started_wall,
            "cgroup": self.request["cgroup"],
            "max_output": self.request["max_output"],
            "timeout_at": self.timeout_at,
            "last_output": self.last_output,
            "reason": self.reason,
            "kill_at": self.kill_at,
            "lost": [self.lost[1], self.lost[2]],
            "discarded": [self.discarded[1], self.discarded[2]],
            "incomplete": [child_fd in self._incomplete or self.lost[child_fd] > 0 for child_fd in (1, 2)],
            "exit": self.exit_record(),
            "stdin": self.stdin_record(),
        }

    def stdin_record(self) -> dict[str, Any] | None:
        """What has become of the bytes that were fed; None: the job was not started with feed."""
        return self.stdin.record() if self.stdin is not None and self.request["feed"] else None

    def exit_record(self) -> dict[str, Any] | None:
        """How it exited; None: it runs."""
        if self.exit is None:
            return None
        return {
            "exit_code": self.exit.exit_code,
            "signal": self.exit.signal,
            "core_dumped": self.exit.core_dumped,
            "at": self.exit_wall,
            "user_cpu": self.exit.user_cpu,
            "system_cpu": self.exit.system_cpu,
            "max_rss_bytes": self.exit.max_rss_bytes,
            "cgroup_removed": self.cgroup_removed,
        }


def hold(result: Result, descriptors: Sequence[int], events: Events, told: Callable[[], None]) -> HeldJob:
    """
    The job of a process that was just started, by these descriptors, which it closes. Begin to move what its terminal
    prints, and what feeds it. told() is called as Feeding.told().

    Raises:
        OSError: some are missing, because too few numbers were free; or they cannot be watched. All are closed, and the
            job is killed before, because it must not take that for the end of its input.
    """
    ends = dict(zip(result.names, descriptors, strict=False))
    pipes = {child_fd: ends[name] for child_fd, name in ((1, "out"), (2, "err")) if name in ends}
    terminal = stdin = None
    try:
        if len(ends) < len(result.names):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        for fd in pipes.values():
            os.set_blocking(fd, False)
        if "master" in ends:
            terminal = Terminal(events, ends["master"], ends["slave"], ends["printed"])
            ends = {name: fd for name, fd in ends.items() if name not in ("master", "slave", "printed")}
            terminal.start()
        if "in" in ends:
            stdin = Feeding(events, ends["in"], told, END_OF_TRANSMISSION if terminal is not None else b"")
            del ends["in"]
            if "file" in ends:
                stdin.put(ends.pop("file"), not result.request["feed"], result.fed)
            stdin.start()
    except OSError:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(result.pid, signal.SIGKILL)
        for part in (terminal, stdin):
            if part is not None:
                part.close()
        for fd in ends.values():  # those that no part has
            os.close(fd)
        raise
    if stdin is not None and not stdin.is_open and not result.request["feed"]:  # the job has got all
        stdin = None
    return HeldJob(result, pipes, terminal, stdin)
