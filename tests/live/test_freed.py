"""The memory of a process that is over."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest_twisted
from twisted.internet.task import deferLater

from tests.support.children import Heard, launch, real
from tests.support.providers import Provider
from txworker.jobs import JobSpec


@pytest_twisted.ensureDeferred
async def test_freed(tmp_path: Path, provider: Provider) -> None:
    """What the worker has of a process is freed when that is released, without the collector of garbage."""
    if provider.shim is None:
        return  # the fallback: there the collector frees it
    heard = Heard()
    running = await launch(provider, tmp_path, JobSpec("true"), heard)
    await heard.over()
    await deferLater(real, 0)  # until then it is calling heard
    heard.running = None
    freed = [weakref.ref(one) for one in (running, running.transport, running._context)]
    gc.disable()
    try:
        del running
        assert [one() for one in freed] == [None, None, None]
    finally:
        gc.enable()
