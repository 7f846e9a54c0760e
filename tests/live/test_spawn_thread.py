"""What the shim's loop is told of starts, by a real spawn thread."""

from __future__ import annotations

import errno
import select
from contextlib import closing

from tests.support.daemon import LIMIT
from txworker.shim.messages import Channel
from txworker.shim.spawn_thread import SpawnThread

REQUEST = {"type": "spawn", "job": "a", "ahead": 0.0, "feed": False, "terminal": None, "separate_stderr": False}


def test_failed_start() -> None:
    """A start that has failed is pending until the loop takes its result, and not any longer, worker or no worker."""
    thread = SpawnThread()
    thread.is_held = lambda job_id: True  # so it fails
    thread.start()
    connection = thread.connect()
    with closing(Channel(connection)) as worker:
        worker.send(REQUEST)
        readable, _, _ = select.select([worker], [], [], LIMIT)
        assert readable
        message, _ = worker.receive()
        assert (message["type"], message["errno"]) == ("failed", errno.EEXIST)
        assert (thread.pending(), thread.starting) == ({"a"}, "")
    assert thread.disconnect() == []
    assert thread.pending() == {"a"}
    assert [result.request["job"] for result, _ in thread.results()] == ["a"]
    assert thread.pending() == set()
