"""The worker's end of its connection to the shim: sends requests, receives reports (shim/messages.py)."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.process.spawn_queue import Child, SpawnQueue, SpawnRequest
from txworker.process.watched_channel import WatchedChannel
from txworker.shim.messages import Channel, Message, close_all

_FLUSH_SECONDS = 0.001
_RELEASE_SECONDS = 0.01
"""How long a release waits for others, to go with them: waking the shim is what costs most."""

_AGAIN_SECONDS = 1.0
"""How long the shim has to get descriptors free before the pipes are sent again."""

_RELEASES_PER_MESSAGE = 500
"""A message with more ids than about 800 needs a descriptor, and may be lost where none is free."""

_MESSAGES_PER_TURN = 64
"""Messages that are read in one turn of the reactor."""


class ShimConnection:
    """
    requests: the connection to the spawn thread. lost(job_ids) is called when the shim has ended; every start that
    waits has failed by then. job_ids: the starts that the shim had; it may have started a process of each, and nothing
    else knows of these. Reactor thread.

    thread_id: of the shim's thread that is the parent of job leaders. pipes: as in the message of that name, which the
    shim has had; they are sent again if it had too few descriptors free for them. listen_refused: it had too few for
    the latest listen().
    """

    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        channel: Channel,
        requests: Channel,
        shim_pid: int,
        thread_id: int,
        lost: Callable[[list[str]], None],
        pipes: Sequence[int],
    ) -> None:
        self.shim_pid = shim_pid
        self.thread_id = thread_id
        self.listen_refused = False
        self._reactor = reactor
        self._lost = lost
        self._pipes = pipes
        self._children: dict[str, Child] = {}
        self._early: dict[str, list[Message]] = {}
        self._flush: Timer | None = None
        self._released: list[str] = []
        self._releasing: Timer | None = None
        self._sending_pipes: Timer | None = None
        self._queue = SpawnQueue(reactor, requests, self._began, self._recall, self._shim_ended)
        self._channel = WatchedChannel(reactor, channel, _MESSAGES_PER_TURN, self._received, self._shim_ended)

    @property
    def job_count(self) -> int:
        """How many jobs the shim has for this worker. Any thread."""
        return len(self._children)

    def spawn(self, request: SpawnRequest) -> None:
        """Request a process. request.began() or request.failed() is called later, never within this call."""
        self._queue.put(request)

    def adopt(self, job_id: str, child: Child) -> None:
        """From now on `child` gets the exit of this job's process, which an earlier worker started."""
        self._children[job_id] = child

    def enforce(self, job_id: str, reason: str, kill_at: float) -> None:
        """What the shim is to enforce if this worker dies: KILL at that time of the monotonic clock."""
        self._send({"type": "enforce", "job": job_id, "reason": reason, "kill_at": kill_at})

    def serving(self) -> None:
        """This worker has taken the jobs over, and serves: from its end on the shim counts jobs.unattended_seconds."""
        self._send({"type": "serving"})

    def output_incomplete(self, job_id: str, child_fd: int, refused: int) -> None:
        """For the next worker: output of that descriptor is missing, `refused` bytes of it without a line about it."""
        self._send({"type": "lost", "job": job_id, "child_fd": child_fd, "bytes": refused})

    def resize(self, job_id: str, rows: int, columns: int) -> None:
        """Give a job's terminal that size."""
        self._send({"type": "resize", "job": job_id, "rows": rows, "columns": columns})

    def feed(self, job_id: str, file: int | None, end: bool) -> None:
        """
        Further bytes of the job's stdin, in a file (None: none), then its end if `end`. Answered by Child.fed().

        Raises:
            OSError: no descriptor is free.
        """
        self._send({"type": "feed", "job": job_id, "end": end}, [] if file is None else [file])

    def listen(self, descriptors: Sequence[int]) -> None:
        """
        Let workers connect to this bound socket from now on; the second descriptor: the state directory.

        Raises:
            OSError: no descriptor is free.
        """
        self.listen_refused = False
        self._send({"type": "listen"}, descriptors)

    def release(self, job_id: str, keep: bool) -> None:
        """The job's end is written down: its process may be reaped. keep: its leftovers may go on printing."""
        self._children.pop(job_id, None)
        if keep:
            self._send({"type": "release", "jobs": [job_id], "keep": True})
        elif not self._channel.closed:
            self._released.append(job_id)
            if self._releasing is None:
                self._releasing = self._reactor.callLater(_RELEASE_SECONDS, self._release_now)

    def close(self, leave: bool = True) -> None:
        """Disconnect. The shim keeps its jobs, or ends if it has none. leave=False: it kills what is being started."""
        self._send_released()
        if not leave:
            self._send({"type": "forget"})
        self._end(OSError(errno.ESHUTDOWN, "the worker is stopping", "shim"))

    def _received(self, message: Message, descriptors: list[int]) -> None:
        if message["type"] == "refused":
            self._refused(message["of"])
        job_id = message.get("job", "")
        child = self._children.get(job_id)
        if child is not None:
            _tell(child, message)
        elif self._queue.is_in_flight(job_id):  # its start is told by another thread, over another socket
            self._early.setdefault(job_id, []).append(message)
        elif message["type"] == "job":
            self._end_late_start(message)
        close_all(descriptors)

    def _refused(self, of: str) -> None:
        if of == "listen":
            self.listen_refused = True
        elif of == "pipes" and self._sending_pipes is None:
            self._sending_pipes = self._reactor.callLater(_AGAIN_SECONDS, self._send_pipes)

    def _send_pipes(self) -> None:
        self._sending_pipes = None
        try:
            self._send({"type": "pipes"}, self._pipes)
        except OSError:
            self._refused("pipes")

    def _end_late_start(self, record: Message) -> None:
        """An earlier worker's start hung while this one took over, and the job's record says that it did not start."""
        self._log.warn(
            "Job {job_id} started after all, as pid {pid}, and is ended.", job_id=record["job"], pid=record["pid"]
        )
        with suppress(ProcessLookupError):
            os.killpg(record["pid"], signal.SIGKILL)
        self.release(record["job"], keep=False)

    def _began(self, job_id: str, child: Child) -> None:
        early = self._early.pop(job_id, ())
        if job_id in self._released:  # its pipes could not be watched
            return
        self._children[job_id] = child
        for message in early:
            _tell(child, message)

    def _recall(self) -> None:
        self._send({"type": "recall"})

    def _send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        if self._channel.closed:
            return
        try:
            self._channel.send(message, descriptors)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # to keep the message's descriptors until there is room
                raise
            return  # the shim is gone, which _shim_ended() is told
        self._flush_later()

    def _release_now(self) -> None:
        self._releasing = None
        self._send_released()

    def _send_released(self) -> None:
        released, self._released = self._released, []
        for first in range(0, len(released), _RELEASES_PER_MESSAGE):
            some = released[first : first + _RELEASES_PER_MESSAGE]
            self._send({"type": "release", "jobs": some, "keep": False})

    def _flush_later(self) -> None:
        if self._channel.full and self._flush is None and not self._channel.closed:
            self._flush = self._reactor.callLater(_FLUSH_SECONDS, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        with suppress(OSError):  # the kernel lacks memory; or the shim is gone, which _shim_ended() is told
            self._channel.flush()
        self._flush_later()

    def _shim_ended(self) -> None:
        if self._channel.closed:
            return
        for child in list(self._children.values()):
            child.orphaned()
        self._lost(self._end(OSError(errno.ECONNRESET, "the shim has ended", "shim")))

    def _end(self, error: OSError) -> list[str]:
        """Returns the jobs of the starts that were not answered, which fail with that error."""
        self._channel.close()
        for timer in (self._flush, self._releasing, self._sending_pipes):
            if timer is not None:
                timer.cancel()
        self._flush = self._releasing = self._sending_pipes = None
        return self._queue.close(error)


def _tell(child: Child, message: Message) -> None:
    if message["type"] == "exited":
        child.exited(message["exit"])
    elif message["type"] == "fed":
        child.fed(message["stdin"])
