"""
The shim's one loop: takes orders from the worker, tells it of starts and exits, reaps, and stands in for it.

It never opens, enters or executes a path that a job names; the spawn thread does (spawn_thread.py).
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import struct
import time

from txworker.linux.wait import exit_of, exited_child_of_thread, reap
from txworker.shim import messages
from txworker.shim.events import Events
from txworker.shim.held_job import HeldJob
from txworker.shim.intermediate import IntermediatePipes
from txworker.shim.messages import Channel, Message
from txworker.shim.spawn_thread import SpawnThread, ticks_now
from txworker.shim.unattended import Unattended

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

_FIRST_WORKER_SECONDS = 30.0
"""A shim that no worker has connected to for so long was started by one that died at once."""

_SWEEP_SECONDS = 1.0
"""Between two looks for children of the spawn thread that are no jobs."""

_UCRED = struct.Struct("iII")


class Loop:
    """
    listener: where workers connect, one at a time; the newest counts, for it holds the lease of the state directory.

    version: of the package, for people.
    """

    def __init__(self, listener: socket.socket, thread: SpawnThread, version: str) -> None:
        self._listener = listener
        self._thread = thread
        self._version = version
        self._events = Events()
        self._jobs: dict[str, HeldJob] = {}
        self._starting: dict[str, tuple[Message, dict[int, int]]] = {}
        self._inherited: set[str] = set()  # those of them that an earlier worker asked for
        self._forgotten: set[str] = set()  # and that no worker wants any more
        self._pipes = IntermediatePipes()
        self._unattended = Unattended(self._events, self._jobs, self._pipes)
        self._channel: Channel | None = None
        self._directory = -1
        self._defaults: dict[str, Any] = {}
        self._unsent: list[HeldJob] = []
        self._ended = False
        self._sweep_at: float | None = None
        self._deadline = time.monotonic() + _FIRST_WORKER_SECONDS
        self._keep_above = 3
        self._children = _wake_on_children()

    def run(self) -> None:
        """Until there are neither jobs nor a worker."""
        self._listener.setblocking(False)
        self._events.watch(self._listener.fileno(), self._connected)
        self._events.watch(self._thread.fileno(), self._result)
        self._events.watch(self._children, self._child_exited)
        while not self._is_over():
            self._events.wait(self._patience())

    def _is_over(self) -> bool:
        if self._channel is not None or self._jobs or self._starting or self._unattended.keeps:
            return False
        return self._ended or time.monotonic() > self._deadline

    def _patience(self) -> float | None:
        """Seconds until something is due; None: only an event counts."""
        due = [self._unattended.enforce()]
        if self._sweep_at is not None:
            due.append(self._sweep())
        if self._channel is None:
            due.append(1.0)
        waits = [seconds for seconds in due if seconds is not None]
        return min(waits) if waits else None

    def _connected(self) -> None:
        connection, _ = self._listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        if _UCRED.unpack(credentials)[1] != os.getuid():
            connection.close()
            return
        if self._channel is not None:
            self._disconnect()
        connection.setblocking(False)
        self._channel = Channel(connection)
        self._events.watch(self._channel.fileno(), self._received)

    def _disconnect(self) -> None:
        """The worker is gone, or another one is there."""
        assert self._channel is not None
        self._events.unwatch(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._unsent.clear()
        self._inherited = set(self._starting)
        self._ended = True
        if self._directory >= 0 and not self._unattended.active:
            self._unattended.begin(self._directory, self._defaults.get("unattended_seconds", 0.0))

    def _received(self) -> None:
        for _ in range(64):
            channel = self._channel
            if channel is None:
                return
            try:
                if channel.full:
                    channel.flush()
                    self._mind_room()
                message, descriptors = channel.receive()
            except BlockingIOError:
                return
            except OSError:
                self._disconnect()
                return
            self._obey(message, descriptors)

    def _obey(self, message: Message, descriptors: list[int]) -> None:
        getattr(self, f"_on_{message['type']}", self._ignore)(message, descriptors)

    def _ignore(self, message: Message, descriptors: list[int]) -> None:
        for fd in descriptors:
            os.close(fd)

    def _on_hello(self, message: Message, descriptors: list[int]) -> None:
        answer = {
            "type": "hello",
            "protocol": messages.PROTOCOL,
            "version": self._version,
            "pid": os.getpid(),
            "thread": self._thread.thread_id,
            "jobs": len(self._jobs),
            "kept": self._unattended.kept,
        }
        if message["protocol"] != messages.PROTOCOL:
            self._ignore(message, descriptors)
            self._send(answer)
            return
        self._unattended.end()
        if self._directory >= 0:
            os.close(self._directory)
        (self._directory,) = descriptors
        self._defaults = message["defaults"]
        self._keep_above = _room_above(self._defaults["descriptor_limit"][0])
        self._thread.set_defaults(self._defaults)
        self._unsent = list(self._jobs.values())
        self._send(answer)
        self._send_lot()

    def _on_pipes(self, message: Message, descriptors: list[int]) -> None:
        self._pipes.take([self._high(fd) for fd in descriptors])

    def _on_more(self, message: Message, descriptors: list[int]) -> None:
        self._send_lot()

    def _send_lot(self) -> None:
        lot, self._unsent = self._unsent[: messages.LOT], self._unsent[messages.LOT :]
        for job in lot:
            self._send(job.record(), [fd for _, fd in sorted(job.pipes.items())])
        starting = list(self._starting) if not self._unsent else []
        self._send({"type": "lot"} if self._unsent else {"type": "ready", "starting": starting})

    def _on_spawn(self, request: Message, descriptors: list[int]) -> None:
        self._on_release({"jobs": request.pop("release"), "keep": False}, [])
        job = request["job"]
        if job in self._jobs or job in self._starting:
            self._ignore(request, descriptors)
            return
        pipes: dict[int, int] = {}
        written: list[int] = []
        try:
            for child_fd in (1, 2)[: 1 + request["separate_stderr"]]:
                reading, writing = os.pipe()
                written.append(writing)
                pipes[child_fd] = self._high(reading)
                os.set_blocking(pipes[child_fd], False)
                if request["user"] is not None:
                    os.fchown(writing, request["user"][0], request["user"][1])  # or it could not open /dev/stderr anew
            self._thread.spawn(request, [*descriptors, *written])
            self._starting[job] = request, pipes
        except OSError as error:
            self._ignore(request, list(pipes.values()))
            self._send({"type": "failed", "job": job, "errno": error.errno or 11, "step": ""})
        finally:
            self._ignore(request, [*descriptors, *written])

    def _on_recall(self, message: Message, descriptors: list[int]) -> None:
        self._thread.recall()

    def _on_enforce(self, message: Message, descriptors: list[int]) -> None:
        job = self._jobs.get(message["job"])
        if job is not None:
            job.reason, job.kill_at = message["reason"], message["kill_at"]

    def _on_release(self, message: Message, descriptors: list[int]) -> None:
        for job_id in message["jobs"]:
            job = self._jobs.pop(job_id, None)
            if job is not None:
                self._release(job, message["keep"])

    def _release(self, job: HeldJob, keep: bool) -> None:
        if job.pidfd >= 0:
            self._events.unwatch(job.pidfd)
            os.close(job.pidfd)
            job.pidfd = -1
        reap(job.pid)
        self._thread.job_pids.discard(job.pid)
        if not (keep and self._unattended.keep(self._directory, job)):
            job.close()

    def _on_forget(self, message: Message, descriptors: list[int]) -> None:
        self._forgotten = set(self._starting)
        self._thread.recall()
        self._thread.kill_starting()

    def _on_quit(self, message: Message, descriptors: list[int]) -> None:
        if not self._jobs:
            self._listener.close()
            self._disconnect()

    def _result(self) -> None:
        job_id, pid, error, step = self._thread.result()
        request, pipes = self._starting.pop(job_id)
        if pid:
            self._started(request, pid, pipes)
        else:
            self._ignore({}, list(pipes.values()))
            self._send({"type": "failed", "job": job_id, "errno": error, "step": step})

    def _started(self, request: Message, pid: int, pipes: dict[int, int]) -> None:
        if request["job"] in self._forgotten:
            self._thread.job_pids.discard(pid)
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._ignore(request, list(pipes.values()))
            return
        job = self._jobs[request["job"]] = HeldJob(request, pid, ticks_now(), pipes)
        started = {"type": "started", "job": job.id, "pid": pid, "at": job.started_wall}
        message = job.record() if job.id in self._inherited else started
        self._inherited.discard(job.id)
        self._send(message, [fd for _, fd in sorted(pipes.items())])
        if self._unattended.active:
            self._unattended.add(job)
        job.pidfd = self._high(os.pidfd_open(pid))
        self._events.watch(job.pidfd, lambda: self._exited(job))

    def _exited(self, job: HeldJob) -> None:
        job.exit = exit_of(job.pid)
        if job.exit is None:
            return
        job.exit_wall = time.time()
        self._events.unwatch(job.pidfd)
        os.close(job.pidfd)
        job.pidfd = -1
        self._send({"type": "exited", "job": job.id, "exit": job.exit_record()})

    def _child_exited(self) -> None:
        """SIGCHLD: an orphan that was adopted may have exited, or a sibling of the jobs."""
        os.read(self._children, 4096)
        while (pid := exited_child_of_thread()) is not None:
            reap(pid)
        if self._sweep_at is None:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS

    def _sweep(self) -> float | None:
        assert self._sweep_at is not None
        left = self._sweep_at - time.monotonic()
        if left > 0:
            return left
        self._sweep_at = None
        if not self._starting:
            self._thread.sweep()
        return None

    def _send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """To the worker, if there is one."""
        if self._channel is None:
            return
        try:
            self._channel.send(message, descriptors or [])
            if self._channel.full:
                self._mind_room()
        except OSError:
            pass  # it is gone: what is said to it is in the records for the next; epoll tells of the end

    def _mind_room(self) -> None:
        """Be woken when there is room for what waits."""
        if self._channel is not None:
            self._events.mind_room(self._channel.fileno(), self._channel.full)

    def _high(self, fd: int) -> int:
        """
        The same, above the limit of descriptors that children start with; fd itself where there is no room.

        While a child is made that limit is ours, and a new descriptor must find a free number below it.
        """
        try:
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._keep_above)
        except OSError:
            return fd
        os.close(fd)
        return high


def _room_above(soft: int) -> int:
    """The lowest number for what is held for long: above the children's limit, if there is something above."""
    return soft if soft < resource.getrlimit(resource.RLIMIT_NOFILE)[0] else 3


def _wake_on_children() -> int:
    """A descriptor that can be read after a SIGCHLD. The first thread's, as signal.signal() is."""
    here, there = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(there, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return here
