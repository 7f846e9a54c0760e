"""The client library against real workers, over connections that break and workers that come and go."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, gatherResults

from tests.live.test_takeover import Again, again
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.pems import Authority
from txworker.client import (
    TLS,
    AsyncClient,
    Client,
    Closed,
    InvalidRequest,
    JobNotRunning,
    JobResult,
    JobState,
    Limits,
    NoSuchExecutable,
    NoSuchJob,
    RequestReused,
    Unreachable,
)
from txworker.client.tx import TwistedClient

__all__ = ["again"]

ADaemon = Callable[..., Daemon]

LINES = 16_384
NUMBERED = f"import sys\nfor n in range({LINES}): sys.stdout.write('%063d\\n' % n)\nsys.exit(int(sys.argv[1]))"
"""A mebibyte of lines that are all different, and an exit code."""

EXPECTED = b"".join(b"%063d\n" % number for number in range(LINES))


SIGNALLED = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sys.stdout.write("on\\n"); sys.stdout.flush()
signal.sigwait([signal.SIGUSR1])
sys.stdout.write("heard\\n")
sys.exit(6)
"""


def numbered(number: int) -> dict[str, Any]:
    """The details of a job that prints NUMBERED's lines and exits with that number."""
    return {"args": [NUMBERED, str(number)]}


def test_five_lines(daemon: Daemon) -> None:
    """A user's script: start, follow, wait."""
    with Client(daemon.addr) as worker:
        job = worker.start("bash", "-c", args=["echo hello; exit 3"], labels={"night": "1"})
        assert b"".join(job.follow()) == b"hello\n"
        result = job.wait()
    assert isinstance(result, JobResult)
    assert (result.exit_code, result.signal, result.state) == (3, 0, JobState.FAILED)
    assert (result.error_text, result.labels, result.ok) == ("exit status 3", {"night": "1"}, False)
    assert result.finished_at is not None
    assert result.started_at is not None
    assert result.finished_at >= result.started_at


def test_methods(daemon: Daemon) -> None:
    """What there is beside that: run, get, jobs, watch, stop, text, tail, and a handle for a job of before."""
    with Client(daemon.addr) as worker:
        result, printed = worker.run("cat", stdin=b"in\n", limits=Limits(max_open_files=64), timeout=30.0)
        assert (result.ok, printed) == (True, b"in\n")
        job = worker.start("sleep", "1000", labels={"of": "test_methods"})
        assert [record.id for record in worker.jobs(labels={"of": "test_methods"})] == [job.id]
        assert worker.get(job.id).state is JobState.RUNNING
        assert worker.usage()[job.id].processes == 1
        assert job.stop(grace=0, wait=True).signal == signal.SIGKILL
        assert [record.id for record in worker.jobs([JobState.STOPPED])] == [job.id]
        assert [record.done for record in worker.watch([job.id])] == [True]
        again = worker.job(worker.start("bash", "-c", args=["printf 'ä\\nb\\nc\\n'"]).id)
        assert "".join(again.text()) == "ä\nb\nc\n"
        assert b"".join(again.follow(tail=1)) == b"c\n"


def test_signal(daemon: Daemon) -> None:
    """A signal reaches the job's process group once; a job that is done cannot be signalled."""
    with Client(daemon.addr) as worker:
        job = worker.start(sys.executable, "-c", args=[SIGNALLED])
        printed = job.follow()
        assert next(printed) == b"on\n"
        job.signal(signal.SIGUSR1)
        assert b"".join(printed) == b"heard\n"
        assert job.wait().exit_code == 6
        with pytest.raises(JobNotRunning):
            job.signal(signal.SIGUSR1)


def test_errors(daemon: Daemon) -> None:
    """A refusal is raised at once, as the class that is named as on the worker."""
    with Client(daemon.addr, patience=60) as worker:
        with pytest.raises(NoSuchExecutable, match="no-such-program"):
            worker.start("no-such-program")
        with pytest.raises(NoSuchJob) as caught:
            worker.wait("no-such-job")
        assert (caught.value.reason, caught.value.code) == ("JOB_NOT_FOUND", "NOT_FOUND")
        with pytest.raises(InvalidRequest):
            worker.start("true", env={"": "x"})
        worker.start("true", request_id="twice")
        with pytest.raises(RequestReused):
            worker.start("false", request_id="twice")
        with pytest.raises(TypeError, match="lables"):
            worker.start("true", lables={})  # type: ignore[call-arg]  # what is tested
        with pytest.raises(TimeoutError):
            worker.start("sleep", "1000").wait(timeout=0.1)


def test_close(daemon: Daemon) -> None:
    """close() ends whatever waits in other threads; jobs run on."""
    worker = Client(daemon.addr)
    job = worker.start("bash", "-c", args=["echo one; exec sleep 1000"])
    began = threading.Event()

    def follow() -> None:
        for _ in job.follow():
            began.set()

    with ThreadPoolExecutor(2) as threads:
        waiting: list[Any] = [threads.submit(follow), threads.submit(job.wait)]
        assert began.wait(LIMIT)
        worker.close()
        for one in waiting:
            with pytest.raises(Closed):
                one.result(LIMIT)
    with pytest.raises(Closed):
        worker.start("true")
    assert not daemon.query(job.id).done


def test_unreachable(tmp_path: Path) -> None:
    """A worker that stays away is waited for as long as the patience lasts, then there is one sentence."""
    told: list[str] = []
    with Client(f"unix:{tmp_path}/none", patience=1.0, tell=told.append) as worker:
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=r"no worker answered for \d+ s"):
            worker.start("true")
        assert 0.9 < time.monotonic() - begun < LIMIT
    assert len(told) == 1


def follow_over_cuts(addr: str, jobs: int) -> None:
    """Follow jobs over connections that are cut, in threads and by asyncio: every byte comes once."""

    def follow_in_thread(number: int) -> tuple[int, bytes]:
        job = sync.start(sys.executable, "-c", **numbered(number))
        printed = b"".join(job.follow())
        return job.wait().exit_code, printed

    async def follow_in_loop(client: AsyncClient, number: int) -> tuple[int, bytes]:
        job = await client.start(sys.executable, "-c", **numbered(number))
        printed = b"".join([data async for data in job.follow()])
        return (await job.wait()).exit_code, printed

    async def follow_all_in_loop() -> list[tuple[int, bytes]]:
        async with AsyncClient(addr, tell=lambda sentence: None) as client:
            return await asyncio.gather(*(follow_in_loop(client, number) for number in range(jobs)))

    with Client(addr, tell=lambda sentence: None) as sync, ThreadPoolExecutor(9) as threads:
        loop = threads.submit(asyncio.run, follow_all_in_loop())
        results = [*threads.map(follow_in_thread, range(jobs)), *loop.result(10 * LIMIT)]
    for number, (code, printed) in enumerate(results):
        assert code == number % jobs
        assert printed == EXPECTED


def test_connections_are_cut(a_daemon: ADaemon) -> None:
    """Through a proxy that cuts every connection after 50 to 500 ms every byte comes once; nothing is started twice."""
    worker = a_daemon()
    with cutting_proxy(worker.addr) as proxy:
        follow_over_cuts(proxy.addr, 8)
        assert proxy.cuts > 0
    with Client(worker.addr) as client:
        assert len(list(client.jobs())) == 16


def test_taken_over(a_daemon: ADaemon, again: Again) -> None:
    """The worker is killed under fifty followers; they go on with the next one, which has its jobs."""
    worker = a_daemon()
    script = "for i in 1 2 3; do echo $i; done; until [ -e go ]; do sleep 0.05; done; echo last; exit 5"
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy, Client(proxy.addr, tell=lambda _: None) as client:
        jobs = [client.start("bash", "-c", args=[script]) for _ in range(50)]
        with ThreadPoolExecutor(100) as threads:
            following = [threads.submit(b"".join, job.follow()) for job in jobs]
            waiting = [threads.submit(job.wait) for job in jobs]
            wait_until(lambda: all(record.output_bytes == 6 for record in client.jobs()))
            worker.stop(signal.SIGKILL)
            proxy.upstream = again(worker).addr
            (worker.place / "go").touch()
            assert {one.result(LIMIT) for one in following} == {b"1\n2\n3\nlast\n"}
            assert {one.result(LIMIT).exit_code for one in waiting} == {5}


@pytest_twisted.ensureDeferred
async def test_twisted(daemon: Daemon) -> None:
    """Every method gives a Deferred that fires in the reactor thread; cancelling one ends its call only."""
    from twisted.internet import reactor

    client = TwistedClient(reactor, daemon.addr)
    try:
        heard: list[bytes] = []
        job_id = await client.start("bash", "-c", args=["echo one; exit 4"], labels={"of": "test_twisted"})
        await client.follow(job_id, heard.append)
        assert b"".join(heard) == b"one\n"
        assert (await client.wait(job_id)).exit_code == 4
        assert [record.id for record in await client.jobs(labels={"of": "test_twisted"})] == [job_id]
        endless = await client.start("sleep", "1000")
        waiting = client.wait(endless)
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        assert (await client.get(endless)).state is JobState.RUNNING
        assert (await client.stop(endless, grace=0, wait=True)).done
        with pytest.raises(NoSuchExecutable):
            await client.start("no-such-program")
        results = await gatherResults([client.run("bash", "-c", args=[f"exit {n}"]) for n in range(5)])
        assert [result.exit_code for result, _ in results] == list(range(5))
    finally:
        await client.close()


def test_asyncio(daemon: Daemon) -> None:
    """The same in asyncio; a cancelled task ends its call, and the job runs on."""
    asyncio.run(_use_asyncio(daemon.addr))


async def _use_asyncio(addr: str) -> None:
    async with AsyncClient(addr) as worker:
        result, printed = await worker.run("bash", "-c", args=["echo one; exit 4"])
        assert (result.exit_code, printed) == (4, b"one\n")
        job = await worker.start("sleep", "1000", labels={"of": "test_asyncio"})
        with pytest.raises(TimeoutError):
            await job.wait(timeout=0.05)
        waiting = asyncio.ensure_future(job.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [record.id async for record in worker.jobs(labels={"of": "test_asyncio"})] == [job.id]
        assert (await job.record()).state is JobState.RUNNING
        waiting = asyncio.ensure_future(job.wait())
        await job.stop(grace=0)
        assert (await waiting).signal == signal.SIGKILL
        with pytest.raises(NoSuchExecutable):
            await worker.start("no-such-program")
        assert "".join([text async for text in worker.job(job.id).text()]) == ""


def test_tls(a_daemon: ADaemon, tmp_path: Path) -> None:
    """A client with the authority's certificate and its own is served; one without them hears why it is not."""
    authority = Authority()
    authority.sign("worker").write(tmp_path, "server")
    authority.sign("client").write(tmp_path, "client")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    server = 'use_tls = true\ncrt_file = "../server.pem"\nkey_file = "../server.key"\nclient_ca_file = "../ca.pem"\n'
    addr = a_daemon(server=server).addr
    ours = TLS(ca=tmp_path / "ca.pem", cert=tmp_path / "client.pem", key=tmp_path / "client.key")
    with Client(addr, tls=ours) as client:
        assert client.run("echo", args=["secret"])[1] == b"secret\n"
    (tmp_path / "other.pem").write_bytes(Authority().pem)
    others = Client(addr, tls=TLS(ca=tmp_path / "other.pem"), patience=0)
    with others, pytest.raises(Unreachable, match="certificate signature failure"):
        others.start("true")
