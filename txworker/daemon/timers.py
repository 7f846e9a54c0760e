"""What the worker does again and again: its sign of life, looks at the output files, retention, giving memory back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.internet import TimerService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from txworker.base.logs import Logger
from txworker.base.reactor import Clock, Timer
from txworker.config import Jobs
from txworker.daemon import memory
from txworker.daemon.clockwatch import ClockWatch
from txworker.daemon.repeating import repeating
from txworker.daemon.shim_watch import ShimWatch
from txworker.jobs import Retention
from txworker.linux.procfs import ProcessTable
from txworker.output.output_directory import OutputDirectory
from txworker.ports import NO_OBSERVER, Observer
from txworker.process.reconnecting_shim import ReconnectingShim
from txworker.process.shim_socket import SocketWatch as ShimSocketWatch
from txworker.rpc.control import SocketWatch
from txworker.store.jobs import JobStore
from txworker.store.lease import BEAT_SECONDS, Lease
from txworker.worker.readiness import OUTPUT, Readiness
from txworker.worker.retention import RetentionService
from txworker.worker.viewers import Viewers

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often the output directory and the files of running jobs are compared with what is open."""

LAG_SECONDS = 1.0
"""Between two measurements of the reactor's lag."""

_log = Logger()


def heartbeat(store: JobStore) -> TimerService:
    """Renews the lease; and looks whether the wall clock was set."""
    clock = ClockWatch(time.time, store.lease.elapsed, store.lease.stepped)

    def beat() -> None:
        clock.look()
        store.beat()

    return repeating(BEAT_SECONDS, beat)


def socket_watch(state_directory: Path) -> TimerService:
    """Looks whether the operator's socket was removed. Stop it before the server, which removes it itself."""
    return repeating(BEAT_SECONDS, SocketWatch(state_directory).look)


def shim_watches(
    state_directory: Path, shim: ReconnectingShim | None, lease: Lease, readiness: Readiness
) -> list[TimerService]:
    """Make the shim's socket again when it was removed, and tell of a stopped shim. None where there is no shim."""
    if shim is None:
        return []
    watches = (
        ShimSocketWatch(state_directory, shim, lambda: not lease.problem()),
        ShimWatch(shim, readiness, ProcessTable()),
    )
    return [repeating(BEAT_SECONDS, watch.look) for watch in watches]


def output_watch(outputs: OutputDirectory, reactor: Any, readiness: Readiness) -> TimerService:
    """
    Looks for outside changes to output files, in a thread: a disk that hangs must not block the reactor. While one
    check is still under way the next is left out, so that at most one thread hangs. The worker is not ready while no
    output can be made.
    """
    under_way = False

    def look() -> None:
        nonlocal under_way
        if not under_way:
            under_way = True
            looked = _in_thread(reactor, outputs.check)
            looked.addErrback(lambda failure: _log.failure("looking for changes of output files", failure))
            looked.addCallback(lambda _: look_ended())

    def look_ended() -> None:
        nonlocal under_way
        under_way = False
        if outputs.problem:
            readiness.begin(OUTPUT, outputs.problem)
        elif OUTPUT in readiness.reasons:
            readiness.end(OUTPUT)

    return repeating(LOOK_SECONDS, look)


class LagWatch(Service):
    """Measures how late the reactor is: turned(seconds) tells how late a call came that is due each second."""

    def __init__(self, clock: Clock, turned: Callable[[float], None]) -> None:
        self._clock = clock
        self._turned = turned
        self._timer: Timer | None = None
        self._due = 0.0

    def startService(self) -> None:
        """Begin to measure."""
        super().startService()
        self._next()

    def stopService(self) -> None:
        """End it."""
        super().stopService()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._due = self._clock.seconds() + LAG_SECONDS
        self._timer = self._clock.callLater(LAG_SECONDS, self._look)

    def _look(self) -> None:
        self._turned(self._clock.seconds() - self._due)
        self._next()


def memory_trim(reactor: Any) -> TimerService:
    """Gives free memory back to the system when the process has grown; in a thread, as that takes milliseconds."""
    held = memory.Memory()

    def trim_if_grown() -> None:
        if held.grown:
            reactor.callInThread(held.give_back)

    return repeating(memory.LOOK_SECONDS, trim_if_grown)


def retention(
    config: Jobs,
    reactor: Any,
    store: JobStore,
    outputs: OutputDirectory,
    viewers: Viewers,
    observer: Observer = NO_OBSERVER,
) -> RetentionService:
    """Removes finished jobs as jobs.keep_days, keep_jobs and keep_output_bytes say."""

    def in_thread(call: Callable[[], T]) -> Deferred[T]:
        return _in_thread(reactor, call)

    limits, elapsed = retention_limits(config), store.lease.elapsed
    return RetentionService(reactor, in_thread, store, outputs, viewers, limits, time.time, elapsed, observer)


def retention_limits(config: Jobs) -> Retention:
    """How much is kept, as configured."""
    return Retention(config.keep_days, config.keep_jobs, config.keep_output_bytes)


def _in_thread(reactor: Any, call: Callable[[], T]) -> Deferred[T]:
    return deferToThreadPool(reactor, reactor.getThreadPool(), call)
