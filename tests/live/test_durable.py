"""What a worker promised holds after it was killed: a new one in the same place knows it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon, cannot_start, wait_until
from txworker.jobs import JOB_ID_VARIABLE
from txworker.pb import worker_pb2 as pb
from txworker.store.schema import STEPS


@pytest.fixture
def again() -> Iterator[Callable[[Daemon], Daemon]]:
    """Starts a worker in the place of one that is gone."""
    made: list[Daemon] = []

    def make(before: Daemon, settings: str | None = None) -> Daemon:
        made.append(Daemon(before.place, before.settings if settings is None else settings))
        return made[-1]

    yield make
    for worker in reversed(made):  # or the newest would start another shim in place of the one that is ended
        worker.close()


Again = Callable[..., Daemon]
ADaemon = Callable[..., Daemon]


def store_of(worker: Daemon) -> Path:
    return next(worker.place.rglob("jobs.sqlite3"))


def code_of(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), str(refused.value.details())


def marked(job_id: str) -> list[int]:
    """The processes that carry a job's mark."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if f"{JOB_ID_VARIABLE}={job_id}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def test_killed(a_daemon: ADaemon, again: Again) -> None:
    """
    Every id that was answered is known; every end that was told is told the same, field for field. When the shim was
    killed, too, what ran is LOST, done, an error, and says when and why; its output streams to the last byte.
    """
    worker = a_daemon()
    ends = [worker.bash(f"echo {code}; exit {code}") for code in range(4)]
    told = {job_id: worker.end(job_id) for job_id in ends}
    stopped = worker.bash("sleep 300")
    worker.stub.StopJob(pb.StopJobReq(jobID=stopped), timeout=LIMIT)
    told[stopped] = worker.end(stopped)
    running = [worker.bash(f"head -c {size} /dev/zero; exec sleep 300") for size in (0, 1, 70_000)]
    wait_until(lambda: [worker.query(job_id).job.outputBytes for job_id in running] == [0, 1, 70_000])
    just_now = [worker.bash("sleep 300", requestID=f"r-{number}") for number in range(10)]
    worker.kill_with_shim()

    after = again(worker)
    assert {job_id: after.query(job_id) for job_id in told} == told
    for job_id in [*running, *just_now]:
        answer = after.query(job_id)
        assert (answer.done, answer.error, answer.job.state) == (True, True, pb.JOB_STATE_LOST)
        assert f"the worker (pid {worker.process.pid}) ended without notice" in answer.errorText
        assert "last seen alive at 20" in answer.errorText
        assert answer.job.HasField("finishedAt")
    assert [len(after.raw(job_id)) for job_id in running] == [0, 1, 70_000]
    assert [after.query(job_id).job.outputBytes for job_id in running] == [0, 1, 70_000]
    assert after.stop() == 0
    last = again(worker)
    assert {job_id: last.query(job_id) for job_id in told} == told


def names(pids: list[int]) -> list[str]:
    """What these processes run, in order of their names."""
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return sorted(found)


def test_processes(a_daemon: ADaemon, again: Again) -> None:
    """Nothing of a dead shim's jobs runs on when the new worker serves, however it hid; no other process is touched."""
    worker = a_daemon()
    bystander = subprocess.Popen(["sleep", "300"], env={**os.environ, JOB_ID_VARIABLE: "somebody else's"})
    try:
        job_id = worker.bash("trap '' TERM; setsid sleep 300 & (setsid sleep 300 &) ; sleep 300; true")
        wait_until(lambda: names(marked(job_id)) == ["bash", "sleep", "sleep", "sleep"])  # no subshell any more
        worker.kill_with_shim()
        assert names(marked(job_id)) == ["bash", "sleep", "sleep", "sleep"]
        again(worker)
        assert marked(job_id) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_request_id(a_daemon: ADaemon, again: Again) -> None:
    """
    The same request a hundred times at once, and again after a kill, is one job and one process; another request with
    that id is refused, and told in what it differs.
    """
    worker = a_daemon()
    script = f"echo once >> {worker.place}/count; exec sleep 300"
    barrier = threading.Barrier(20)

    def start(_: int) -> str:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(5)
        return worker.bash(script, requestID="r")

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(start, range(100)))
    (job_id,) = ids
    wait_until(lambda: (worker.place / "count").exists())
    worker.stop(signal.SIGKILL)
    after = again(worker)
    assert {after.bash(script, requestID="r") for _ in range(3)} == {job_id}
    assert (worker.place / "count").read_text() == "once\n"
    code, text = code_of(lambda: after.bash("true", requestID="r"))
    assert (code, "with a different args" in text, job_id in text) == (grpc.StatusCode.ALREADY_EXISTS, True, True)
    code, text = code_of(lambda: after.bash(script, requestID="r", stdin=b"secret"))
    assert (code, "with a different stdin" in text, "secret" in text) == (grpc.StatusCode.ALREADY_EXISTS, True, False)


@pytest.mark.slow
def test_second_worker(a_daemon: ADaemon) -> None:
    """A second worker in a state directory is refused in one sentence that names the pid; the first one serves on."""
    worker = a_daemon()
    assert f"is in use by the worker with pid {worker.process.pid}" in cannot_start(worker.config)
    worker.end(worker.bash("true"))


def test_newer_store(a_daemon: ADaemon) -> None:
    """A store that a newer version wrote is refused in one sentence, and left as it is."""
    worker = a_daemon()
    assert worker.stop() == 0
    _set_schema(worker, len(STEPS) + 1)
    before = store_of(worker).read_bytes()
    sentence = cannot_start(worker.config)
    assert f"written by a newer txworker (schema {len(STEPS) + 1}" in sentence
    assert store_of(worker).read_bytes() == before


def test_lost_after_refused_starts(a_daemon: ADaemon, again: Again) -> None:
    """The worker that a lost job's error names is the one that had the job, whichever were refused meanwhile."""
    worker = a_daemon()
    job_id = worker.bash("exec sleep 300")
    worker.kill_with_shim()
    _set_schema(worker, len(STEPS) + 1)
    cannot_start(worker.config)
    _set_schema(worker, len(STEPS))
    assert f"the worker (pid {worker.process.pid}) ended without notice" in again(worker).query(job_id).errorText


def _set_schema(worker: Daemon, number: int) -> None:
    with closing(sqlite3.connect(store_of(worker))) as connection:
        connection.execute(f"PRAGMA user_version = {number}")


def test_without_lock_file(a_daemon: ADaemon, again: Again) -> None:
    """When it is not known any more which worker was there, its jobs are lost all the same, and do not run on."""
    worker = a_daemon()
    job_id = worker.bash("echo kept; exec sleep 300")
    wait_until(lambda: worker.query(job_id).job.outputBytes)
    worker.kill_with_shim()
    store_of(worker).with_name("worker.lock").unlink()
    after = again(worker)
    answer = after.query(job_id)
    assert (answer.job.state, answer.errorText) == (
        pb.JOB_STATE_LOST,
        "lost: the worker ended without notice while it ran",
    )
    assert (after.raw(job_id), marked(job_id)) == (b"kept\n", [])


def test_damaged_page(a_daemon: ADaemon, again: Again) -> None:
    """A damaged page costs the jobs on it and no other; the next job has the highest revision, and is listed first."""
    worker = a_daemon()
    told = [worker.bash(f"exit {number}", requestID=f"r-{number}") for number in range(60)]
    for job_id in told:
        worker.end(job_id)
    assert worker.stop() == 0
    store = store_of(worker)
    with closing(sqlite3.connect(store)) as connection:
        (page,) = connection.execute(
            "SELECT max(pageno) FROM dbstat WHERE name = 'jobs' AND pagetype = 'leaf'"
        ).fetchone()
    with store.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    after = again(worker)
    known = {job.jobID for job in after.stub.ListJobs(pb.ListJobsReq(pageSize=1000), timeout=LIMIT).jobs}
    assert 20 < len(known) < 60
    assert known < set(told)
    for job_id in told:
        if job_id in known:
            after.raw(job_id)
        else:
            assert job_id in after.log()
    newest = after.bash("true")
    after.end(newest)
    assert after.stub.ListJobs(pb.ListJobsReq(pageSize=1), timeout=LIMIT).jobs[0].jobID == newest


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"garbage" * 1000, "is damaged"),
        pytest.param(lambda data: data[:4096] + bytes(len(data) - 4096), "is damaged", marks=pytest.mark.slow),
        (lambda data: b"", "was empty or not there, though a worker was here before"),
    ],
)
def test_damaged_store(a_daemon: ADaemon, again: Again, spoil: Callable[[bytes], bytes], words: str) -> None:
    """
    A damaged store is set aside and told of, and so is one that is empty; the worker serves. The outputs are where they
    were, and are listed; what still ran of a job that nobody knows any more is ended.
    """
    worker = a_daemon()
    job_id = worker.bash("echo kept; exec sleep 300")
    wait_until(lambda: worker.query(job_id).job.outputBytes)
    output = next(worker.output.glob(f"{job_id}*"))
    worker.stop(signal.SIGKILL)
    store = store_of(worker)
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.write_bytes(spoil(store.read_bytes()))
    after = again(worker)
    assert words in after.log()
    assert f"Output files of 1 job have no record, so retention never removes them: {job_id}." in after.log()
    assert len(list(store.parent.glob("jobs.sqlite3.damaged-*"))) == (words == "is damaged")
    assert code_of(lambda: after.query(job_id))[0] == grpc.StatusCode.NOT_FOUND
    assert (output.read_text(), marked(job_id)) == ("kept\n", [])
    after.end(after.bash("true"))


def test_retention(a_daemon: ADaemon, again: Again) -> None:
    """
    What retention removes answers NOT_FOUND and says so, and its file is gone; a job that somebody looks at stays, and
    so does one that runs.
    """
    worker = a_daemon()
    jobs = []
    for number in range(6):
        jobs.append(worker.bash(f"head -c 6000000 /dev/zero; echo {number}"))
        worker.end(jobs[-1])  # who ended first goes first
    runs = worker.bash("sleep 300")
    assert worker.stop() == 0
    after = again(worker, "[jobs]\nkeep_jobs = 2\n")
    viewer = after.stub.StreamJob(pb.StreamJobReq(jobID=jobs[-1], raw=True), timeout=LIMIT)
    first = next(viewer).data
    more = [after.bash("true") for _ in range(3)]
    for job_id in more:
        after.end(job_id)
    wait_until(lambda: not any(after.output.glob(f"{jobs[0]}*")))
    code, text = code_of(lambda: after.query(jobs[0]))
    assert (code, "was removed by this worker's retention at 20" in text) == (grpc.StatusCode.NOT_FOUND, True)
    code, text = code_of(lambda: after.raw(jobs[0]))
    assert (code, "retention" in text) == (grpc.StatusCode.NOT_FOUND, True)
    seen = first + b"".join(message.data for message in viewer)
    assert seen == bytes(6_000_000) + b"5\n"
    assert after.query(runs).job.state == pb.JOB_STATE_STOPPED
