"""A real shim whose limit of open descriptors is not that of its jobs."""

from __future__ import annotations

import os
import resource
from functools import partial
from pathlib import Path

import pytest

from tests.support.bare_shim import BareShim, bare_shim
from txworker.shim.messages import Message

LIMITS = (64, 1000)
JOBS = 200
IN_FLIGHT = 8


def test_burst(tmp_path: Path) -> None:
    """
    A burst of jobs that stay, with far more descriptors than the soft limit has numbers: all start, run on and are
    there for the next worker. Each has the soft limit.
    """
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect(LIMITS)
        for number in range(JOBS + IN_FLIGHT):
            if number < JOBS:
                shim.request(f"job-{number}", "sleep", "1000")
            if number >= IN_FLIGHT:
                message, pipes = shim.answer()
                assert message["type"] == "started", message
                for fd in pipes:
                    os.close(fd)
        assert shim.start("limit", "sh", "-c", "ulimit -S -n; ulimit -H -n") == b"64\n1000\n"
        shim.leave()
        shim.connect(LIMITS)
        numbers = [int(fd) for fd in os.listdir(f"/proc/{shim.process.pid}/fd")]
        assert sum(fd < LIMITS[0] for fd in numbers) < 0.75 * LIMITS[0]  # so there is room for what comes
        held = set()
        while (message := shim.loop.receive()[0])["type"] != "ready":
            if message["type"] == "lot":
                shim.loop.send({"type": "more"})
            else:
                held.add(message["job"])
        assert held == {*(f"job-{number}" for number in range(JOBS)), "limit"}


def test_next_worker_has_more(tmp_path: Path) -> None:
    """A worker whose limits are beyond the shim's own starts jobs; they have the shim's."""
    script = ("sh", "-c", "ulimit -S -n; ulimit -H -n")
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect((4096, 65536))
        assert shim.start("spawned", *script) == b"1000\n1000\n"
        assert shim.start("forked", *script, nice=1) == b"1000\n1000\n"


def test_no_number_for_its_exit(tmp_path: Path) -> None:
    """A job whose exit cannot be watched, because no descriptor is free, runs, and its exit is told."""
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect((LIMITS[1], LIMITS[1]))
        while shim.loop.receive()[0]["type"] != "ready":
            pass
        used = {int(fd) for fd in os.listdir(f"/proc/{shim.process.pid}/fd")}
        second = [number for number in range(LIMITS[0]) if number not in used][1]
        resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE, (second, LIMITS[1]))  # one for its output is free
        assert shim.start("job", "sh", "-c", "exit 3") == b""
        while (message := shim.loop.receive()[0])["type"] != "exited":
            pass
        assert message["exit"]["exit_code"] == 3


def test_descriptors_lost(tmp_path: Path) -> None:
    """A message whose descriptors did not arrive, because no number was free for them, does not end the shim."""
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect(LIMITS)
        shim.request("earlier", "sleep", "1000")
        os.close(shim.answer()[1][0])
        shim.leave()
        shim.hello(LIMITS, with_directory=False)
        with pytest.raises(ConnectionResetError):
            shim.loop.receive()
        shim.connect(LIMITS)
        shim.loop.send({"type": "listen"})
        shim.loop.send({"type": "pipes"})
        assert shim.start("job", "echo", "runs") == b"runs\n"


def test_descriptors_lost_are_told(tmp_path: Path) -> None:
    """What came with too few of its descriptors is not done, and the worker is told so, to send it again."""
    with bare_shim(tmp_path, LIMITS) as shim, open(os.devnull, "rb") as file:
        shim.connect((LIMITS[1], LIMITS[1]))
        shim.request("job", "cat", feed=True)
        os.close(shim.answer()[1][0])
        heard = partial(_heard, shim)
        shim.loop.send({"type": "feed", "job": "job", "end": False})
        heard("fed")  # so the loop has the descriptors of the job, which the spawn thread passes on to it
        used = {int(fd) for fd in os.listdir(f"/proc/{shim.process.pid}/fd")}
        lowest, second = [number for number in range(LIMITS[0]) if number not in used][:2]
        for free, limit in ((0, lowest), (1, second)):
            resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE, (limit, LIMITS[1]))
            for kind in ("listen", "pipes"):
                shim.loop.send({"type": kind}, [file.fileno()] * 3)
                assert heard("refused")["of"] == kind
            if not free:
                shim.loop.send({"type": "feed", "job": "job", "end": True}, [file.fileno()])
                assert heard("fed")["stdin"] == {"taken": 0, "busy": False, "open": True, "refused": True}
        assert used == {int(fd) for fd in os.listdir(f"/proc/{shim.process.pid}/fd")}


def _heard(shim: BareShim, kind: str) -> Message:
    """The next message of that type."""
    while (message := shim.loop.receive()[0])["type"] != kind:
        pass
    return message
