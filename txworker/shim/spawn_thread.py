"""
The thread that starts jobs' processes, one after another.

vfork suspends the calling thread until the child execs, and a disk or a network that does not answer may delay the exec
for long. In a thread of its own, such an exec delays other launches, but no exit, no output and no takeover.
The thread takes the worker's requests and answers them itself (requests.py), because to wake a thread for each is most
of what a start costs. The loop gets each process that runs before the worker is told of it.
The thread has its own descriptor table, because the kernel copies the table for each child, and its own umask and
working directory. Job leaders are its children; orphans that the shim adopts are children of the main thread, to which
the kernel gives them.
"""

from __future__ import annotations

import array
import errno
import os
import resource
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from txworker.linux.clock import boot_seconds, boot_ticks
from txworker.linux.threads import own_descriptor_table, own_umask, set_name
from txworker.linux.wait import reap
from txworker.shim.children_limit import ChildrenLimit
from txworker.shim.ends import Ends
from txworker.shim.failures import Failures
from txworker.shim.requests import Requests
from txworker.shim.spawner import Spawner, SpawnRequest, children_of

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

    Defaults = Mapping[str, Any]
else:
    Defaults = Mapping

_MOST_DESCRIPTORS = 8
"""That a job is held by, and more than it ever is."""

_SPARE_DESCRIPTORS = 32
"""Free when a job is started, of a limit of 256 or more: for the next worker's connection, and for what is fed."""

_CLONE_SECONDS = 0.02
"""A child is cloned within this time, also where the kernel moves another process to a cgroup (11 ms)."""

_CLONE_CHECK_SECONDS = 0.0002

_TRIES = 100
_PAUSE_SECONDS = 0.01
"""Between two tries to tell the loop of a result."""


class Result:
    """
    A start that has succeeded or failed: pid (0: there is no process); then errno, and the step that failed; or else
    when it began (wall_time by the job's clock; clock ticks since boot), and what the job is held by: the names of the
    descriptors (Ends.kept), the bytes of stdin that are in the pipe, and whether the worker was told that more wait.
    """

    def __init__(self, request: SpawnRequest, pid: int, number: int = 0, step: str = "") -> None:
        self.request = request
        self.pid = pid
        self.errno = number
        self.step = step
        self.wall_time = boot_seconds() + request["ahead"]
        self.ticks = boot_ticks()
        self.names: Sequence[str] = ()
        self.fed = 0
        self.stdin_waits = False


class SpawnThread:
    """
    The descriptor fileno() can be read when a start has succeeded or failed; then call results(). The methods are for
    the loop's thread.

    job_pids: the processes that were started here and not released since. newest: the highest number among the loop's
    newest descriptors, which have the lowest free ones; set by the loop. is_held(job_id) tells whether the loop has
    that job, which then fails to start again (EEXIST); it is called in the thread. limit: that of the children's
    descriptors.
    """

    def __init__(self) -> None:
        self.job_pids: set[int] = set()
        self.thread_id = 0
        self.newest = 0
        self.limit = ChildrenLimit()
        self.is_held: Callable[[str], bool] = lambda job_id: False
        self._requests = Requests()
        self._results: deque[Result] = deque()
        self._tasks: deque[tuple[str, Any]] = deque()
        self._loop_end, self._thread_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._loop_end.setblocking(False)
        self._failures = Failures()
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

    @property
    def has_results(self) -> bool:
        """Whether results() returns some, now or in a moment."""
        return bool(self._results)

    def pending(self) -> set[str]:
        """The jobs that are begun, and whose results have not been taken."""
        starting = self._requests.starting  # first: a job is in _results before it is no longer the one
        return {starting, *(result.request["job"] for result in list(self._results))} - {""}

    def results(self) -> Iterator[tuple[Result, list[int]]]:
        """The results that there are, each with the descriptors that it names."""
        with suppress(BlockingIOError):
            while True:
                descriptors = _receive(self._loop_end)
                yield self._results.popleft(), descriptors

    @property
    def starting(self) -> str:
        """The job that is being started; empty if there is none."""
        return self._requests.starting

    def connect(self) -> socket.socket:
        """From now on requests come from the other end of the result, which the caller closes; the worker gets it."""
        theirs, ours, number = self._requests.connect()
        with ours:
            self._put("attach", number, [ours.fileno()])
        return theirs

    def disconnect(self) -> list[tuple[SpawnRequest, list[int]]]:
        """As Requests.disconnect()."""
        return self._requests.disconnect()  # type: ignore[return-value]  # a Message is one

    def spawn(self, request: SpawnRequest, descriptors: Sequence[int]) -> None:
        """
        Start what a worker that has gone had requested, in its turn. The descriptors stay the caller's.

        Raises:
            BlockingIOError: the thread hangs, and too many tasks wait.
        """
        self._put("spawn", request, descriptors)

    def recall(self) -> None:
        """Let the starts that wait fail with RECALLED."""
        self._requests.recall()

    def set_defaults(self, defaults: Defaults) -> None:
        """Set what jobs inherit from now on."""
        self._put("defaults", defaults)

    def reap_others(self) -> None:
        """Reap the thread's exited children that are not job leaders: a job started them with CLONE_PARENT."""
        self._put("reap", None)

    def discard(self, pid: int) -> None:
        """Kill a process that was started here and is not wanted. If it has not exited yet, reap_others() reaps it."""
        self.job_pids.discard(pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        reap(pid)

    def kill_starting(self) -> None:
        """Kill the child that hangs in its exec."""
        for pid in self._others():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def lift_limit(self) -> bool:
        """
        While a child is started: raise the limit of descriptors to the shim's own, once the child is cloned. Returns
        whether it is the shim's own now. Costs a look at all children, and blocks for _CLONE_SECONDS at most.
        """
        end = time.monotonic() + _CLONE_SECONDS
        while not self.limit.lift(lambda: bool(self._others())):
            if time.monotonic() > end:
                return False
            time.sleep(_CLONE_CHECK_SECONDS)
        return True

    def _others(self) -> list[int]:
        """The thread's children that are not job leaders: the one that is being started, and children of jobs."""
        return [pid for pid in children_of(os.getpid(), self.thread_id) if pid not in self.job_pids]

    def _put(self, kind: str, what: Any, descriptors: Sequence[int] = ()) -> None:
        """
        Raises:
            BlockingIOError: the thread hangs, and too many tasks wait.
        """
        self._tasks.append((kind, what))
        try:
            _send(self._loop_end, descriptors)
        except OSError:
            self._tasks.pop()
            raise

    def _run(self) -> None:
        try:
            self.thread_id = threading.get_native_id()
            set_name("spawn")
            own_descriptor_table(self._thread_end.fileno())
            self._no_input = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._spawner = Spawner(self.limit)
            self._poll = select.poll()
            self._poll.register(self._thread_end, select.POLLIN)
        except BaseException as error:
            self._problem = error
            return
        finally:
            self._ready.set()
        while True:
            self._next()

    def _next(self) -> None:
        try:
            for fd, _ in self._poll.poll():
                if fd == self._thread_end.fileno():
                    self._task()
                else:
                    self._request()
        except Exception:  # without this thread no job could start
            self._failures.report()

    def _task(self) -> None:
        descriptors = _receive(self._thread_end)
        kind, what = self._tasks.popleft()
        if kind == "attach":
            self._detach()
            (fd,) = descriptors
            self._poll.register(self._requests.attach(what, socket.socket(fileno=fd)), select.POLLIN)
        elif kind == "spawn":
            self._requests.begin_left(what["job"])
            self._begin(what, descriptors)
        elif kind == "reap":
            self._reap_others()
        else:
            self._set_defaults(what)

    def _detach(self) -> None:
        fd = self._requests.detach()
        if fd is not None:
            self._poll.unregister(fd)

    def _set_defaults(self, defaults: Defaults) -> None:
        self._spawner.environment = defaults["environment"]
        self.limit.set(*defaults["descriptor_limit"])
        own_umask(defaults["umask"])

    def _request(self) -> None:
        try:
            begun = self._requests.begin()
        except ConnectionError:  # the worker has gone
            self._detach()
            return
        if begun is not None:
            self._begin(*begun)

    def _begin(self, request: SpawnRequest, descriptors: list[int]) -> None:
        ends = Ends(request, descriptors)
        try:
            self._spawn(request, ends)
        finally:
            ends.close()

    def _spawn(self, request: SpawnRequest, ends: Ends) -> None:
        try:
            self._check_room()
            if self.is_held(request["job"]):
                raise FileExistsError(errno.EEXIST, "the shim has a job of that id")
            ends.make()
            descriptors = {0: self._no_input, **ends.child}
            self._spawner.spawn(request, descriptors, lambda pid: self._started(request, pid, ends))
        except OSError as error:
            self._failed(Result(request, 0, error.errno or errno.EAGAIN, str(error.filename or "")))
        except Exception:  # a bug: the worker gets EINVAL
            self._failures.report()
            self._failed(Result(request, 0, errno.EINVAL))

    def _check_room(self) -> None:
        """
        Raises:
            OSError: too few descriptors are free. If none were, no worker could connect, and take the jobs over.
        """
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        coming = self.newest + _MOST_DESCRIPTORS * len(self._results)
        if coming >= limit - min(_SPARE_DESCRIPTORS, limit // 8):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _started(self, request: SpawnRequest, pid: int, ends: Ends) -> None:
        self.job_pids.add(pid)
        result = Result(request, pid)
        result.names, result.fed = list(ends.kept), ends.fed
        stdin = None
        if request["feed"]:
            result.stdin_waits = ends.waits
            stdin = {"taken": 0, "busy": result.stdin_waits, "open": True}
        message = {"type": "started", "job": request["job"], "pid": pid, "at": result.wall_time, "stdin": stdin}
        self._results.append(result)
        self._requests.end()
        try:
            self._tell_loop(list(ends.kept.values()))
        except OSError:  # too many are in flight (ETOOMANYREFS, unix(7)): the loop ends the job
            self._tell_loop()
        self._requests.answer(message, ends.outputs)

    def _failed(self, result: Result) -> None:
        failed = {"type": "failed", "job": result.request["job"], "errno": result.errno, "step": result.step}
        self._results.append(result)
        self._requests.end()
        self._tell_loop()
        self._requests.answer(failed)

    def _tell_loop(self, descriptors: Sequence[int] = ()) -> None:
        """
        There is a result, with these descriptors. While the kernel lacks memory, it is tried again.

        Raises:
            OSError: it still lacks memory, or too many descriptors are in flight.
        """
        for _ in range(_TRIES):
            with suppress(OSError):
                _send(self._thread_end, descriptors)
                return
            time.sleep(_PAUSE_SECONDS)
        _send(self._thread_end, descriptors)

    def _reap_others(self) -> None:
        for pid in self._others():
            reap(pid)


def _send(end: socket.socket, descriptors: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([b"."], rights)


def _receive(end: socket.socket) -> list[int]:
    _, ancillary, _, _ = end.recvmsg(1, socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    return descriptors.tolist()
