"""A real connection to a scheduler that comes and goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from tests.support.scheduler import LIMIT, SchedulerStandIn
from txworker.scheduler import Link, Registration
from txworker.scheduler.registration import Intervals

INTERVALS = Intervals(first_pause=0.05, longest_pause=0.2, register_limit=1.0, probe_pause=0.2, probe_limit=1.0)


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
    await registration.stopService().addTimeout(4, real)


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
