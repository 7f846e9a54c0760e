"""
The thread that starts jobs' processes, one after another.

vfork suspends the calling thread until the child execs, and a disk or a network that does not answer may delay the exec
for long. In a thread of its own, such an exec delays other launches, but no exit, no output and no takeover.
The thread has its own descriptor table, because the kernel copies the table for each child, and its own umask and
working directory. Job leaders are its children; orphans that the shim adopts are children of the main thread, to which
the kernel gives them.
"""

from __future__ import annotations

import array
import errno
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from txworker.linux.threads import own_descriptor_table, own_umask, set_name
from txworker.linux.wait import reap
from txworker.shim.messages import RECALLED
from txworker.shim.spawner import Spawner, SpawnRequest

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

    Defaults = Mapping[str, Any]
else:
    Defaults = Mapping

Result = tuple[str, int, int, str]
"""Job id, pid (0: there is no process), errno, the step that failed."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class SpawnThread:
    """
    The descriptor fileno() can be read when a start has succeeded or failed; then call result(). The methods are for
    the loop's thread.

    job_pids: the processes that were started here and not released since.
    """

    def __init__(self) -> None:
        self._results: deque[Result] = deque()
        self.job_pids: set[int] = set()
        self.thread_id = 0
        self._tasks: deque[tuple[str, Any]] = deque()
        self._recalled: set[str] = set()
        self._loop_end, self._thread_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._loop_end.setblocking(False)
        self._ready = threading.Event()
        self._problem: BaseException | None = None

    def start(self) -> None:
        """
        Start the thread.

        Raises:
            OSError: the kernel lacks what the thread needs.
            AttributeError: libc lacks it.
        """
        threading.Thread(target=self._run, name="spawn", daemon=True).start()
        self._ready.wait()
        if self._problem is not None:
            raise self._problem

    def fileno(self) -> int:
        """The descriptor that can be read when there is a result."""
        return self._loop_end.fileno()

    def result(self) -> Result:
        """The next result."""
        self._loop_end.recv(1)
        return self._results.popleft()

    def set_defaults(self, defaults: Defaults) -> None:
        """Set what jobs inherit from now on."""
        self._put("defaults", defaults, ())

    def spawn(self, request: SpawnRequest, descriptors: Sequence[int]) -> None:
        """
        Start this in its turn. descriptors: its terminal; or stdin if the job has one, stdout, and stderr if it is
        separate.
        """
        self._put("spawn", request, descriptors)

    def reap_others(self) -> None:
        """Reap the thread's exited children that are not job leaders: a job started them with CLONE_PARENT."""
        self._put("reap", None, ())

    def recall(self) -> None:
        """Let the starts that wait fail with RECALLED."""
        self._recalled.update(request["job"] for kind, request in list(self._tasks) if kind == "spawn")

    def kill_starting(self) -> None:
        """Kill the child that hangs in its exec."""
        for pid in children_of_thread(self.thread_id):
            if pid not in self.job_pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _put(self, kind: str, what: Any, descriptors: Sequence[int]) -> None:
        """
        Raises:
            BlockingIOError: the thread hangs, and too many tasks wait.
        """
        self._tasks.append((kind, what))
        try:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            self._loop_end.sendmsg([b"."], rights)
        except OSError:
            self._tasks.pop()
            raise

    def _run(self) -> None:
        try:
            self.thread_id = threading.get_native_id()
            set_name("spawn")
            own_descriptor_table(self._thread_end.fileno())
            self._no_input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._spawner = Spawner()
        except BaseException as error:
            self._problem = error
            return
        finally:
            self._ready.set()
        while True:
            self._next()

    def _next(self) -> None:
        _, ancillary, _, _ = self._thread_end.recvmsg(1, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data)
        kind, what = self._tasks.popleft()
        if kind == "spawn":
            self._spawn(what, descriptors.tolist())
        elif kind == "reap":
            self._reap_others()
        else:
            self._set_defaults(what)

    def _set_defaults(self, defaults: Defaults) -> None:
        self._spawner.environment = defaults["environment"]
        self._spawner.descriptor_limit = tuple(defaults["descriptor_limit"])
        own_umask(defaults["umask"])

    def _spawn(self, request: SpawnRequest, descriptors: list[int]) -> None:
        job = request["job"]
        try:
            self._start(request, descriptors)
        except OSError as error:
            self._answer((job, 0, error.errno or 1, str(error.filename or "")))
        except Exception:  # a bug: the worker gets EINVAL, and shim.log the traceback
            traceback.print_exc()
            self._answer((job, 0, errno.EINVAL, ""))
        finally:
            for fd in descriptors:
                os.close(fd)

    def _start(self, request: SpawnRequest, descriptors: list[int]) -> None:
        job = request["job"]
        if job in self._recalled:
            self._recalled.discard(job)
            raise OSError(1, RECALLED, RECALLED)
        fds = self._by_child_fd(request, descriptors)
        self._spawner.spawn(request, fds, lambda pid: self._answer((job, pid, 0, "")))

    def _answer(self, result: Result) -> None:
        if result[1]:
            self.job_pids.add(result[1])
        self._results.append(result)
        self._thread_end.send(b".")

    def _by_child_fd(self, request: SpawnRequest, descriptors: list[int]) -> dict[int, int]:
        if request["terminal"]:
            return dict.fromkeys((0, 1, 2), descriptors[0])
        has_input = request["stdin"] or request["feed"]
        stdin, *outputs = descriptors if has_input else [self._no_input, *descriptors]
        return {0: stdin, 1: outputs[0], 2: outputs[-1]}

    def _reap_others(self) -> None:
        for pid in children_of_thread(self.thread_id):
            if pid not in self.job_pids:
                reap(pid)


def children_of_thread(thread_id: int) -> list[int]:
    """The children of one of this process's threads."""
    with open(f"/proc/self/task/{thread_id}/children") as file:
        return list(map(int, file.read().split()))


def ticks_now() -> int:
    """Clock ticks since boot, as the kernel counts the start of a process."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND)
