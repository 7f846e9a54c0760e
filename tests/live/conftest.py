"""Workers for tests: one for a whole file, or new ones; and processes without a worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.children import held, opened_since
from tests.support.command_line import Call
from tests.support.daemon import Daemon, wait_until
from tests.support.fork_server import ForkServer
from tests.support.providers import Provider, by_reactor, through_shim
from tests.support.shims import shims_below
from txworker.linux.procfs import ProcessTable

real: Any = reactor


@pytest.fixture(scope="session", autouse=True)
def buffered() -> None:
    """Python writes to its streams as it does for a user: unbuffered, it does not fail to flush them at its exit."""
    os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.fixture(scope="session", autouse=True)
def fork_servers(buffered: None) -> Iterator[None]:
    """The workers of these tests, and the calls of the command line, begin with what is imported already."""
    Daemon.fork_server, Call.fork_server = made = ForkServer("twistd"), ForkServer("txworker")
    yield
    Daemon.fork_server = Call.fork_server = None
    for one in made:
        one.close()


@pytest.fixture(scope="module", autouse=True)
def no_shim_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests of a file leave no shim behind, and so no job."""
    place = tmp_path_factory.getbasetemp().resolve()
    before = shims_below(place)
    yield
    wait_until(lambda: set(shims_below(place)) <= set(before), 10.0)  # one that waits for a worker in vain takes longer


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A worker with the defaults, shared by the tests of a file."""
    worker = Daemon(tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


@pytest.fixture
def a_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes workers that end with the test."""
    made: list[Daemon] = []

    def make(text: str = "", server: str = "") -> Daemon:
        place = tmp_path / f"worker{len(made)}"
        place.mkdir()
        made.append(Daemon(place, text, server))
        return made[-1]

    yield make
    for worker in reversed(made):  # or the newest would start another shim in place of the one that is ended
        worker.close()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """The test leaves no pipe, no pidfd, no memory file and no child."""
    for server in (Daemon.fork_server, Call.fork_server):
        if server is not None:
            server.close()
    pytest_twisted.blockon(deferLater(real, 0))  # the reactor has its own descriptors by now
    before, children = held(), children_now()
    yield
    assert opened_since(before) == []
    assert children_now() - children == set()


def children_now() -> set[int]:
    """The children of this subreaper; earlier tests may have left some, which end soon."""
    return set(ProcessTable().children(os.getpid()))


@pytest.fixture(params=["shim", "reactor"])
def provider(request: pytest.FixtureRequest, nothing_left: None, tmp_path: Path) -> Iterator[Provider]:
    """Each way of starting processes, one after the other."""
    with through_shim(tmp_path) if request.param == "shim" else by_reactor() as one:
        yield one


@pytest.fixture
def shim(nothing_left: None, tmp_path: Path) -> Iterator[Provider]:
    """A shim of the test's own."""
    with through_shim(tmp_path) as one:
        yield one
