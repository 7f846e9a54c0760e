"""Leases, of a real worker: jobs that nobody renews are stopped, with a reason that says so."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_twisted

from tests.support.command_line import PROGRAM, txworker
from tests.support.cutting_proxy import cutting_proxy
from tests.support.daemon import LIMIT, Daemon, running, wait_until
from txworker.client import AsyncClient, Client
from txworker.client.tx import TwistedClient
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]

LONG = "sleep 9; echo done; exit 3"
"""Several leases of three seconds."""


def leased(worker: Daemon, seconds: float, script: str = "exec sleep 1000") -> str:
    """A job with that lease."""
    return worker.bash(script, lease={"nanos": int(seconds % 1 * 1e9), "seconds": int(seconds)})


def renew(worker: Daemon, *job_ids: str) -> list[str]:
    """Renew the leases of these jobs; the ids of those that are gone."""
    return list(worker.stub.RenewLeases(pb.RenewLeasesReq(jobIDs=job_ids), timeout=LIMIT).gone)


def seconds_of(job: pb.Job) -> float:
    """How long it ran."""
    return (job.finishedAt.ToMilliseconds() - job.startedAt.ToMilliseconds()) / 1000


def test_runs_out(daemon: Daemon, tmp_path: Path) -> None:
    """
    A job that nobody renews is stopped by TERM when its lease is over, and says so; one that is renewed runs on, and
    ends as it likes. A renewal names the jobs that are gone.
    """
    go = tmp_path / "go"
    began = time.monotonic()
    left, renewed = leased(daemon, 1), leased(daemon, 3, f"until [ -e {go} ]; do sleep 0.02; done; exit 3")

    def others_are_gone() -> bool:
        assert renew(daemon, renewed) == []
        return time.monotonic() > began + 3.5 and daemon.query(left).done

    wait_until(others_are_gone)
    assert renew(daemon, renewed, left, "no-such-job") == [left, "no-such-job"]
    go.touch()
    assert daemon.end(renewed).errorText == "exit status 3"
    answer = daemon.query(left)
    assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPED, "lease of 1 s ran out: signal: terminated")
    assert seconds_of(answer.job) >= 1
    assert f"Job {left} is being ended (lease)." in daemon.log()


def test_refused(daemon: Daemon) -> None:
    """A lease that is too short, or no duration, is refused by its name, and no job is started."""
    for lease in ({"nanos": 999_000_000}, {}, {"seconds": -5}, {"seconds": 2**62}):
        with pytest.raises(grpc.RpcError) as caught:
            daemon.bash("true", lease=lease, labels={"refused": "lease"})
        error: Any = caught.value  # a Call, too
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details().startswith("lease: ")
    assert not daemon.stub.ListJobs(pb.ListJobsReq(labels={"refused": "lease"})).jobs


async def _followed_by_asyncio(addr: str) -> tuple[bytes, int]:
    async with AsyncClient(addr, tell=lambda _: None) as client:
        job = await client.start("bash", "-c", args=[LONG], lease=3)
        return b"".join([data async for data in job.follow()]), (await job.wait()).exit_code


@pytest.mark.slow
@pytest_twisted.ensureDeferred
async def test_followed(daemon: Daemon) -> None:
    """A job lives over several leases while a client of any kind follows it, over connections that break."""
    from twisted.internet import reactor

    with cutting_proxy(daemon.addr) as proxy, Client(proxy.addr, tell=lambda _: None) as client:
        twisted_client = TwistedClient(reactor, proxy.addr, tell=lambda _: None)
        try:
            with ThreadPoolExecutor(3) as threads:
                blocking = threads.submit(client.run, "bash", "-c", args=[LONG], lease=3)
                in_asyncio = threads.submit(asyncio.run, _followed_by_asyncio(proxy.addr))
                heard: list[bytes] = []
                job_id = await twisted_client.start("bash", "-c", args=[LONG], lease=3)
                await twisted_client.follow(job_id, heard.append, lease=3)
                result, printed = blocking.result(LIMIT)
                assert (printed, result.exit_code) == (b"done\n", 3)
                assert in_asyncio.result(LIMIT) == (b"done\n", 3)
                assert (b"".join(heard), (await twisted_client.wait(job_id, lease=3)).exit_code) == (b"done\n", 3)
            assert proxy.cuts > 5
        finally:
            await twisted_client.close()


@pytest.mark.slow
def test_run_is_killed(a_daemon: ADaemon) -> None:
    """
    `txworker run --lease` renews while it runs. When it is killed, its job is stopped that much later: TERM, the grace
    period, KILL.
    """
    daemon = a_daemon("[jobs]\nstop_grace_seconds = 1.5")
    words = ("run", "--lease", "2s", "bash", "-c", "trap 'echo term' TERM; echo $$; while :; do sleep 0.1; done")
    with running([*PROGRAM, "--addr", daemon.addr, *words], text=True, stdin=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        (job,) = daemon.stub.ListJobs(pb.ListJobsReq(states=[pb.JOB_STATE_RUNNING])).jobs
        assert job.pid == pid
        until = time.monotonic() + 5
        wait_until(lambda: daemon.query(job.jobID).done or time.monotonic() > until)
        assert daemon.query(job.jobID).job.state == pb.JOB_STATE_RUNNING
        program.kill()
        killed = time.time()
    job = daemon.end(job.jobID).job
    assert (job.state, job.errorText) == (pb.JOB_STATE_STOPPED, "lease of 2 s ran out: signal: killed")
    assert b"term\n" in daemon.raw(job.jobID)
    assert job.finishedAt.ToMilliseconds() / 1000 - killed > 1.5  # the grace period, after what was left of the lease


def test_commands(daemon: Daemon) -> None:
    """`start --lease` leaves the renewing to `renew`, which says what runs no longer."""
    status, printed, err = txworker(daemon, "start", "--lease", "1h", "sleep", "1000")
    job_id = printed.decode().strip()
    assert (status, err) == (0, "")
    assert txworker(daemon, "renew", job_id[:8]) == (0, b"", "")
    txworker(daemon, "kill", "--wait", job_id)
    assert txworker(daemon, "renew", job_id) == (1, b"", f"txworker: job {job_id} is no longer running\n")


@pytest.mark.slow
@pytest.mark.parametrize("shim", [True, False])
def test_grace(a_daemon: ADaemon, shim: bool) -> None:
    """A job that ignores TERM is killed when its grace period is over, with the shim or without."""
    worker = a_daemon(f"[jobs]\nstop_grace_seconds = 0.3\nshim = {str(shim).lower()}\n")
    answer = worker.end(leased(worker, 3, "trap '' TERM; while :; do sleep 0.05; done"))
    assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPED, "lease of 3 s ran out: signal: killed")


@pytest.mark.slow
def test_taken_over(a_daemon: ADaemon) -> None:
    """
    A lease does not run out while no worker is there, because nobody could renew it then; the next worker counts it
    anew, in full.
    """
    before = a_daemon()
    job_id = leased(before, 4)
    began = time.monotonic()
    before.stop(signal.SIGKILL)
    wait_until(lambda: time.monotonic() > began + 4.5)
    after = Daemon(before.place, before.settings)
    try:
        assert after.query(job_id).job.state == pb.JOB_STATE_RUNNING
        renewing = time.time()
        end = renewing + 5
        while time.time() < end:
            renewing = time.time()
            assert renew(after, job_id) == []
        job = after.end(job_id).job
        assert job.errorText == "lease of 4 s ran out: signal: terminated"
        assert job.finishedAt.ToMilliseconds() / 1000 - renewing > 3.9
    finally:
        after.close()
