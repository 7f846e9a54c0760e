"""The link to the scheduler, as configured: one or several schedulers, and what happens when all of them are lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning

from txworker.base.ratelimit import Allows
from txworker.config import Scheduler as SchedulerConfig
from txworker.rpc.scheduler import Intervals, Link, Links, LossTimer, Registration

_WHAT = {
    "drain": "no new jobs are taken, and the worker ends after its last one",
    "stop": "the worker is stopped",
}
"""What the log says that follows, by scheduler.when_lost."""


def registration(
    config: SchedulerConfig,
    identity: tuple[str, int],
    address: Callable[[], str],
    reactor: Any,
    drain: Callable[[], object],
    allows: Allows = lambda kind: True,
    answered: Callable[[], None] = lambda: None,
) -> Registration:
    """
    The worker's registration, not started.

    identity: the worker's name and instance. address(): the server's, which is registered unless the configuration
    names one. drain(): called when the scheduler is lost, if that is configured. answered(): called at each answer of
    the scheduler's.
    """
    ca = None if config.ca_file is None else config.ca_file.read_bytes()
    name, instance = identity
    metadata = (("txworker-name", name), ("txworker-instance", str(instance)))
    addrs = config.all_addrs
    links = [Link(reactor, addr, root_certificates=ca, use_tls=config.use_tls, metadata=metadata) for addr in addrs]
    each = Intervals()
    return Registration(
        reactor,
        links[0] if len(links) == 1 else Links(links),
        lambda: config.advertise_addr or address(),
        random.random,
        Intervals(register_limit=each.register_limit * len(links)),
        allows,
        _loss_timer(config, reactor, drain),
        answered,
    )


def _loss_timer(config: SchedulerConfig, reactor: Any, drain: Callable[[], object]) -> LossTimer | None:
    """None: the worker goes on without a scheduler."""

    def stop_reactor() -> None:
        with suppress(ReactorNotRunning):  # a signal has stopped it already
            reactor.stop()

    act = {"drain": drain, "stop": stop_reactor}.get(config.when_lost)
    if act is None:
        return None
    what = f'{_WHAT[config.when_lost]} (scheduler.when_lost = "{config.when_lost}")'
    return LossTimer(reactor, config.lost_after_seconds, what, act)
