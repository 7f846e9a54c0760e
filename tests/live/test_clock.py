"""A real worker whose wall clock is set, by more than a year."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, wait_until

TWISTD = """
import sys, time
wall = time.time
def jumping():  # but for gRPC, which compares it with the clock that C code sees
    return wall() + (0 if sys._getframe(1).f_globals["__name__"].startswith("grpc") else float(open("jump").read()))
time.time = jumping  # before Twisted takes it
from twisted.scripts.twistd import run
run()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[float], Daemon]]:
    """Starts the same worker again, its wall clock so many days off."""
    (tmp_path / "twistd.py").write_text(TWISTD)
    made: list[Daemon] = []

    def make(days: float) -> Daemon:
        set_clock(tmp_path, days)
        made.append(Daemon(tmp_path, "[jobs]\nkeep_days = 30\n", twistd=[sys.executable, "twistd.py"]))
        return made[-1]

    yield make
    for worker in reversed(made):  # or the newest would start another shim in place of the one that is ended
        worker.close()


def set_clock(place: Path, days: float) -> None:
    (place / "new").write_text(str(days * 86_400))
    (place / "new").rename(place / "jump")


@pytest.mark.slow
def test_set_while_it_runs(start: Callable[[float], Daemon]) -> None:
    """A job's times stay in order, and apart by what has passed; the log says that the clock was set."""
    worker = start(0)
    for days, words in ((-400, "back by 400.0 days"), (400, "ahead by 800.0 days")):
        job_id = worker.bash("sleep 0.6")
        set_clock(worker.place, days)
        wait_until(lambda words=words: words in worker.log())  # type: ignore[misc]
        job = worker.end(job_id).job
        created, started, finished = (at.ToNanoseconds() / 1e9 for at in (job.createdAt, job.startedAt, job.finishedAt))
        assert created <= started < started + 0.5 <= finished <= started + 20


@pytest.mark.slow
@pytest.mark.parametrize("days", [400, -400])
def test_set_while_none_runs(start: Callable[[float], Daemon], days: float) -> None:
    """What ended a moment ago is not too old when the next worker's clock says so, which removes at once."""
    worker = start(0)
    runs, done = worker.bash("exec sleep 300"), worker.bash("sleep 0.1")
    worker.end(done)  # and the other's beginning is written by now
    worker.kill_with_shim()
    again = start(days)
    again.end(again.bash("sleep 0.5"))
    assert again.query(done).done
    lost = again.query(runs).job
    assert lost.startedAt.seconds <= lost.finishedAt.seconds <= lost.startedAt.seconds + 20
    assert "Retention removed" not in again.log()
    assert (
        f"The wall clock went {'ahead' if days > 0 else 'back'} by 400.0 days while no worker ran here" in again.log()
    )
