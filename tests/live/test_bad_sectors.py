"""A disk that gives back something else than what was written to it, under the store."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from tests.live.test_disk_full import NOT_SERVING, SERVING, health, refusal
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

JOBS = 40
PAGE = 4096
ROOTS = 16 * PAGE
"""The beginning of the file, with the schema and the roots of the tables."""


def put(file: Path, content: bytes) -> None:
    """Write it behind ROOTS, as if nothing had written to the file."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(ROOTS)
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_read(a_daemon: Callable[..., Daemon]) -> None:
    """
    The call that cannot be answered fails; from then on the worker is NOT_SERVING and takes no jobs, which one line
    says, until the disk gives back what was written. Jobs run on, and their ends are told.
    """
    worker = a_daemon()
    for job_id in [worker.bash(f"true {'x' * 3000}") for _ in range(JOBS)]:
        worker.end(job_id)
    assert worker.stop() == 0
    with closing(Daemon(worker.place, worker.settings)) as worker:
        go_on = worker.place / "go on"
        runs = worker.bash(f"while [ ! -e '{go_on}' ]; do sleep 0.02; done; exit 3")
        file = worker.place / "state/jobs.sqlite3"
        whole = file.read_bytes()[ROOTS:]
        assert len(whole) > JOBS // 2 * PAGE
        put(file, os.urandom(len(whole)))
        with pytest.raises(grpc.RpcError) as failed:
            worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT)
        assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: health(worker) == NOT_SERVING)
        assert refusal(worker).code() == grpc.StatusCode.UNAVAILABLE
        go_on.touch()
        assert worker.end(runs).errorText == "exit status 3"
        assert health(worker) == NOT_SERVING
        put(file, whole)
        wait_until(lambda: health(worker) == SERVING)
        assert len(worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs) == JOBS + 1
        assert worker.end(worker.bash("true")).job.state == pb.JOB_STATE_SUCCEEDED
        assert worker.log().count("No new jobs until the store can be used again") == 1
        assert worker.log().count("The store can be used again.") == 1
