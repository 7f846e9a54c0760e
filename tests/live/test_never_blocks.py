"""No job ever waits for a worker that is not there: each measures its own longest write."""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.live.test_takeover import Again, again
from tests.support.daemon import Daemon, wait_until
from txworker.pb import worker_pb2 as pb

__all__ = ["again"]  # a fixture

ADaemon = Callable[..., Daemon]
AWAY_SECONDS = 60
STILL_SECONDS = 1.0
POUR = """
import hashlib, os, random, time
block, sha, longest, last = random.randbytes(1 << 20), hashlib.sha256(), 0.0, time.monotonic()
number = 0
blocks = int(os.environ.get("BLOCKS") or 0)
while number < blocks if blocks else not os.path.exists("go"):
    while number == blocks - 1 and not os.path.exists("go"):
        time.sleep(0.01)
        last = time.monotonic()
    data = number.to_bytes(8, "big") + block[8 : int(os.environ["BYTES"])]
    sha.update(data)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest[:65536]) :]
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    number += 1
    time.sleep(float(os.environ["PAUSE"]))
    last = time.monotonic()
os.write(2, f"{sha.hexdigest()} {longest} {number}".encode())
"""
"""
Prints blocks, the last one when there is a file `go`, and on stderr their sha256, the longest write of 64 KiB and how
many blocks these were.
"""


def _pour(worker: Daemon, size: int, pause: float = 0.0, blocks: int = 0) -> str:
    env = {"BYTES": str(size), "PAUSE": str(pause), "BLOCKS": str(blocks or "")}
    return worker.start(sys.executable, "-c", POUR, separateStderr=True, env=env)


def _check(worker: Daemon, job_id: str) -> float:
    """Its output is what it printed; its longest write."""
    assert worker.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED
    digest, longest, _ = worker.raw(job_id, stderr=True).decode().split()
    with (worker.output / f"{job_id}.out").open("rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
    assert sha.hexdigest() == digest
    return float(longest)


@pytest.mark.slow
def test_away_for_a_minute(a_daemon: ADaemon, again: Again) -> None:
    """Jobs that print all the time, slowly and 4 MB/s each, never stand still while no worker is there."""
    worker = a_daemon()
    ids = [_pour(worker, 4096, 0.005) for _ in range(8)] + [_pour(worker, 1 << 18, 0.06) for _ in range(2)]
    wait_until(lambda: all(worker.query(job_id).job.outputBytes for job_id in ids))
    worker.stop(signal.SIGKILL)
    end = time.monotonic() + AWAY_SECONDS
    sizes = [0] * len(ids)
    while time.monotonic() < end:
        time.sleep(2)
        now = [(worker.output / f"{job_id}.out").stat().st_size for job_id in ids]
        assert all(size > before for before, size in zip(sizes, now, strict=True))
        sizes = now
    after = again(worker)
    (worker.place / "go").touch()
    longest = [_check(after, job_id) for job_id in ids]
    print(f"longest writes while no worker was there for {AWAY_SECONDS} s: {max(longest):.3f} s of {len(ids)} jobs")
    assert max(longest) < STILL_SECONDS


@pytest.mark.slow
def test_2_gib_through_five_kills(a_daemon: ADaemon, again: Again) -> None:
    """A job that pours 2 GiB while its worker is killed five times: every byte, and never a long pause."""
    worker = a_daemon()
    job_id = _pour(worker, 1 << 20, blocks=2048)
    current = worker
    for kills in range(1, 6):
        wait_until(partial(_holds, worker.output / f"{job_id}.out", kills * (300 << 20)))
        current.stop(signal.SIGKILL)
        current = again(current)
    (worker.place / "go").touch()
    longest = _check(current, job_id)
    assert (worker.output / f"{job_id}.out").stat().st_size == 2 << 30
    print(f"longest write of 64 KiB: {longest:.3f} s")
    assert longest < STILL_SECONDS


def _holds(file: Path, size: int) -> bool:
    return file.stat().st_size > size
