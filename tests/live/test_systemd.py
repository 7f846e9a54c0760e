"""The unit that ships: systemd finds no mistake in it; and under a real systemd it is told how the worker is."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.daemon import LIMIT, Daemon, end_shim, wait_until
from tests.support.service_manager import ServiceManager
from tests.support.systemd import Systemd, why_not
from tests.support.unit import PROGRAMS, UNIT, unit_for
from txworker.daemon.notify import Notifier, watchdog
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

real: Any = reactor
ANALYZE = shutil.which("systemd-analyze")
CONFIG = '[grpc_server]\naddr = "127.0.0.1:0"\n[jobs]\nat_stop = "leave"\n'


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
def test_verify(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about the unit."""
    unit = tmp_path / "txworker.service"
    text = UNIT.read_text(encoding="utf-8").replace("/opt/txworker/bin", str(PROGRAMS))
    unit.write_text(text.replace("User=txworker", "User=daemon"))
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, "verify", str(unit)], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_told(tmp_path: Path) -> None:
    """
    A service manager hears READY when the worker serves and obeys signals, signs of life, RELOADING and READY around a
    reload, and STOPPING; neither the shim nor a job has its variables.
    """
    manager = ServiceManager(tmp_path / "notify.sock")
    place = tmp_path / "worker"
    place.mkdir()
    given = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000", "INVOCATION_ID": "abc", "LISTEN_FDS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        worker = Daemon(place)
    try:
        manager.until(lambda message: message == {"READY": "1"})
        assert "Serving on" in worker.log()
        for _ in range(3):
            manager.until(lambda message: message == {"WATCHDOG": "1"})
        worker.process.send_signal(signal.SIGHUP)
        reloading = manager.until(lambda message: "RELOADING" in message)
        assert int(reloading["MONOTONIC_USEC"]) > 0
        manager.until(lambda message: message == {"READY": "1"})

        variables = worker.raw(worker.start("env")).decode()
        shim = Path(f"/proc/{worker.shim()}/environ").read_text()
        for name in given:
            assert f"{name}=" not in variables
            assert f"{name}=" not in shim
        assert worker.stop() == 0
        assert "STOPPING" in manager.until(lambda message: "STOPPING" in message)
    finally:
        worker.close()
        manager.close()


@pytest_twisted.ensureDeferred
async def test_watchdog_needs_the_reactor(tmp_path: Path) -> None:
    """While the reactor is blocked no sign of life is sent; when it turns again they go on."""
    manager = ServiceManager(tmp_path / "notify.sock")
    services = watchdog(Notifier(manager.path, watchdog_seconds=0.1), real)
    for service in services:
        service.startService()
    try:
        await sign_of_life(manager)
        await deferLater(real, 0, block, manager)
        await sign_of_life(manager)
    finally:
        for service in services:
            service.stopService()
        manager.close()


async def sign_of_life(manager: ServiceManager) -> None:
    end = time.monotonic() + LIMIT
    while {"WATCHDOG": "1"} not in manager.waiting():
        assert time.monotonic() < end
        await deferLater(real, 0.01)


def block(manager: ServiceManager) -> None:
    """Called by the reactor, which then serves nothing else for ten times as long as a sign of life may take."""
    manager.waiting()
    time.sleep(0.5)
    assert manager.waiting() == []


class Unit:
    """txworker.service of a systemd, with a worker in a directory."""

    def __init__(self, systemd: Systemd, place: Path) -> None:
        self.systemctl = systemd.systemctl
        self.place = place

    def show(self, name: str) -> str:
        return self.systemctl("show", "txworker", "-p", name, "--value").stdout.strip()

    def log(self) -> str:
        return (self.place / "log").read_text()

    def stub(self) -> WorkerStub:
        """A stub of the worker that was the last to say that it serves."""
        return WorkerStub(grpc.insecure_channel(re.findall(r"Serving on (\S+:\d+)", self.log())[-1]))


@pytest.fixture
def unit(tmp_path: Path) -> Iterator[Unit]:
    """The unit, not started; its watchdog waits for ten seconds: a busy machine may keep a reactor waiting for one."""
    if reason := why_not():
        pytest.skip(reason)
    place = tmp_path / "worker"
    place.mkdir()
    (place / "worker.toml").write_text(CONFIG)
    text = unit_for(place, "RestartSec=0").replace("WatchdogSec=60", "WatchdogSec=10")
    try:
        systemd = Systemd(tmp_path, {"txworker.service": text})
    except AssertionError as error:
        pytest.skip(f"systemd does not boot here: {error}")
    yield Unit(systemd, place)
    systemd.close()
    end_shim(place / "state")


@pytest.mark.slow
def test_life(unit: Unit) -> None:
    """
    `systemctl start` returns when the worker serves, `reload` when it has reloaded or with an error; `status` tells
    what it does; a worker that hangs is restarted, and its job runs on.
    """
    assert unit.systemctl("start", "txworker").returncode == 0
    stub = unit.stub()
    job_id = stub.StartJob(pb.StartJobReq(command="sleep", args=["1000"]), timeout=LIMIT).jobID
    job_pid = stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT).job.pid
    wait_until(lambda: unit.show("StatusText").endswith("unfinished jobs: 1."))
    assert unit.show("StatusText").startswith("Serving on 127.0.0.1:")

    (unit.place / "worker.toml").write_text(f"{CONFIG}max_running = 5\n")
    assert unit.systemctl("reload", "txworker").returncode == 0
    wait_until(lambda: "jobs.max_running is 5 from now on" in unit.log())  # systemd passes the log on
    (unit.place / "worker.toml").write_text(f"{CONFIG}max_runing = 5\n")
    assert unit.systemctl("reload", "txworker").returncode != 0
    wait_until(lambda: "did you mean jobs.max_running?" in unit.log())
    (unit.place / "worker.toml").write_text(CONFIG)
    assert unit.show("ActiveState") == "active"

    before = int(unit.show("MainPID"))
    unit.systemctl("kill", "--signal=STOP", "--kill-whom=main", "txworker")
    wait_until(lambda: unit.show("ActiveState") == "active" and int(unit.show("MainPID")) not in (0, before), 4 * LIMIT)
    assert unit.show("NRestarts") == "1"
    assert re.search(r"Fatal Python error: Aborted\n(.*\n)+.*epollreactor.py\", line", unit.log())
    job = unit.stub().QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT).job
    assert (job.state, job.pid) == (pb.JOB_STATE_RUNNING, job_pid)

    assert unit.systemctl("kill", "--signal=QUIT", "--kill-whom=main", "txworker").returncode == 0
    wait_until(lambda: unit.show("StatusText") == "Draining; unfinished jobs: 1.")
    unit.stub().StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    wait_until(lambda: unit.show("ActiveState") == "inactive")
    assert unit.show("Result") == "success"
