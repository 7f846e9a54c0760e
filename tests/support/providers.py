"""The two ways of starting jobs' processes, each with a launcher: a shim of the test's own, or the reactor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from txworker.leftovers.job_processes import LeftoverScan
from txworker.leftovers.process_table_scan import ProcessTableScan
from txworker.leftovers.scan import DescendantScan
from txworker.linux.cpus import CpuPinning
from txworker.linux.procfs import ProcessTable
from txworker.process.launcher import JobDefaults, Launcher, Spawner
from txworker.process.pipes.epoll_set import EpollSet
from txworker.process.pipes.intermediate import IntermediatePipes
from txworker.process.reactor_spawner import ReactorSpawner
from txworker.process.reconnecting_shim import ReconnectingShim
from txworker.process.shim_handshake import Handshake, connect
from txworker.process.shim_spawner import ShimSpawner

ENVIRONMENT: Mapping[str, str] = {"PATH": os.environ["PATH"], "HOME": "/of/the/worker"}
UMASK = 0o027
DESCRIPTOR_LIMIT = (512, 4096)
LIMIT = 20
real: Any = reactor


@dataclass
class Provider:
    """One of the two; `shim` is None for the reactor. ENVIRONMENT, UMASK and DESCRIPTOR_LIMIT are inherited."""

    spawner: Spawner
    scan: LeftoverScan
    shim: ReconnectingShim | None = None
    epoll_set: EpollSet | None = None

    def launcher(self, directory: Path, grace_seconds: float = 5.0) -> Launcher:
        """A launcher whose jobs run in that directory; their leftovers are ended."""
        defaults = JobDefaults(ENVIRONMENT, str(directory), grace_seconds=grace_seconds, drain_seconds=0.2)
        return Launcher(self.spawner, real, self.scan, None, defaults)


@contextmanager
def a_shim(place: Path) -> Iterator[tuple[ReconnectingShim, EpollSet, IntermediatePipes]]:
    """A real shim, with its state and output in that directory. It and its jobs end with the test."""
    state, output = place / "state", place / "output"
    state.mkdir()
    output.mkdir()
    directory = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pipes = IntermediatePipes(2)
    defaults = {
        "environment": dict(ENVIRONMENT),
        "umask": UMASK,
        "descriptor_limit": DESCRIPTOR_LIMIT,
        "unattended_seconds": 0.0,
    }

    def connect_shim() -> Handshake:
        return connect(real, state, defaults, directory, pipes.descriptors, "of a test")

    epoll_set = EpollSet(real, CpuPinning(pin=False))
    shim = ReconnectingShim(epoll_set, real, connect_shim)
    try:
        yield shim, epoll_set, pipes
    finally:
        pid = shim.pid
        left = [
            pid for pid in ProcessTable().children(pid) if (process := ProcessTable().read(pid)) and not process.zombie
        ]
        shim.close()
        epoll_set.close()
        pipes.close()
        os.close(directory)
        _end(pid, left)


@contextmanager
def through_shim(place: Path) -> Iterator[Provider]:
    """Processes of a shim of the test's own."""
    with a_shim(place) as (shim, epoll_set, pipes):
        scan = DescendantScan(real, shim.pid, shim.connection.thread_id)
        try:
            yield Provider(ShimSpawner(epoll_set, lambda: shim.connection, ENVIRONMENT, pipes), scan, shim, epoll_set)
        finally:
            scan.close()


@contextmanager
def by_reactor() -> Iterator[Provider]:
    """Processes of Twisted's reactor."""
    spawner, scan = ReactorSpawner(real, UMASK, DESCRIPTOR_LIMIT), ProcessTableScan()
    try:
        yield Provider(spawner, scan)
    finally:
        spawner.close()
        scan.close()


def turn_until(true: Callable[[], Any], limit_seconds: float = LIMIT) -> None:
    """Run the reactor until that is true."""
    end = time.monotonic() + limit_seconds
    while not true():
        assert time.monotonic() < end, f"still not so after {limit_seconds} s: {true}"
        pytest_twisted.blockon(deferLater(real, 0.005))


def _end(shim_pid: int, left: list[int]) -> None:
    """A shim without jobs ends by itself; jobs that a failed test left are killed, as is a shim that stays."""
    for pid in left:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    try:
        turn_until(lambda: ProcessTable().read(shim_pid) is None)
    except AssertionError:
        os.kill(shim_pid, signal.SIGKILL)
        turn_until(lambda: ProcessTable().read(shim_pid) is None)
        raise
    assert not left, f"the shim still had children: {left}"
