"""Clocks, ids and delayed calls, as the worker needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """
    Functions that tests replace.

    now(): wall-clock time in seconds since the epoch, only for display; an operator may set it at any time.
    elapsed(): seconds on a clock that never jumps and goes on over restarts.
    ticks(): clock ticks since boot.
    new_id(): a new job id.
    soon(call): makes the call in a later turn of the reactor.
    """

    now: Callable[[], float]
    elapsed: Callable[[], float]
    ticks: Callable[[], int]
    new_id: Callable[[], str]
    soon: Callable[[Callable[[], None]], object]
