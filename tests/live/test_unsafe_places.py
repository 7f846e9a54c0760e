"""A worker that is root, and jobs of another user's who would have it read and write files for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import LIMIT, TWISTD_COMMAND, Daemon, cannot_start, end_shim, wait_until
from tests.support.other_users import a_python
from txworker.config import ConfigError, load
from txworker.pb import worker_pb2 as pb

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose jobs can be another user's")

NOBODY = 65534
SECRET = b"for root alone\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """Where everybody may go, which pytest's own directories are not."""
    made = Path(tempfile.mkdtemp(prefix="txworker-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def as_nobody(script: str) -> None:
    """What a job's user can do, does."""
    subprocess.run(["sh", "-c", script], check=True, user=NOBODY, group=NOBODY, extra_groups=[], timeout=LIMIT)


def settings(place: Path, output: str = "output", state: str = "state") -> str:
    return (
        f'[jobs]\nuser = "nobody"\ndirectory = "/"\noutput_directory = "{place / output}"\n'
        f'state_directory = "{place / state}"\n'
    )


def world_writable(place: Path, name: str) -> str:
    (place / name).mkdir()
    (place / name).chmod(0o777)
    return f"{place / name} can be written by others (mode 0777)"


def sticky(place: Path, name: str) -> str:
    (place / name).mkdir()
    (place / name).chmod(0o1777)
    return f"{place / name} can be written by others (mode 1777)"


def theirs(place: Path, name: str) -> str:
    (place / name).mkdir(0o700)
    os.chown(place / name, NOBODY, NOBODY)
    return f"{place / name} belongs to user nobody"


def below_a_groups(place: Path, name: str) -> str:
    parent = (place / name).parent
    parent.mkdir()
    parent.chmod(0o775)
    return f"{parent} can be written by others (mode 0775)"


def their_link(place: Path, name: str) -> str:
    parent = (place / name).parent
    parent.mkdir()
    parent.chmod(0o1777)
    (place / "elsewhere").mkdir()
    as_nobody(f"ln -s {place}/elsewhere {place / name}")
    return f"{place / name} is a symbolic link of user nobody's"


@pytest.mark.parametrize("key", ["output", "state"])
@pytest.mark.parametrize("lay", [world_writable, sticky, theirs, below_a_groups, their_link])
def test_refused(place: Path, key: str, lay: Callable[[Path, str], str]) -> None:
    """One sentence, by a check of the configuration, and nothing was made."""
    name, expected = laid(place, key, lay)
    with pytest.raises(ConfigError) as caught:
        load(place / "worker.toml")
    assert str(caught.value) == f"{place}/worker.toml: {expected}"
    assert not os.path.exists(place / name) or os.listdir(place / name) == []


@pytest.mark.parametrize(("key", "lay"), [("output", their_link), ("state", below_a_groups)])
def test_refused_at_the_start(place: Path, key: str, lay: Callable[[Path, str], str]) -> None:
    """The same sentence."""
    _, expected = laid(place, key, lay)
    assert expected in cannot_start(place / "worker.toml")


def laid(place: Path, key: str, lay: Callable[[Path, str], str]) -> tuple[str, str]:
    """A configuration with such a directory: its name, and what is to be said."""
    name = f"parent/{key}" if lay in (below_a_groups, their_link) else key
    danger = lay(place, name)
    (place / "worker.toml").write_text(settings(place, **{key: name}))
    return name, f"jobs.{key}_directory: {place / name}: not safe for a worker that is root: {danger}"


def test_safe(place: Path) -> None:
    """Below a sticky directory of root's, and by a link of root's, it is as it was."""
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    (place / "disk").mkdir(0o700)
    (place / "output").symlink_to("disk")
    worker = Daemon(place, settings(place, state="tmp/state"))
    try:
        job_id = worker.bash("id -u")
        assert worker.raw(job_id) == b"65534\n"
        assert (place / "disk" / f"{job_id}.out").exists()
        assert "others can change" not in worker.log()
    finally:
        worker.close()
        end_shim(place / "tmp" / "state")


def test_root_that_becomes_another_user(place: Path) -> None:
    """A worker that twistd makes another user's (--uid) works in the directories of that user."""
    if a_python(NOBODY) != sys.executable:
        pytest.skip("the other user cannot read this Python's modules")
    jobs = place / "jobs"
    jobs.mkdir()
    os.chown(jobs, NOBODY, NOBODY)
    text = f'[jobs]\ndirectory = "/"\noutput_directory = "{jobs}/output"\nstate_directory = "{jobs}/state"\n'
    worker = Daemon(place, text, twistd=[*TWISTD_COMMAND, "--uid", str(NOBODY)])
    try:
        assert worker.raw(worker.bash("id -u")) == b"65534\n"
        assert worker.stop() == 0
    finally:
        worker.close()
        end_shim(jobs / "state")


def anothers_file(path: Path) -> None:
    path.touch()
    os.chown(path, NOBODY, NOBODY)


def test_in_the_place_of_a_file(place: Path) -> None:
    """Links, pipes, directories in the place of an output file: not read, not written, not waited for."""
    secret = place / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    worker = Daemon(place, settings(place))
    tricks: list[Callable[[Path], None]] = [
        lambda path: path.symlink_to(secret),
        lambda path: path.hardlink_to(secret),
        lambda path: os.mkfifo(path),
        lambda path: path.mkdir(),
        anothers_file,
    ]
    try:
        for lay in tricks:
            running, silent, done = (worker.bash(script) for script in ("echo a; sleep 1000", "sleep 1000", "echo a"))
            wait_until(lambda running=running: worker.query(running).job.outputBytes)  # type: ignore[misc]
            worker.end(done)
            for job_id in (running, silent, done):
                path = worker.output / f"{job_id}.out"
                path.unlink()
                lay(path)
                with pytest.raises(grpc.RpcError) as caught:
                    worker.raw(job_id, noFollow=True)
                assert caught.value.code() is grpc.StatusCode.DATA_LOSS
                assert "another program has replaced its file" in str(caught.value.details())
            for job_id in (running, silent):
                worker.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        assert secret.read_bytes() == SECRET
        assert worker.raw(worker.bash("echo on")) == b"on\n"
    finally:
        worker.close()


def test_at_the_start(place: Path) -> None:
    """What was laid while no worker ran: a pipe for a lost job's output, for the store, for the lease."""
    worker = Daemon(place, settings(place))
    job_id = worker.bash("echo a; exec sleep 1000")
    wait_until(lambda: worker.query(job_id).job.outputBytes)
    worker.kill_with_shim()
    path = place / "output" / f"{job_id}.out"
    path.unlink()
    os.mkfifo(path)
    again = Daemon(place, settings(place))
    try:
        job = again.query(job_id).job
        assert (job.state, job.outputTruncated) == (pb.JOB_STATE_LOST, True)
        again.stop()
    finally:
        again.close()
        worker.close()
    lock = place / "state" / "worker.lock"
    lock.unlink()
    os.mkfifo(lock)
    assert f"jobs.state_directory: {lock}: it is not a regular file" in cannot_start(place / "worker.toml")


def test_the_directory_swapped(place: Path) -> None:
    """A parent that was opened up afterwards, and a link of theirs in the directory's place: nothing is made there."""
    (place / "parent").mkdir()
    (place / "elsewhere").mkdir(0o700)
    worker = Daemon(place, settings(place, output="parent/output"))
    try:
        (place / "parent").chmod(0o777)
        away = "mv -T output old$((n+=1))"  # more than once, if the worker makes another one in between
        as_nobody(
            f"cd {place}/parent; ln -s {place}/elsewhere link; until mv -T link output 2>/dev/null; do {away}; done"
        )
        with suppress(grpc.RpcError):  # perhaps the worker has looked already
            worker.bash("echo a")
        wait_until(lambda: "no new jobs until there is one that can be used" in worker.log())
        with pytest.raises(grpc.RpcError) as caught:
            worker.bash("echo a")
        assert "jobs.output_directory" in str(caught.value.details())
        assert os.listdir(place / "elsewhere") == []
        (place / "parent").chmod(0o755)
        (place / "parent" / "output").unlink()
        job_id = wait_until(lambda: started(worker))
        assert worker.raw(job_id) == b"b\n"
    finally:
        worker.output = place / "parent" / "output"
        worker.close()


def started(worker: Daemon) -> str:
    try:
        return worker.bash("echo b")
    except grpc.RpcError:
        time.sleep(0.05)
        return ""
