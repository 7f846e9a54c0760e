"""What the shim's loop is told of starts, by a real spawn thread."""

from __future__ import annotations

import errno
import os
import select
from contextlib import closing

import pytest

from tests.support.bare_shim import SPAWN
from tests.support.daemon import LIMIT, wait_until
from txworker.linux.procfs import ProcessTable
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


def test_discard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is not wanted is killed, without waiting for its end, and reaped by reap_others()."""
    thread = SpawnThread()
    thread.start()
    connection = thread.connect()
    with closing(Channel(connection)) as worker:
        worker.send({**SPAWN, "job": "a", "argv": ["sleep", "1000"], "env": dict(os.environ)})
        assert select.select([worker], [], [], LIMIT)[0]
        message, descriptors = worker.receive()
    for fd in [*descriptors, *(fd for _, more in thread.results() for fd in more)]:
        os.close(fd)
    pid = message["pid"]

    def refuse(group: int, number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", refuse)
        thread.discard(pid)
    assert pid not in thread.job_pids
    thread.discard(pid)

    def reaped() -> bool:
        thread.reap_others()
        return ProcessTable().read(pid) is None

    wait_until(reaped)
    thread.discard(pid)  # nothing is there any more
