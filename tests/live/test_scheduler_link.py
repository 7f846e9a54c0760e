"""A real connection to a scheduler that comes and goes, and what a worker does when it is gone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from tests.support.daemon import Daemon, wait_until
from tests.support.scheduler import LIMIT, SchedulerStandIn
from txworker.rpc.scheduler import Intervals, Link, Links, Registration

INTERVALS = Intervals(first_pause=0.05, longest_pause=0.2, register_limit=LIMIT, probe_pause=0.2, probe_limit=LIMIT)


@pytest.fixture
def scheduler() -> Iterator[SchedulerStandIn]:
    stand_in = SchedulerStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


def a_registration(scheduler: SchedulerStandIn, pace: Intervals = INTERVALS) -> Registration:
    real: Any = reactor
    registration = Registration(real, Link(real, scheduler.addr), lambda: "127.0.0.1:1", lambda: 0.5, pace)
    registration.startService()
    return registration


@pytest.fixture
def other_scheduler() -> Iterator[SchedulerStandIn]:
    stand_in = SchedulerStandIn()
    stand_in.start()
    yield stand_in
    stand_in.stop()


def heard(scheduler: SchedulerStandIn) -> Deferred[tuple[str, str, str]]:
    return deferToThread(scheduler.next_event)


def knows_its_id(worker_id: str) -> Deferred[None]:
    """
    Fires when the log says that the worker was registered under that id.

    The scheduler has heard of it a little earlier; a worker that is cut off in between never learns the id.
    """
    known: Deferred[None] = Deferred()

    @implementer(ILogObserver)
    def hear(event: Any) -> None:
        if event.get("worker_id") == worker_id and "Registered" in event["log_format"]:
            globalLogPublisher.removeObserver(hear)
            known.callback(None)

    globalLogPublisher.addObserver(hear)
    real: Any = reactor
    return known.addTimeout(LIMIT, real)


@pytest_twisted.ensureDeferred
async def test_register_and_goodbye(scheduler: SchedulerStandIn) -> None:
    """At the start it registers, at the stop it says goodbye for the id it was given."""
    registration = a_registration(scheduler)
    assert await heard(scheduler) == ("register", "127.0.0.1:1", "worker-1")
    await registration.stopService()
    assert await heard(scheduler) == ("deregister", "", "worker-1")


@pytest_twisted.ensureDeferred
async def test_down_then_up(scheduler: SchedulerStandIn) -> None:
    """A scheduler that comes up later finds the worker registering."""
    scheduler.stop()
    registration = a_registration(scheduler)
    scheduler.start()
    assert (await heard(scheduler))[0] == "register"
    await registration.stopService()


@pytest_twisted.ensureDeferred
async def test_restarted(scheduler: SchedulerStandIn) -> None:
    """A scheduler that was restarted has forgotten the worker, which registers anew and takes leave of the old id."""
    registered = knows_its_id("worker-1")
    registration = a_registration(scheduler)
    await heard(scheduler)
    await registered
    await deferToThread(scheduler.stop)
    scheduler.start()
    assert await heard(scheduler) == ("register", "127.0.0.1:1", "worker-2")
    assert await heard(scheduler) == ("deregister", "", "worker-1")
    await registration.stopService()


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_gone_at_the_end(scheduler: SchedulerStandIn) -> None:
    """A scheduler that is gone, or answers nothing, holds up nobody's end."""
    registration = a_registration(scheduler)
    await heard(scheduler)
    scheduler.open_gate.clear()
    real: Any = reactor
    await registration.stopService().addTimeout(LIMIT / 3, real)


@pytest_twisted.ensureDeferred
async def test_slow(scheduler: SchedulerStandIn) -> None:
    """A scheduler that is too slow to answer is tried again until it answers."""
    scheduler.open_gate.clear()
    registration = a_registration(scheduler, replace(INTERVALS, register_limit=0.3))
    real: Any = reactor
    real.callLater(0.5, scheduler.open_gate.set)
    assert (await heard(scheduler))[0] == "register"
    await registration.stopService()


@pytest_twisted.ensureDeferred
async def test_proxy(scheduler: SchedulerStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for the web is not asked for a scheduler."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    registration = a_registration(scheduler)
    assert (await heard(scheduler))[0] == "register"
    await registration.stopService()


@pytest_twisted.ensureDeferred
async def test_two(scheduler: SchedulerStandIn, other_scheduler: SchedulerStandIn) -> None:
    """When the scheduler is lost, the other one has the worker, and at the end the worker says goodbye to that one."""
    real: Any = reactor
    links = Links([Link(real, one.addr) for one in (scheduler, other_scheduler)])
    registered = knows_its_id("worker-1")
    registration = Registration(real, links, lambda: "127.0.0.1:1", lambda: 0.5, INTERVALS)
    registration.startService()
    assert await heard(scheduler) == ("register", "127.0.0.1:1", "worker-1")
    await registered
    await deferToThread(scheduler.stop)
    assert await heard(other_scheduler) == ("register", "127.0.0.1:1", "worker-1")
    await registration.stopService()
    assert await heard(other_scheduler) == ("deregister", "", "worker-1")


@pytest.mark.slow
def test_name_and_instance(a_daemon: Callable[..., Daemon], scheduler: SchedulerStandIn) -> None:
    """A scheduler knows a worker again that was restarted, and sees that it was."""
    text = f'[scheduler]\naddrs = ["127.0.0.1:1", "{scheduler.addr}"]'
    worker = a_daemon(text)
    assert scheduler.next_event()[0] == "register"
    name = scheduler.metadata["txworker-name"]
    assert scheduler.metadata["txworker-instance"] == "1"
    assert f"This is worker {name!s}, instance 1." in worker.log()
    assert worker.stop() == 0
    assert scheduler.next_event()[0] == "deregister"
    again = Daemon(worker.place, text)
    try:
        assert scheduler.next_event()[0] == "register"
        assert scheduler.metadata["txworker-name"] == name
        assert scheduler.metadata["txworker-instance"] == "2"
    finally:
        again.close()


def test_lost_then_drained(a_daemon: Callable[..., Daemon], scheduler: SchedulerStandIn) -> None:
    """A worker whose scheduler is lost takes no new jobs if so configured, and ends after the last one."""
    worker = a_daemon(f'[scheduler]\naddr = "{scheduler.addr}"\nwhen_lost = "drain"\nlost_after_seconds = 2')
    assert scheduler.next_event()[0] == "register"
    fifo = worker.place / "go-on"
    os.mkfifo(fifo)
    job_id = worker.bash(f"read -r line < {fifo}")
    wait_until(lambda: "Registered with the scheduler" in worker.log())
    scheduler.stop()
    wait_until(lambda: "Draining: no new jobs; still to end: 1." in worker.log())
    assert not worker.query(job_id).done
    fifo.write_text("go\n")
    assert worker.process.wait(LIMIT) == 0
    assert "The worker has had no scheduler for 2 s: no new jobs are taken" in worker.log()


@pytest.mark.slow
def test_lost_then_stopped(a_daemon: Callable[..., Daemon]) -> None:
    """Or it stops; a scheduler that was never there is lost as well."""
    worker = a_daemon('[scheduler]\naddr = "127.0.0.1:1"\nwhen_lost = "stop"\nlost_after_seconds = 0.5')
    assert worker.process.wait(LIMIT) == 0
    assert 'the worker is stopped (scheduler.when_lost = "stop")' in worker.log()
