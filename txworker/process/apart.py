"""
A thread apart that makes children, which may run on every CPU (cores.py).

Who makes a child stands still until its exec (vfork(2)), and a disk or a network that does not answer may put that
off for long. In a thread apart the reactor goes on meanwhile. The thread has a table of descriptors of its own
(close_range(2)): the kernel copies that table for each child, and so a launch costs the same however many jobs run.
What it makes are its own children, which proc(5) lists apart from the orphans that the worker adopts.

Where we may, it is a real-time thread of the lowest priority (sched(7)), whose children are ordinary again. The kernel
likes to wake it on the CPU of the child that has just exec'ed; an ordinary thread waits there for its turn, half a
millisecond or more, and a queue of launches with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from txworker.cores import NOBODY_PINNED, Cores
from txworker.process.procfs import children_of_thread
from txworker.process.readable import Descriptor, ReactorWithReaders

_CLONE_FS = 0x200  # <linux/sched.h>
_CLOSE_RANGE_UNSHARE = 2  # <linux/close_range.h>
_PIDFD_GETFD = 438  # the same number on every architecture
_ALL = 0xFFFF_FFFF
_STARTING_SECONDS = 10.0
_CLOSING_SECONDS = 1.0

Make = Callable[[Mapping[int, int]], int]
"""Makes a child that is given these descriptors, by their numbers there; returns its pid."""

Done = queue.SimpleQueue[BaseException | None]


class Apart:
    """
    A thread apart, which tells the reactor of what it has made. It never logs: the log's descriptor is the others'.

    umask is what children have. `problem` says why it has no real-time priority; empty when it has.

    Raises:
        AttributeError: libc or Python lack what it takes.
        OSError: the kernel does, or a sandbox forbids it.
    """

    def __init__(self, reactor: ReactorWithReaders, umask: int, cores: Cores = NOBODY_PINNED) -> None:
        self._umask = umask
        self._cores = cores
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._made: deque[tuple[Deferred[int], int | Failure]] = deque()
        self._us = self._its_bell = -1
        self.problem = ""
        self._over = False
        bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._thread = threading.Thread(target=self._run, name="txworker-launch", daemon=True)
            prepared = self._ask(lambda: self._prepare(bell))
            self._thread.start()
            _outcome(prepared, _STARTING_SECONDS)
        except BaseException:
            self._over = True  # should it only be late
            os.close(bell)
            raise
        self._bell = Descriptor(reactor, bell, self._rung)
        self.thread_id = self._thread.native_id or 0

    def make(self, make: Make, descriptors: Mapping[int, int]) -> Deferred[int]:
        """As Place (place.py) has it."""
        made: Deferred[int] = Deferred(lambda _: None)

        def order() -> None:
            self._made.append((made, self._result(make, descriptors)))
            os.eventfd_write(self._its_bell, 1)

        self._orders.put(order)
        return made

    def close(self, last: Callable[[], None]) -> None:
        """As Place (place.py) has it; a hanging launch is waited for for a second, then killed. Again is harmless."""
        if self._over:
            return

        def end() -> None:
            last()
            self._over = True

        done = self._ask(end)
        try:
            _outcome(done, _CLOSING_SECONDS)
        except TimeoutError:
            for pid in children_of_thread(self.thread_id):
                os.kill(pid, signal.SIGKILL)
            with suppress(TimeoutError):
                _outcome(done, _CLOSING_SECONDS)
        self._bell.close()

    def _ask(self, call: Callable[[], None]) -> Done:
        """Have the thread do that; one that fails is the last."""
        done: Done = queue.SimpleQueue()

        def order() -> None:
            try:
                call()
            except BaseException as error:
                self._over = True
                done.put(error)
            else:
                done.put(None)

        self._orders.put(order)
        return done

    def _rung(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell.fileno())
        while self._made:
            made, result = self._made.popleft()
            made.callback(result)

    def _run(self) -> None:
        while not self._over:
            self._orders.get()()

    def _prepare(self, bell: int) -> None:
        """
        From here on numbers of descriptors mean something else in this thread, but for 0, 1 and 2.

        So a signal must not be taken here: Python's handler would write to the wrong descriptor.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _check(self._libc.close_range(ctypes.c_uint(3), ctypes.c_uint(_ALL), ctypes.c_int(_CLOSE_RANGE_UNSHARE)))
        self._us = os.pidfd_open(os.getpid())
        self._its_bell = self._fetched(bell)
        self._set_umask()
        self._cores.roam()
        self.problem = _become_urgent()

    def _set_umask(self) -> None:
        """Children inherit this thread's, which is its own from then on (unshare(2))."""
        ours = os.umask(self._umask)
        if ours != self._umask:
            os.umask(ours)
            _check(self._libc.unshare(ctypes.c_int(_CLONE_FS)))
            os.umask(self._umask)

    def _result(self, make: Make, descriptors: Mapping[int, int]) -> int | Failure:
        try:
            with self._here(descriptors) as here:
                return make(here)
        except BaseException as error:  # whatever it is, the caller must hear of it
            _let_go(error)
            return Failure()

    @contextmanager
    def _here(self, descriptors: Mapping[int, int]) -> Iterator[Mapping[int, int]]:
        """The same open files in this thread's own table."""
        here: dict[int, int] = {}
        try:
            for fd in descriptors.values():
                if fd not in here:
                    here[fd] = self._fetched(fd)
            yield {child_fd: here[fd] for child_fd, fd in descriptors.items()}
        finally:
            for fd in here.values():
                os.close(fd)

    def _fetched(self, fd: int) -> int:
        """Source: pidfd_getfd(2); what a pidfd stands for is the first thread's table, which is the reactor's."""
        numbers = ctypes.c_long(_PIDFD_GETFD), ctypes.c_int(self._us), ctypes.c_int(fd), ctypes.c_uint(0)
        return _check(self._libc.syscall(*numbers))


def _become_urgent() -> str:
    """This thread gets real-time priority, and what it makes does not; or why not."""
    if os.sched_getscheduler(0) != os.SCHED_OTHER or os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return "the worker has a priority of its own (nice, chrt), which jobs would not inherit then"
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError as error:
        return str(error)
    return ""


def _let_go(error: BaseException | None) -> None:
    """
    Nothing that was held where it was raised is held by it any more.

    Whoever frees it last is in another thread, where the number of a descriptor of ours is somebody else's.
    """
    if error is not None:
        traceback.clear_frames(error.__traceback__)
        _let_go(error.__cause__)
        _let_go(error.__context__)


def _outcome(done: Done, within_seconds: float) -> None:
    try:
        error = done.get(timeout=within_seconds)
    except queue.Empty as empty:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from empty
    if error is not None:
        raise error


def _check(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
