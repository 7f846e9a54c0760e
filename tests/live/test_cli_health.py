"""`txworker health`, as probes of containers call it."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.command_line import txworker
from tests.support.daemon import LIMIT, Daemon
from txworker.pb import worker_pb2 as pb


def test_health(a_daemon: Callable[..., Daemon]) -> None:
    """0 while it takes new jobs, 1 while it drains, then --live is 0 still; 69 when it has ended."""
    worker = a_daemon()
    assert txworker(worker, "health") == (0, b"SERVING\n", "")
    assert txworker(worker, "health", "--json", "--state-directory", str(worker.place / "state")) == (
        0,
        b'{"status": "SERVING"}\n',
        "",
    )
    job_id = worker.start("sleep", "1000")
    assert txworker(worker, "drain", "--state-directory", str(worker.place / "state"))[0] == 0
    assert txworker(worker, "health") == (1, b"NOT_SERVING\n", "")
    assert txworker(worker, "health", "--live") == (0, b"SERVING\n", "")
    worker.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    assert worker.process.wait(LIMIT) == 0
    status, printed, error = txworker(worker, "health", "--live", "--deadline", "0.3")
    assert (status, printed) == (69, b"")
    assert error.count("\n") == 1, error
