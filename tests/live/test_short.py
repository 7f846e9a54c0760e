"""A worker with hardly a descriptor left: jobs wait for one, and nothing of them is lost or left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import TWISTD, Daemon, wait_until

DESCRIPTORS = 100


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Daemon]:
    """One that has so many."""
    worker = Daemon(tmp_path, twistd=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", TWISTD])
    yield worker
    worker.close()


def as_many_as_it_takes(worker: Daemon, script: str) -> list[str]:
    job_ids = []
    with suppress(grpc.RpcError):
        while True:
            job_ids.append(worker.bash(script))
    assert len(job_ids) > 20
    return job_ids


def test_output(short: Daemon, tmp_path: Path) -> None:
    """Jobs that all begin to print when there are descriptors for a few wait for theirs; no byte is lost."""
    go = tmp_path / "go"
    os.mkfifo(go)
    job_ids = as_many_as_it_takes(short, f"read <{go}; head -c 100000 /dev/zero; echo the end")
    with go.open("w") as file:
        file.write("\n" * len(job_ids))
        file.flush()
        for job_id in job_ids:
            wait_until(lambda job_id=job_id: short.query(job_id).done)  # type: ignore[misc]
    for job_id in job_ids:
        assert not short.query(job_id).job.outputTruncated
        assert short.raw(job_id) == bytes(100_000) + b"the end\n"
    assert "has to wait" in short.log()
    assert short.stop() == 0
