"""The thread in which children are made: apart from the reactor, which goes on whatever becomes of a launch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from tests.support.apart import thread_apart
from txworker.process.apart import Apart
from txworker.process.place import Here

LIMIT = 20
real: Any = reactor


@pytest.fixture
def apart() -> Iterator[Apart]:
    with thread_apart() as place:
        yield place


@pytest_twisted.ensureDeferred
async def test_descriptors(apart: Apart, tmp_path: Path) -> None:
    """What is handed over is the same open file, and of all the others nothing is there but 0, 1 and 2."""
    kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
    numbers: list[int] = []

    def make(here: Mapping[int, int]) -> int:
        numbers.extend(int(fd) for fd in os.listdir("/proc/thread-self/fd"))
        assert here[1] == here[2]
        return os.write(here[1], b"from there")

    with (tmp_path / "file").open("w+b") as file:
        assert await apart.make(make, {1: file.fileno(), 2: file.fileno()}) == 10
        assert file.read() == b""  # the offset is shared, too
    assert (tmp_path / "file").read_bytes() == b"from there"
    assert len(numbers) < 10
    again = await apart.make(lambda here: len(os.listdir("/proc/thread-self/fd")), {})
    assert again == len(numbers) - 1  # it was closed there
    for fd in kept:
        os.close(fd)


@pytest_twisted.ensureDeferred
async def test_reactor_goes_on(apart: Apart) -> None:
    """A launch that takes its time keeps nobody waiting but those behind it, which come in their order."""
    free = threading.Event()
    order: list[object] = []

    def slow(here: Mapping[int, int]) -> int:
        assert free.wait(LIMIT)
        return 1

    first, second = apart.make(slow, {}), apart.make(lambda here: 2, {})
    first.addBoth(order.append)
    second.addBoth(order.append)
    await deferLater(real, 0)  # the reactor turns
    assert order == []
    free.set()
    await gatherResults([first, second]).addTimeout(LIMIT, real)
    assert order == [1, 2]


@pytest_twisted.ensureDeferred
async def test_errors(apart: Apart) -> None:
    """What goes wrong there is the caller's, and the next one is made all the same."""

    def fail(here: Mapping[int, int]) -> int:
        raise PermissionError(1, "not this")

    with pytest.raises(PermissionError, match="not this"):
        await apart.make(fail, {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        await apart.make(lambda here: 0, {1: 100_000})
    assert await apart.make(lambda here: 3, {}) == 3


@pytest_twisted.ensureDeferred
async def test_error_holds_nothing(apart: Apart) -> None:
    """What was open where an error was raised is closed there: elsewhere its number is another's."""

    def count(here: Mapping[int, int]) -> int:
        return len(os.listdir("/proc/thread-self/fd"))

    def fail(here: Mapping[int, int]) -> int:
        held = socket.socket()
        try:
            raise ValueError(str(held.fileno()))
        except ValueError as error:
            other = socket.socket()
            raise OSError(str(other.fileno())) from error

    before = await apart.make(count, {})
    with pytest.raises(OSError, match=r"\d") as caught:
        await apart.make(fail, {})
    assert await apart.make(count, {}) == before
    del caught


@pytest_twisted.ensureDeferred
async def test_umask() -> None:
    """Children have the one that is theirs, whatever ours is."""

    def make(here: Mapping[int, int]) -> int:
        return int(subprocess.run(["sh", "-c", "umask"], capture_output=True, check=True).stdout, 8)

    ours = os.umask(0o077)
    try:
        with thread_apart(0o027) as apart:
            assert await apart.make(make, {}) == 0o027
            assert os.umask(0o077) == 0o077
        assert await Here(0o027).make(make, {}) == 0o027
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(ours)


@pytest_twisted.ensureDeferred
async def test_urgent(apart: Apart) -> None:
    """The thread goes first, where it may; what it makes is ordinary."""
    if apart.problem:
        pytest.skip(apart.problem)
    policies: list[int] = []

    def make(here: Mapping[int, int]) -> int:
        policies.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
        child = os.posix_spawn("/bin/true", ["true"], {})
        policies.append(os.sched_getscheduler(child))
        return os.waitpid(child, 0)[1]

    await apart.make(make, {})
    assert policies == [os.SCHED_RR, os.SCHED_OTHER]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # the others are as they were


def test_nice_worker() -> None:
    """With a worker that was started with `nice` the thread does not go first, or its children would not be nice."""
    code = """
import os
from twisted.internet import reactor
from txworker.process.apart import Apart

def make(here):
    child = os.posix_spawn("/bin/true", ["true"], {})
    print(os.getpriority(os.PRIO_PROCESS, child), os.sched_getscheduler(child) == os.SCHED_OTHER, flush=True)
    return os.waitpid(child, 0)[1]

place = Apart(reactor, 0o022)
print("nice" in place.problem)
reactor.callWhenRunning(lambda: place.make(make, {}).addBoth(lambda _: reactor.stop()))
reactor.run()
"""
    words = ["nice", "-n", "3", sys.executable, "-c", code]
    assert subprocess.run(words, check=True, capture_output=True, text=True).stdout == "True\n3 True\n"


@pytest_twisted.ensureDeferred
async def test_close(apart: Apart) -> None:
    """The last thing is done there, and a launch that hangs is killed for it."""
    done: list[str] = []
    hanging = threading.Event()

    def hang(here: Mapping[int, int]) -> int:
        with subprocess.Popen(["sleep", "1000"]) as process:
            hanging.set()
            return process.wait()

    made = apart.make(hang, {})
    assert hanging.wait(LIMIT)
    apart.close(lambda: done.append(threading.current_thread().name))
    assert done == ["txworker-launch"]
    assert not made.called  # nobody is told any more
