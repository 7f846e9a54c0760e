"""A worker for the tests of one file, and workers of their own for those that need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.spare import Spares


@pytest.fixture(scope="package", autouse=True)
def spares() -> Iterator[None]:
    """The workers of these tests begin with what is imported already."""
    Daemon.spares = made = Spares()
    yield
    Daemon.spares = None
    made.close()


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
    for worker in made:
        worker.close()
