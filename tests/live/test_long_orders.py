"""Orders as long as they may be: what the worker holds does not grow with them, and nothing of them is lost."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live.test_bad_requests import refused
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

ARGS = [f"{number:05}{'x' * 99_995}" for number in range(18)]
"""1.8 MB of them, which is what a machine with the usual 8 MiB of stack executes."""

CLIENT_BYTES = 4 * 1024 * 1024
"""More a client does not take in one message, unless it says so."""


def held_mb(worker: Daemon, what: str = "VmRSS") -> int:
    """Memory that it has, or has had at most (VmHWM)."""
    found = re.search(rf"^{what}:\s*(\d+) kB", Path(f"/proc/{worker.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


@pytest.fixture(scope="module")
def busy(daemon: Daemon) -> Daemon:
    """A worker with 20 long orders, of which the last ten run."""
    daemon.end(daemon.start("true"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: start(daemon, number), range(10)))
    for number in range(10, 20):
        start(daemon, number, "exec sleep 1000")
    return daemon


def start(worker: Daemon, number: int, script: str = "exit") -> str:
    labels = {f"long-{one}": "y" * 4000 for one in range(20)} | {"of": "long", "number": str(number)}
    return worker.start("bash", "-c", script, *ARGS, labels=labels, env={"LONG": "z" * 100_000}, requestID=f"n{number}")


def test_nothing_is_lost(busy: Daemon) -> None:
    """A record is shortened in lists and to watchers, and says so; a question for one job gets all of it."""
    request = pb.ListJobsReq(labels={"of": "long", "long-19": "y" * 4000}, pageSize=1000)
    listed = busy.stub.ListJobs(request, timeout=LIMIT)
    assert (len(listed.jobs), listed.nextPageToken) == (20, "")
    events = busy.stub.WatchJobs(pb.WatchJobsReq(labels=request.labels), timeout=LIMIT)
    watched = {event.job.jobID: event.job for event in islice(events, 20)}
    events.cancel()
    for job in listed.jobs:
        whole = busy.query(job.jobID).job
        assert (whole.args[1:], whole.shortened) == (ARGS, False)
        assert len(whole.labels) == 22
        for brief in (job, watched[job.jobID]):
            assert (brief.shortened, brief.ByteSize() < 10_000) == (True, True)
            assert (brief.command, brief.path, brief.args[0]) == ("bash", "-c", whole.args[0])
            assert whole.args[1].startswith(brief.args[1])
        assert busy.stub.ListJobs(pb.ListJobsReq(labels=whole.labels), timeout=LIMIT).jobs == [job]
    short = busy.start("echo", "a", "b", labels={"of": "short"})
    (job,) = busy.stub.ListJobs(pb.ListJobsReq(labels={"of": "short"}), timeout=LIMIT).jobs
    assert (job.jobID, list(job.args), job.shortened) == (short, ["b"], False)


def test_long_script(daemon: Daemon) -> None:
    """A script on the command line may be longer than what is kept of it, wherever that ends."""
    script = "echo begun; " + ": 'word';" * 600 + " echo $0"
    request = pb.StartJobReq(command=f'bash -c "{script}"', path="done", requestID="long script")
    job_id = daemon.stub.StartJob(request, timeout=LIMIT).jobID
    assert daemon.stub.StartJob(request, timeout=LIMIT).jobID == job_id
    assert daemon.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED
    assert daemon.text(job_id) == "begun\ndone\n"


def test_same_order_again(busy: Daemon) -> None:
    """All of an order counts when its request comes again, whether its job runs or not."""
    for number, script in ((3, "exit"), (13, "exec sleep 1000")):
        (job,) = busy.stub.ListJobs(pb.ListJobsReq(labels={"number": str(number)}), timeout=LIMIT).jobs
        assert start(busy, number, script) == job.jobID
        code, reason, sentence = refused(lambda number=number: start(busy, number, "true"))  # type: ignore[misc]
        assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert "different args" in sentence


def test_held(busy: Daemon) -> None:
    """Lists and watchers that stall, many at once, take no more than they are given."""
    before = held_mb(busy)
    watchers = []
    for _ in range(10):
        channel = grpc.insecure_channel(busy.addr, [("grpc.use_local_subchannel_pool", 1)])
        watchers.append((channel, WorkerStub(channel).WatchJobs(pb.WatchJobsReq(), timeout=LIMIT)))
        next(watchers[-1][1])
    with ThreadPoolExecutor(8) as pool:
        request = pb.ListJobsReq(labels={"of": "long"}, pageSize=1000)
        pages = list(pool.map(lambda _: busy.stub.ListJobs(request, timeout=LIMIT), range(16)))
    assert {len(page.jobs) for page in pages} == {20}
    assert held_mb(busy) - before < 25
    for channel, call in watchers:
        call.cancel()
        channel.close()


def test_launched(a_daemon: Callable[..., Daemon]) -> None:
    """What was only needed for the start is not held once the job runs: neither its arguments nor its stdin."""
    worker = a_daemon()
    for _ in range(3):
        worker.end(worker.start("true", "", *ARGS))
        worker.end(worker.start("cat", stdin=b"x" * 3_000_000))
    before = held_mb(worker)
    for _ in range(20):
        worker.start("bash", "-c", "exec sleep 1000", *ARGS)
    assert held_mb(worker) - before < 20


def test_too_long(a_daemon: Callable[..., Daemon]) -> None:
    """What cannot be executed is refused before it is written down, as near to the limit as the kernel does."""
    worker = a_daemon()
    worker.end(worker.start("true"))
    room = max(128 * 1024, min(6 * 2**20, resource.getrlimit(resource.RLIMIT_STACK)[0] // 4))
    if room > 3 * 2**20:
        pytest.skip(f"{room} bytes can be executed here: more than fit into a request")
    count = room // 100_000
    fitting = room - worker_environment_bytes(worker)
    table: list[tuple[dict[str, Any], str]] = [
        ({"args": ["x" * 100_000] * (count + 1)}, "args"),
        ({"args": [""] * (room // 9)}, "args"),
        ({"env": {f"A{number}": "x" * 100_000 for number in range(count + 1)}}, "env"),
    ]
    for request, field in table:
        order = pb.StartJobReq(command="/bin/true", **request)
        code, _, sentence = refused(lambda order=order: worker.stub.StartJob(order, timeout=LIMIT))  # type: ignore[misc]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert sentence.startswith(f"{field}: ")
        assert "too long" in sentence
        assert str(room) in sentence
    assert len(list(worker.output.iterdir())) == 2
    rest = fitting - 2 * (len("/bin/true") + 1) - 8 - 9 * count
    whole = ["x" * (rest // count)] * (count - 1) + ["x" * (rest - rest // count * (count - 1))]
    worker.end(worker.start("/bin/true", "", *whole))
    assert "too long" in refused(lambda: worker.start("/bin/true", "", *whole[1:], f"{whole[0]}x"))[2]


def worker_environment_bytes(worker: Daemon) -> int:
    """What a job's own environment takes: the worker's, and its mark."""
    seen = worker.raw(worker.start("env", "-0"))
    return len(seen) + 8 * seen.count(b"\0")


@pytest.mark.slow
def test_after_a_kill(a_daemon: Callable[..., Daemon]) -> None:
    """A worker that is killed leaves whole orders to the next one, of jobs that ran and of those that were done."""
    worker = a_daemon()
    done, running = start(worker, 1), start(worker, 2, "exec sleep 1000")
    worker.end(done)
    worker.stop(signal.SIGKILL)
    after = Daemon(worker.place)
    try:
        jobs = {job.jobID: job for job in after.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs}
        assert [jobs[job_id].shortened for job_id in (done, running)] == [True, True]
        for job_id, state in ((done, pb.JOB_STATE_SUCCEEDED), (running, pb.JOB_STATE_RUNNING)):
            job = after.query(job_id).job
            assert (job.state, list(job.args[1:]), len(job.labels)) == (state, ARGS, 22)
        assert start(after, 2, "exec sleep 1000") == running
    finally:
        after.close()


@pytest.mark.slow
def test_pages_by_bytes(a_daemon: Callable[..., Daemon]) -> None:
    """A page ends where a client's message does; the next one goes on, and no job is missing or there twice."""
    worker = a_daemon()

    def start_one(number: int) -> str:
        order = pb.StartJobReq(
            command=f"true {'c' * 4000}",
            path="p" * 4000,
            args=["a" * 4000],
            labels={"l": "l" * 4000},
            requestID=f"{number:04}{'r' * 4000}",
        )
        return worker.stub.StartJob(order, timeout=LIMIT).jobID

    with ThreadPoolExecutor(8) as pool:
        started = set(pool.map(start_one, range(200)))
    wait_until(lambda: not worker.stub.ListJobs(pb.ListJobsReq(states=[pb.JOB_STATE_RUNNING])).jobs)
    found = list(pages(worker))
    assert len(found) > 1
    assert all(page.ByteSize() < CLIENT_BYTES for page in found)
    ids = [job.jobID for page in found for job in page.jobs]
    assert (len(ids), set(ids)) == (200, started)


def pages(worker: Daemon) -> Iterator[pb.ListJobsRes]:
    token = ""
    while True:
        page = worker.stub.ListJobs(pb.ListJobsReq(pageToken=token, pageSize=1000), timeout=LIMIT)
        yield page
        token = page.nextPageToken
        if not token:
            return
