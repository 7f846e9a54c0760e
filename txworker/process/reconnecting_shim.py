"""The connection to the shim, and to the next shim when one has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, WatchingReactor
from txworker.jobs.held_process import HeldProcess
from txworker.process.shim_connection import ShimConnection
from txworker.process.shim_handshake import Handshake
from txworker.process.shim_waiting import ShimUnusable

RETRY_SECONDS = 1.0


class ReconnectingShim:
    """
    connect() connects to the shim that runs, or starts one. lost(pid, unanswered) is called when a shim has ended and
    the next one runs; unanswered: the jobs that it was starting, of which it may have left a process. Reactor thread.

    Of the current shim, when it was connected: held, the jobs that it has; starting, the ids of jobs that it is
    starting; kept, id and pid of finished jobs with leftovers that still print; complete, as Handshake.complete.
    alive: whether a shim is connected; any thread. ended(): called as soon as one has ended. connection: to the current
    shim, or to the last one until the next one runs; any thread may read it.

    Raises:
        ShimUnusable: from connect().
    """

    _log = Logger()

    def __init__(self, readers: WatchingReactor, clock: Clock, connect: Callable[[], Handshake]) -> None:
        self._readers = readers
        self._clock = clock
        self._connect = connect
        self.lost: Callable[[int, Sequence[str]], None] = lambda pid, unanswered: None
        self.ended: Callable[[], None] = lambda: None
        self.held: list[HeldProcess] = []
        self.starting: list[str] = []
        self.kept: list[tuple[str, int]] = []
        self.connection = self._connected()

    @property
    def taken_over(self) -> bool:
        """Whether it is an earlier worker's: it had jobs when it was connected, or else a new one would replace it."""
        return bool(self.held or self.starting)

    @property
    def pid(self) -> int:
        """The pid of the shim."""
        return self.connection.shim_pid

    def output_incomplete(self, job_id: str, child_fd: int, refused: int) -> None:
        """As ShimConnection.output_incomplete()."""
        self.connection.output_incomplete(job_id, child_fd, refused)

    @property
    def listen_refused(self) -> bool:
        """As ShimConnection.listen_refused."""
        return self.connection.listen_refused

    def listen(self, descriptors: Sequence[int]) -> None:
        """As ShimConnection.listen()."""
        self.connection.listen(descriptors)

    def close(self, leave: bool = True) -> None:
        """As ShimConnection.close()."""
        self.connection.close(leave)

    def _connected(self) -> ShimConnection:
        handshake = self._connect()
        self.alive = True
        self.held, self.starting, self.complete = handshake.held, handshake.starting, handshake.complete
        hello = handshake.hello
        self.kept = [(job_id, pid) for job_id, pid in hello.get("kept", ())]
        channels = handshake.channel, handshake.requests
        return ShimConnection(self._readers, *channels, hello["pid"], hello["thread"], self._ended, handshake.pipes)

    def _ended(self, unanswered: Sequence[str]) -> None:
        pid = self.connection.shim_pid
        self.alive = False
        self.ended()
        self._log.error("The shim (pid {pid}) has ended; its jobs are lost. Starting another.", pid=pid)
        self._reconnect(pid, unanswered)

    def _reconnect(self, pid: int, unanswered: Sequence[str]) -> None:
        try:
            self.connection = self._connected()
        except (ShimUnusable, OSError) as error:
            self._log.error("No shim can be started, so jobs cannot start: {error}. Trying again.", error=error)
            self._clock.callLater(RETRY_SECONDS, self._reconnect, pid, unanswered)
            return
        self._log.info("A new shim runs as pid {pid}.", pid=self.connection.shim_pid)
        self.connection.serving()
        self.lost(pid, unanswered)
