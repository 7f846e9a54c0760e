"""What the shim's loop does with much at once, and with a spawn thread that hangs."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.bare_shim import bare_shim
from tests.support.daemon import LIMIT, running, wait_until
from tests.support.hanging import exec_that_waits
from txworker.linux.procfs import ProcessTable
from txworker.shim.messages import ENDED_BIT, SOCKET_NAME

LIMITS = (1000, 1000)

DEBUGGER = """
import ctypes, sys, time
PTRACE_SEIZE = 0x4206
if ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0:
    print("attached", flush=True)
    time.sleep(1000)  # as one that waits for its user
"""


def test_workers_while_a_start_hangs(tmp_path: Path) -> None:
    """So many workers come and go that the thread's tasks have no room: they are refused, and the shim stays."""
    with bare_shim(tmp_path, LIMITS) as shim:
        with exec_that_waits(tmp_path, "true") as (program, tried):
            shim.connect(LIMITS)
            shim.request("hangs", str(program))
            wait_until(tried.is_set)
            refused = 0
            while not refused:
                shim.loop.close()
                shim.hello(LIMITS)
                try:
                    assert shim.loop.receive()[0]["type"] == "hello"
                except ConnectionResetError:
                    refused += 1
        shim.leave()

        def accepted() -> bool:
            try:
                shim.connect(LIMITS)
            except ConnectionResetError:  # the tasks are not done yet
                return False
            return True

        wait_until(accepted)
        assert shim.start("job", "echo", "runs") == b"runs\n"


def test_error(tmp_path: Path) -> None:
    """An error in the loop, as by a message that it cannot read, ends neither the shim nor a job."""
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect(LIMITS)
        shim.loop.send({"type": "release"})
        assert shim.start("job", "echo", "runs") == b"runs\n"
        shim.loop.send({"type": "recall"})
        shim.leave()
        shim.connect(LIMITS)
        message, descriptors = shim.loop.receive()
        assert (message["type"], message["job"]) == ("job", "job")
        for fd in descriptors:
            os.close(fd)


def test_tells_its_end(tmp_path: Path) -> None:
    """
    A shim tells as it ends by itself that it holds no job: if a worker that served has gone, or lets it end. If no
    worker served, jobs of earlier workers may be left, of which this shim knows nothing.
    """
    for serving, quits in ((True, False), (True, True), (False, False), (False, True)):
        place = tmp_path / f"{serving}-{quits}"
        place.mkdir()
        with bare_shim(place, LIMITS) as shim:
            shim.hello(LIMITS, serving=serving)
            while shim.loop.receive()[0]["type"] != "ready":
                pass
            if quits:
                shim.loop.send({"type": "quit"})
                with pytest.raises(ConnectionResetError):
                    shim.loop.receive()
            else:
                shim.loop.close()
                shim.process.wait(LIMIT)
            assert bool((place / SOCKET_NAME).stat().st_mode & ENDED_BIT) == serving


def test_many_orphans(tmp_path: Path) -> None:
    """Orphans are reaped, also when far more exit at a time than in one turn of the loop."""
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect(LIMITS)
        assert shim.start("job", "sh", "-c", "for i in $(seq 300); do (:&); done; echo done") == b"done\n"
        pid = shim.process.pid
        wait_until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_exit_that_a_debugger_has(tmp_path: Path) -> None:
    """While a debugger keeps a process that has exited, the shim waits for it at rest; then it tells how it exited."""
    with bare_shim(tmp_path, LIMITS) as shim:
        shim.connect(LIMITS)
        shim.request("job", "sleep", "1000")
        message, pipes = shim.answer()
        os.close(pipes[0])
        pid = message["pid"]
        with running([sys.executable, "-c", DEBUGGER, str(pid)], text=True) as debugger:
            assert debugger.stdout is not None
            assert debugger.stdout.readline() == "attached\n"
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not _has_pidfd(shim.process.pid, pid))
            assert not ProcessTable().awaits_parent(pid)
        while (message := shim.loop.receive()[0])["type"] != "exited":
            pass
        assert message["exit"]["signal"] == signal.SIGKILL


def _has_pidfd(pid: int, of: int) -> bool:
    """Whether the first process has a pidfd of the other one: it is readable as long as that is a zombie."""
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            if f"Pid:\t{of}\n" in info.read_text():
                return True
    return False
