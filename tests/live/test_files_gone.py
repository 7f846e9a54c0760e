"""The state directory, or a file in it, is deleted, replaced or cut while the worker runs."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.daemon import LIMIT, Daemon, cannot_start, wait_until
from tests.support.shims import shims_below
from txworker.leftovers.tags import environment_tag
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]


def healthy(worker: Daemon) -> bool:
    answer = health_pb2_grpc.HealthStub(worker.channel).Check(health_pb2.HealthCheckRequest(), timeout=LIMIT)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def refusal(worker: Daemon) -> str:
    """With what sentence a start is refused, once it is."""

    def refused() -> str:
        try:
            worker.bash("true")
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return ""

    return str(wait_until(refused))


def replace(file: Path) -> None:
    """By somebody else's, at once."""
    other = file.with_name("other")
    if file.name.endswith("sqlite3"):
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE other (a)")
    else:
        other.write_bytes(b"other")
    os.replace(other, file)


def copy_over(file: Path) -> None:
    """Its own bytes in another file: what cp and mv, or an editor, leave."""
    shutil.copyfile(file, file.with_name("other"))
    os.replace(file.with_name("other"), file)


DEEDS: list[tuple[str, Callable[[Path], object]]] = [
    ("", shutil.rmtree),
    ("jobs.sqlite3", os.unlink),
    ("jobs.sqlite3", replace),
    ("jobs.sqlite3", copy_over),
    ("jobs.sqlite3-wal", os.unlink),
    ("jobs.sqlite3-wal", replace),
    ("jobs.sqlite3-wal", lambda file: os.truncate(file, 0)),
    ("jobs.sqlite3-shm", os.unlink),
    ("worker.lock", os.unlink),
    ("worker.lock", replace),
]


@pytest.mark.parametrize(
    ("durability", "deeds"),
    [
        ("process", [DEEDS[0], DEEDS[2]]),
        pytest.param("process", DEEDS, marks=pytest.mark.slow),
        pytest.param("machine", DEEDS, marks=pytest.mark.slow),
    ],
)
def test_put_right(a_daemon: ADaemon, durability: str, deeds: list[tuple[str, Callable[[Path], object]]]) -> None:
    """
    What others have done is told and put right; every job that was told is known, though the worker is killed then.
    Meanwhile no other worker gets the directory.
    """
    settings = f'[jobs]\ndurability = "{durability}"\n'
    worker = a_daemon(settings)
    known = {worker.bash("echo $RANDOM; exit 3")}
    os.mkfifo(worker.place / "end")
    running = worker.bash("read < end; exit 4")
    for number, (name, deed) in enumerate(deeds, 1):
        known.add(worker.bash("exit 3", requestID=f"before-{number}"))
        for job_id in known:
            worker.end(job_id)
        deed(worker.place / "state" / name)
        if name == "worker.lock":
            assert "is in use by " in cannot_start(worker.config)
        wait_until(lambda number=number: worker.log().count("was written anew, nothing is lost") == number)  # type: ignore[misc]
        assert healthy(worker)
        known.add(worker.bash("exit 3", requestID=f"after-{number}"))
        assert [worker.query(job_id).errorText for job_id in known if worker.end(job_id)] == ["exit status 3"] * len(
            known
        )
    set_aside = sum(deed in (replace, copy_over) for name, deed in deeds if name.endswith("sqlite3"))
    assert len(list((worker.place / "state").glob("jobs.sqlite3.replaced-*"))) == set_aside
    wait_until(lambda: "shim.sock was gone; it was made again, and no job is lost" in worker.log())
    worker.process.kill()
    worker.process.wait()
    again = Daemon(worker.place, settings)
    try:
        assert {again.query(job_id).errorText for job_id in known} == {"exit status 3"}
        assert again.query(running).job.state == pb.JOB_STATE_RUNNING
        (worker.place / "end").write_text("")
        assert again.end(running).errorText == "exit status 4"
        assert again.bash("exit 3", requestID="before-1") in known
        assert "is damaged" not in again.log()
    finally:
        again.close()


def test_nothing_can_take_over(tmp_path: Path) -> None:
    """A shim that no worker can find ends its jobs, with their grace period, says so in shim.log, and ends."""
    impatient = Path(__file__).parent.parent / "support" / "scripts" / "impatient_shim.py"
    program = f"from txworker.process import shim_socket; shim_socket.PROGRAM = {str(impatient)!r}"
    twistd = [sys.executable, "-c", f"{program}; from twisted.scripts.twistd import run; run()"]
    worker = Daemon(tmp_path, "[jobs]\nstop_grace_seconds = 0.5", twistd=twistd)
    script = "trap 'echo TERM' TERM; echo up; while :; do sleep 0.1; done"
    ids = [worker.bash(script), worker.bash("sleep 1000 & exec sleep 1000"), worker.bash("exit 3")]
    worker.end(ids[2])
    wait_until(lambda: worker.query(ids[0]).job.outputBytes)  # the trap is set
    shim, log = worker.shim(), tmp_path / "log of the shim"
    try:
        os.link(tmp_path / "state" / "shim.log", log)
        worker.stop(signal.SIGKILL)
        shutil.rmtree(tmp_path / "state")
        wait_until(lambda: not shims_below(tmp_path.resolve()))
        assert f"(pid {shim}) has no worker, and none can connect" in log.read_text()
        assert log.read_text().endswith("was removed from the state directory: ending 2 jobs.\n")
        assert (worker.output / f"{ids[0]}.out").read_text().endswith("TERM\n")
        assert not [pid for pid in ProcessTable().pids() if environment_tag(pid) in ids]
    finally:
        worker.close()


@pytest.mark.slow
def test_socket(a_daemon: ADaemon) -> None:
    """The operator's socket cannot be made again, which is told once; everything else goes on."""
    worker = a_daemon()
    lease = worker.place / "state" / "worker.lock"
    before = lease.read_text()
    wait_until(lambda: lease.read_text() != before)  # a beat later it is known to be there
    (worker.place / "state" / "control.sock").unlink()
    wait_until(lambda: "control.sock is gone: no operator can connect until a restart" in worker.log())
    worker.end(worker.bash("true"))
    assert healthy(worker)


@pytest.mark.slow
def test_moved_away(a_daemon: ADaemon) -> None:
    """A directory that is somewhere else is waited for; what is known is answered, and what ends is written then."""
    worker = a_daemon()
    os.mkfifo(worker.place / "end")
    done, running = worker.bash("exit 3"), worker.bash("read < end; exit 4")
    worker.end(done)
    state, elsewhere = worker.place / "state", worker.place / "elsewhere"
    for make_new in (False, True):
        state.rename(elsewhere)
        if make_new:
            state.mkdir()
        words = f"{state} was {'replaced' if make_new else 'deleted or moved'}"  # between the two it is gone
        wait_until(lambda words=words: words in refusal(worker))  # type: ignore[misc]
        assert refusal(worker).startswith("UNAVAILABLE: this worker's store of jobs does not work: ")
        assert not healthy(worker)
        assert [worker.query(done).errorText for _ in range(8)] == ["exit status 3"] * 8
        if make_new:
            (worker.place / "end").write_text("")
            state.rmdir()
        elsewhere.rename(state)
        wait_until(lambda: healthy(worker))
    assert worker.end(running).errorText == "exit status 4"
    assert worker.log().count("No new jobs until") == worker.log().count("The store can be used again.") == 2
    worker.end(worker.bash("true"))


def test_copied(a_daemon: ADaemon, tmp_path: Path) -> None:
    """A worker that starts with a copy of the state directory ends no job of the original: it does not start."""
    worker = a_daemon()
    job_id = worker.bash("read; exit 4", feed=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    subprocess.run(["cp", "-a", str(worker.place / "state"), str(worker.config), str(copy)], check=True)
    shim = worker.shim()
    for _ in range(2):
        assert f"{copy}/state is a copy of a directory whose jobs may still run, because their parent (pid {shim})" in (
            cannot_start(copy / "worker.toml")
        )
    worker.stub.FeedJob(iter([pb.FeedJobReq(jobID=job_id, data=b"\n")]), timeout=LIMIT)
    assert worker.end(job_id).errorText == "exit status 4"


def garbage(file: Path) -> None:
    """In place, and of the same length."""
    with file.open("r+b") as opened:
        opened.write(os.urandom(file.stat().st_size))


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (garbage, "another program has written into"),
        pytest.param(lambda file: os.truncate(file, 0), "was cut from", marks=pytest.mark.slow),
    ],
)
def test_spoilt(a_daemon: ADaemon, deed: Callable[[Path], object], words: str) -> None:
    """A store that was cut, or written over, cannot be made whole by a worker that runs: it refuses, and says why."""
    worker = a_daemon()
    worker.end(worker.bash("true"))
    with closing(sqlite3.connect(worker.place / "state" / "jobs.sqlite3")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    wait_until(lambda: (worker.place / "state" / "jobs.sqlite3-wal").stat().st_size == 0)
    worker.end(worker.bash("true"))
    lease = worker.place / "state" / "worker.lock"
    before = lease.read_text()
    wait_until(lambda: lease.read_text() != before)
    deed(worker.place / "state" / "jobs.sqlite3")
    assert words in refusal(worker)
    assert not healthy(worker)
    assert "a restart saves what " in wait_until(lambda: "cannot be repaired" in worker.log() and worker.log())
