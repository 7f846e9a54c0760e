"""The shim that this worker is connected to, and the next one when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, WatchingReactor
from txworker.jobs.held_process import HeldProcess
from txworker.process.shim_connection import ShimConnection, Start
from txworker.process.shim_handshake import Handshake, ShimUnusable

RETRY_SECONDS = 1.0


class ReconnectingShim:
    """
    connect() makes a connection to the shim that there is, or to a new one. lost(pid) hears that it has ended, when the
    next one is there already. held and starting: the jobs that it has, and is starting, at the beginning; kept: job and
    pid of finished ones whose leftovers still print; found: it, or one without jobs, was there already. Reactor thread.

    Raises:
        ShimUnusable: as connect().
    """

    _log = Logger()

    def __init__(self, readers: WatchingReactor, clock: Clock, connect: Callable[[], Handshake]) -> None:
        self._readers = readers
        self._clock = clock
        self._connect = connect
        self.lost: Callable[[int], None] = lambda pid: None
        self.held: list[HeldProcess] = []
        self.starting: list[str] = []
        self.kept: list[tuple[str, int]] = []
        self._link = self._connected()

    @property
    def pid(self) -> int:
        """Of the shim."""
        return self._link.shim_pid

    @property
    def thread_id(self) -> int:
        """Of its thread whose children jobs are."""
        return self._link.thread_id

    def start(self, start: Start) -> None:
        """As ShimConnection.start."""
        self._link.start(start)

    def adopt(self, job_id: str, child: Any) -> None:
        """As ShimConnection.adopt."""
        self._link.adopt(job_id, child)

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """As ShimConnection.enforce."""
        self._link.enforce(job_id, reason, kill_at)

    def release(self, job_id: str, keep: bool) -> None:
        """As ShimConnection.release."""
        self._link.release(job_id, keep)

    def close(self, leave: bool = True) -> None:
        """As ShimConnection.close."""
        self._link.close(leave)

    def _connected(self) -> ShimConnection:
        handshake = self._connect()
        self.held, self.starting, self.found = handshake.held, handshake.starting, handshake.found
        hello = handshake.hello
        self.kept = [(job_id, pid) for job_id, pid in hello.get("kept", ())]
        return ShimConnection(self._readers, handshake.channel, hello["pid"], hello["thread"], self._ended)

    def _ended(self) -> None:
        pid = self._link.shim_pid
        self._log.error("The shim (pid {pid}) has ended; its jobs are lost. Starting another.", pid=pid)
        self._again(pid)

    def _again(self, pid: int) -> None:
        try:
            self._link = self._connected()
        except (ShimUnusable, OSError) as error:
            self._log.error("No shim can be started, so no job can: {error}. Trying again.", error=error)
            self._clock.callLater(RETRY_SECONDS, self._again, pid)
            return
        self._log.info("A new shim runs as pid {pid}.", pid=self._link.shim_pid)
        self.lost(pid)
