"""Feeding jobs by the client library against real workers, over connections that break and workers that come and go."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.live.test_takeover import Again, again
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.client import AsyncClient, Client, Closed, FeedInProgress, JobNotRunning, NoSuchJob, NotFed
from txworker.client.tx import TwistedClient

__all__ = ["again"]

ADaemon = Callable[..., Daemon]
DATA = os.urandom(9_000_000)
SUM = hashlib.sha256(DATA).hexdigest()


def blocks() -> Iterator[bytes]:
    """DATA, in pieces of odd sizes."""
    stream = io.BytesIO(DATA)
    while block := stream.read(1_000_003):
        yield block


async def async_blocks() -> AsyncIterator[bytes]:
    for block in blocks():
        yield block


def unread() -> Iterator[bytes]:
    raise AssertionError("read for a feeding that was refused")
    yield b""


def sum_of(printed: bytes) -> str:
    return printed.split()[0].decode()


def test_sources(daemon: Daemon, tmp_path: Path) -> None:
    """Bytes, files and whatever yields bytes arrive as they are; a feeding may go on with a later one."""
    (tmp_path / "data").write_bytes(DATA)
    with Client(daemon.addr) as worker, open(tmp_path / "data", "rb") as file:
        for source in (DATA, file, blocks()):
            job = worker.start("sha256sum", feed=True)
            assert job.feed(source) == len(DATA)
            assert sum_of(b"".join(job.follow())) == SUM
        job = worker.start("cat", stdin=b"one ", feed=True)
        assert [job.feed(b"two ", end=False), job.feed([], end=False), job.feed([b"thr", b"", b"ee"])] == [4, 0, 5]
        assert b"".join(job.follow()) == b"one two three"


def test_errors(daemon: Daemon) -> None:
    """One class for each situation; what a job does not take is no error."""
    with Client(daemon.addr) as worker:
        with pytest.raises(NoSuchJob):
            worker.feed("unknown", b"x")
        plain, job, done = worker.start("cat"), worker.start("cat", feed=True), worker.start("true", feed=True)
        with pytest.raises(NotFed):
            plain.feed(b"x")
        with pytest.raises(NotFed):  # at once, and nothing that the source has is lost
            plain.feed(unread())
        done.wait()
        with pytest.raises(JobNotRunning):
            done.feed(b"x")
        may_end = threading.Event()

        def slow() -> Iterator[bytes]:
            yield b"x"
            may_end.wait(LIMIT)

        taken: list[int] = []
        thread = threading.Thread(target=lambda: taken.append(job.feed(slow())))
        thread.start()
        wait_until(lambda: job.record().output_bytes == 1)
        with pytest.raises(FeedInProgress):
            job.feed(b"y")
        may_end.set()
        thread.join(LIMIT)
        assert (taken, b"".join(job.follow())) == ([1], b"x")
        head = worker.start("head", args=["-c", "3"], feed=True)
        assert 3 <= head.feed(blocks()) < len(DATA)
        cat = worker.start("cat", feed=True)
        with pytest.raises(ZeroDivisionError):
            cat.feed(bytes([1 // number]) for number in (1, 0))
        cat.stop()


def test_closed(daemon: Daemon) -> None:
    """close() ends a feeding that waits for a job which does not read."""
    client = Client(daemon.addr)
    job = client.start("sleep", args=["1000"], feed=True)
    waits = threading.Event()
    failures: list[BaseException] = []

    def source() -> Iterator[bytes]:
        for number, block in enumerate(blocks()):
            if number == 4:  # so much is read ahead
                waits.set()
            yield block

    def feed() -> None:
        try:
            job.feed(source())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=feed)
    thread.start()
    assert waits.wait(LIMIT)
    client.close()
    thread.join(LIMIT)
    assert [type(failure) for failure in failures] == [Closed]
    with Client(daemon.addr) as other:
        other.stop(job.id)


def test_asyncio(daemon: Daemon) -> None:
    """The same by asyncio, and from an async iterable; a source that yields nothing is not waited for."""
    asyncio.run(asyncio.wait_for(_feed_by_asyncio(daemon.addr), 2 * LIMIT))


async def _one_byte_then_nothing() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.sleep(1000)


async def _feed_by_asyncio(addr: str) -> None:
    async with AsyncClient(addr) as worker:
        for source in (DATA, blocks(), async_blocks()):
            job = await worker.start("sha256sum", feed=True)
            assert await job.feed(source) == len(DATA)
            assert sum_of(b"".join([data async for data in job.follow()])) == SUM
        head = await worker.start("head", args=["-c", "1"], feed=True)
        assert await head.feed(_one_byte_then_nothing()) == 1
        sleeper = await worker.start("sleep", args=["1000"], feed=True)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sleeper.feed(DATA), 0.3)
        other = await worker.start("sleep", args=["1000"], feed=True)
        with pytest.raises(ZeroDivisionError):
            await other.feed(bytes([1 // number]) for number in (0,))
        for job in (sleeper, other):
            await job.stop()


@pytest_twisted.ensureDeferred
async def test_twisted(daemon: Daemon) -> None:
    """The same by Twisted's client."""
    from twisted.internet import reactor

    client = TwistedClient(reactor, daemon.addr)
    job_id = await client.start("sha256sum", feed=True)
    assert await client.feed(job_id, blocks()) == len(DATA)
    printed: list[bytes] = []
    await client.follow(job_id, printed.append)
    assert sum_of(b"".join(printed)) == SUM
    await client.close()


@pytest.mark.slow
def test_connections_are_cut(a_daemon: ADaemon) -> None:
    """Through a proxy that cuts every connection after 50 to 500 ms every byte comes once."""
    worker = a_daemon()

    async def by_asyncio(addr: str) -> str:
        async with AsyncClient(addr, tell=lambda _: None) as client:
            job = await client.start(sys.executable, "-c", args=[SLOWLY], feed=True)
            assert await job.feed(blocks()) == len(DATA)
            return sum_of(b"".join([data async for data in job.follow()]))

    with cutting_proxy(worker.addr) as proxy:
        with Client(proxy.addr, tell=lambda _: None) as client:
            job = client.start(sys.executable, "-c", args=[SLOWLY], feed=True)
            assert job.feed(blocks()) == len(DATA)
            assert sum_of(b"".join(job.follow())) == SUM
        assert asyncio.run(by_asyncio(proxy.addr)) == SUM
        assert proxy.cuts > 3


SLOWLY = """
import hashlib, sys, time
sum = hashlib.sha256()
while data := sys.stdin.buffer.read1(100_000):
    sum.update(data)
    time.sleep(0.02)
print(sum.hexdigest())
"""


@pytest.mark.slow
def test_taken_over(a_daemon: ADaemon, again: Again) -> None:  # the fixture
    """The worker is killed under a feeding, which goes on with the next one."""
    worker = a_daemon()
    script = "head -c 100000 | cat; until [ -e go ]; do sleep 0.05; done; cat"
    result: list[Any] = []
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy, Client(proxy.addr, tell=lambda _: None) as client:
        job = client.start("bash", "-c", args=[script], feed=True)
        thread = threading.Thread(target=lambda: result.append(job.feed(blocks())))
        thread.start()
        wait_until(lambda: job.record().output_bytes >= 100_000)
        worker.stop(signal.SIGKILL)
        proxy.upstream = again(worker).addr
        (worker.place / "go").touch()
        assert b"".join(job.follow()) == DATA
        thread.join(LIMIT)
    assert result == [len(DATA)]
