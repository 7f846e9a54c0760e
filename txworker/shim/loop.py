"""
The shim's loop: holds the processes that were started for the worker, reports their exits, reaps them, and stands in
for a worker that is gone.

It never opens, enters or executes a path that a job names; the spawn thread does (spawn_thread.py), which also takes
the worker's requests.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress

from txworker.linux.wait import reap
from txworker.shim import messages
from txworker.shim.children_limit import HighNumbers
from txworker.shim.events import Events
from txworker.shim.exits import Exits
from txworker.shim.failures import Failures
from txworker.shim.feeding import Feeding
from txworker.shim.held_job import HeldJob, hold
from txworker.shim.intermediate import IntermediatePipes
from txworker.shim.messages import SOCKET_NAME, Message, close_all
from txworker.shim.reachability import Reachability
from txworker.shim.reaping import Reaping
from txworker.shim.spawn_thread import Result, SpawnThread
from txworker.shim.unattended import Unattended
from txworker.shim.worker_connection import WorkerConnection

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

_FIRST_WORKER_SECONDS = 30.0
"""If no worker connects within this time after the shim's start, the worker that started it is dead."""

_WITHOUT_WORKER_SECONDS = 1.0
"""How often the loop checks whether it may end, while no worker is connected."""

_NEEDED = {"listen": 2, "pipes": 2}
"""How many descriptors a message has at least."""


class Loop:
    """
    listener: where workers connect. reachability: whether they find it. version: of the package, for people.

    Every method _on_<type> is called with the messages of that type (messages.py), and their descriptors.
    """

    def __init__(self, listener: socket.socket, reachability: Reachability, thread: SpawnThread, version: str) -> None:
        self._reachability = reachability
        self._thread = thread
        self._version = version
        self._failures = Failures()
        self._events = Events(self._failures.report)
        self._worker = WorkerConnection(self._events, listener, self._received, self._worker_lost, thread.lift_limit)
        self._jobs: dict[str, HeldJob] = {}
        self._inherited: set[str] = set()  # jobs that are being started because an earlier worker requested them
        self._unwanted: set[str] = set()  # jobs that are being started although no worker wants them any more
        self._pipes = IntermediatePipes()
        self._numbers = HighNumbers(thread.lift_limit)
        self._unattended = Unattended(self._events, self._jobs, self._pipes, self._numbers.high)
        self._exits = Exits(self._events, self._numbers, thread.lift_limit, self._exited)
        self._fed_on: dict[str, Feeding] = {}  # the input of kept leftovers, by the job, which is over
        self._directory = -1
        self._defaults: dict[str, Any] = {}
        self._unsent: list[HeldJob] = []
        self._had_worker = False
        self._jobs_settled = False  # a worker has settled what earlier shims left
        self._deadline = time.monotonic() + _FIRST_WORKER_SECONDS
        self._reaping = Reaping(thread)
        thread.is_held = self._jobs.__contains__

    def run(self) -> None:
        """Run until there are neither jobs nor a worker, or no worker can come for jobs that have ended."""
        self._events.watch(self._thread.fileno(), self._take_results)
        self._events.watch(self._reaping.fileno(), self._child_exited)
        while not self._is_over():
            self._turn()
        self._refuse_workers()
        self._events.close()

    def _turn(self) -> None:
        try:
            self._events.wait(self._seconds_to_wait())
        except Exception:
            self._failures.report()

    def _is_over(self) -> bool:
        if self._worker.is_open or self._unattended.keeps or self._fed_on:
            return False
        if self._inherited or self._thread.pending():
            return False
        if self._jobs and not (self._unattended.abandoned and all(job.is_over for job in self._jobs.values())):
            return False
        return self._had_worker or time.monotonic() > self._deadline

    def _refuse_workers(self) -> None:
        """From now on no worker connects. The next one is told whether a job that it misses may have a process."""
        if self._jobs_settled and not self._jobs:
            self._reachability.mark_ended()
        self._worker.refuse()

    def _seconds_to_wait(self) -> float | None:
        """Do what is due; returns the seconds until something else is, or None when only an event counts."""
        if not self._worker.is_open and self._reachability.is_lost() and self._jobs and not self._unattended.abandoned:
            self._abandon()
        waits = self._reaping.proceed()
        if not self._worker.is_open:  # nor while one has connected and says hello next: it takes the jobs over
            deadline = self._unattended.enforce()
            if deadline is not None:
                waits.append(deadline)
            waits.append(_WITHOUT_WORKER_SECONDS)
        return min(waits, default=None)

    def _abandon(self) -> None:
        """End all jobs, because no worker will ever connect."""
        running = sum(job.exit is None for job in self._jobs.values())
        jobs = "1 job" if running == 1 else f"{running} jobs"
        with suppress(OSError):  # the disk is full
            print(
                f"{time.strftime('%FT%T%z')} The shim (pid {os.getpid()}) has no worker, and none can connect, because"
                f" {SOCKET_NAME} was removed from the state directory: ending {jobs}.",
                file=sys.stderr,
                flush=True,
            )
        self._unattended.abandon()
        self._forget_starting()

    def _worker_lost(self) -> None:
        self._unsent.clear()
        self._inherit()
        self._had_worker = True
        if self._directory >= 0 and not self._unattended.active:
            self._unattended.begin(self._directory, self._defaults.get("unattended_seconds", 0.0))

    def _inherit(self) -> None:
        """The worker has gone: what it had requested is started all the same."""
        left = self._thread.disconnect()
        self._take_results()
        self._inherited |= self._thread.pending()
        for request, descriptors in left:
            with suppress(OSError):  # the thread hangs, and thousands wait, or no memory: the job was not started
                self._thread.spawn(request, descriptors)
                self._inherited.add(request["job"])
            close_all(descriptors)

    def _received(self, message: Message, descriptors: list[int]) -> None:
        needed = _NEEDED.get(message["type"], 0)
        if len(descriptors) < needed or (needed and messages.SHORT in message):  # no numbers were free for all
            close_all(descriptors)
            self._worker.send({"type": "refused", "of": message["type"]})
            return
        if self._thread.has_results:  # the message may be about a job that just began
            self._take_results()
        getattr(self, f"_on_{message['type']}", self._on_unknown)(message, descriptors)

    def _on_unknown(self, message: Message, descriptors: list[int]) -> None:
        close_all(descriptors)

    def _on_hello(self, message: Message, descriptors: list[int]) -> None:
        answer = {
            "type": "hello",
            "protocol": messages.PROTOCOL,
            "version": self._version,
            "pid": os.getpid(),
            "thread": self._thread.thread_id,
            "jobs": len(self._jobs) + len(self._inherited),
            "kept": self._unattended.kept,
        }
        if message["protocol"] != messages.PROTOCOL:
            close_all(descriptors)
            self._worker.send(answer)
            return
        if not descriptors:  # no number was free for it
            self._worker.close()
            return
        self._unattended.end()
        if message.get("serving", True):
            self._worker_serves()
        if self._directory >= 0:
            os.close(self._directory)
        (self._directory,) = descriptors
        self._defaults = message["defaults"]
        self._numbers.above = self._thread.limit.lowest_kept(self._defaults["descriptor_limit"][0])
        try:
            self._thread.set_defaults(self._defaults)
            self._inherit()
            requests = self._thread.connect()
        except OSError:  # the thread hangs, and too many workers have come and gone meanwhile; or no descriptor is free
            self._worker.close()
            return
        self._unsent = list(self._jobs.values())
        with requests:
            self._worker.send(answer, [requests.fileno()])
        self._send_batch()

    def _on_serving(self, message: Message, descriptors: list[int]) -> None:
        self._worker_serves()

    def _worker_serves(self) -> None:
        self._jobs_settled = True
        self._unattended.worker_serves()

    def _on_listen(self, message: Message, descriptors: list[int]) -> None:
        listener, directory = map(self._numbers.high, descriptors)
        self._worker.listen_at(socket.socket(fileno=listener))
        self._reachability.close()
        self._reachability = Reachability(directory)

    def _on_pipes(self, message: Message, descriptors: list[int]) -> None:
        self._pipes.take([self._numbers.high(fd) for fd in descriptors])

    def _on_more(self, message: Message, descriptors: list[int]) -> None:
        self._send_batch()

    def _send_batch(self) -> None:
        """The next records of the jobs, for a worker that takes them over."""
        batch, self._unsent = self._unsent[: messages.BATCH_JOBS], self._unsent[messages.BATCH_JOBS :]
        for job in batch:
            self._worker.send(job.record(), [fd for _, fd in sorted(job.pipes.items())])
        starting = [] if self._unsent else sorted(self._inherited)
        self._worker.send({"type": "lot"} if self._unsent else {"type": "ready", "starting": starting})

    def _on_recall(self, message: Message, descriptors: list[int]) -> None:
        self._thread.recall()

    def _on_feed(self, message: Message, descriptors: list[int]) -> None:
        job = self._jobs.get(message["job"])
        if job is None or job.stdin is None or job.stdin.busy:  # it is over, or it cannot be fed: no worker asks for it
            close_all(descriptors)
            return
        if messages.SHORT in message:
            record = {**job.stdin.record(), "refused": True}
            self._worker.send({"type": "fed", "job": job.id, "stdin": record})
            return
        job.stdin.add(self._numbers.high(descriptors[0]) if descriptors else -1, message["end"])

    def _fed(self, job_id: str) -> None:
        """Everything that was put into the job's input is in the pipe, or the input is closed."""
        self._fed_on.pop(job_id, None)
        job = self._jobs.get(job_id)
        if job is not None and job.stdin_record() is not None:
            self._worker.send({"type": "fed", "job": job_id, "stdin": job.stdin_record()})

    def _on_enforce(self, message: Message, descriptors: list[int]) -> None:
        job = self._jobs.get(message["job"])
        if job is not None:
            job.reason, job.kill_at = message["reason"], message["kill_at"]

    def _on_lost(self, message: Message, descriptors: list[int]) -> None:
        job = self._jobs.get(message["job"])
        if job is not None:
            job.set_lost(message["child_fd"], message["bytes"])

    def _on_resize(self, message: Message, descriptors: list[int]) -> None:
        job = self._jobs.get(message["job"])
        if job is not None and job.terminal is not None:
            job.terminal.resize(message["rows"], message["columns"])

    def _on_release(self, message: Message, descriptors: list[int]) -> None:
        for job_id in message["jobs"]:
            job = self._jobs.pop(job_id, None)
            if job is not None:
                self._release(job, message["keep"])

    def _release(self, job: HeldJob, keep: bool) -> None:
        self._exits.forget(job)
        self._thread.newest = 0  # some are free now; the next job tells how many
        if job.stdin is not None:
            self._release_stdin(job.id, job.stdin, keep)
        if not (keep and self._unattended.keep(self._directory, job)):
            job.close()
        reap(job.pid)
        self._thread.job_pids.discard(job.pid)

    def _release_stdin(self, job_id: str, stdin: Feeding, keep: bool) -> None:
        if keep and stdin.busy:
            self._fed_on[job_id] = stdin
            stdin.end()
        else:
            stdin.close()

    def _on_forget(self, message: Message, descriptors: list[int]) -> None:
        self._forget_starting()

    def _forget_starting(self) -> None:
        for _, descriptors in self._thread.disconnect():
            close_all(descriptors)
        self._unwanted = self._inherited | self._thread.pending()
        self._thread.kill_starting()

    def _on_quit(self, message: Message, descriptors: list[int]) -> None:
        if not self._jobs and not self._inherited:
            self._refuse_workers()

    def _take_results(self) -> None:
        for result, descriptors in self._thread.results():
            job_id = result.request["job"]
            if result.pid:
                self._started(job_id, result, [self._numbers.high(fd) for fd in descriptors])
            elif job_id in self._inherited:
                self._worker.send({"type": "failed", "job": job_id, "errno": result.errno, "step": result.step})
            self._inherited.discard(job_id)
            self._unwanted.discard(job_id)

    def _started(self, job_id: str, result: Result, descriptors: list[int]) -> None:
        if job_id in self._unwanted:
            self._thread.discard(result.pid)
            close_all(descriptors)
            return
        try:
            job = hold(result, descriptors, self._events, lambda: self._fed(job_id))
        except OSError:
            job = HeldJob(result, {})
        self._jobs[job_id] = job
        self._thread.newest = max(descriptors, default=0)
        if result.stdin_waits and job.stdin is not None and not job.stdin.busy:
            self._fed(job_id)
        if job_id in self._inherited:
            self._worker.send(job.record(), [fd for _, fd in sorted(job.pipes.items())])
        if self._unattended.active:
            self._unattended.add(job)
        self._exits.watch(job)

    def _exited(self, job: HeldJob) -> None:
        if job.terminal is not None:
            job.terminal.leader_exited()
        self._worker.send({"type": "exited", "job": job.id, "exit": job.exit_record()})

    def _child_exited(self) -> None:
        """After SIGCHLD."""
        self._reaping.child_exited()
        self._exits.look()
