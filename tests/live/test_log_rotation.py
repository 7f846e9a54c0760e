"""logrotate beside a daemon that starts jobs all the time: no line is lost, and none has NULs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import LIMIT, TWISTD, end_shim, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

pytestmark = pytest.mark.slow

LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
PACKAGED = Path(__file__).parents[2] / "packaging" / "logrotate" / "txworker"
ROTATIONS = 6

CREATE = """{log} {{
    rotate 20
    create 0640
    postrotate
        kill -USR1 "$(cat {pidfile})"
    endscript
}}
"""
COPYTRUNCATE = "{log} {{\n    rotate 20\n    copytruncate\n}}\n"


@contextmanager
def background(place: Path, *more: str, **popen: object) -> Iterator[WorkerStub]:
    """A daemon with worker.log and worker.pid in that place, for as long as the block runs; then it ends in order."""
    (place / "worker.toml").write_text('[grpc_server]\naddr = "127.0.0.1:0"\n')
    words = [TWISTD, "--pidfile=worker.pid", "--logfile=worker.log", *more, "worker"]
    subprocess.run(words, cwd=place, check=True, timeout=LIMIT, **popen)  # type: ignore[call-overload]  # its keywords
    log = place / "worker.log"
    served = wait_until(lambda: re.search(r"Serving on (\S+:\d+)", log.read_text()))
    try:
        with grpc.insecure_channel(served[1]) as channel:
            yield WorkerStub(channel)
    finally:
        os.kill(int((place / "worker.pid").read_text()), signal.SIGTERM)
        wait_until(lambda: not (place / "worker.pid").exists())
        end_shim(place / "state")


def keep_starting(stub: WorkerStub, over: threading.Event, ids: list[str]) -> None:
    while not over.is_set():
        ids.append(stub.StartJob(pb.StartJobReq(command="true"), timeout=LIMIT).jobID)


def wait_for_starts(ids: list[str], count: int) -> None:
    wait_until(lambda: len(ids) >= count)


def rotate(place: Path, text: str) -> None:
    config = place / "logrotate.conf"
    config.write_text(text.format(log=place / "worker.log", pidfile=place / "worker.pid"))
    config.chmod(0o600)
    assert LOGROTATE is not None
    words = [LOGROTATE, "--force", "--state", str(place / "logrotate.state"), str(config)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate here")
@pytest.mark.parametrize("text", [CREATE, COPYTRUNCATE], ids=["create", "copytruncate"])
def test_under_load(tmp_path: Path, text: str) -> None:
    """Each job's two lines are in one of the files, whole; only what follows a cut may be there twice."""
    ids: list[str] = []
    over = threading.Event()
    with background(tmp_path) as stub:
        starters = [threading.Thread(target=keep_starting, args=(stub, over, ids)) for _ in range(4)]
        for starter in starters:
            starter.start()
        for number in range(1, ROTATIONS + 1):
            wait_for_starts(ids, number * 50)
            rotate(tmp_path, text)
        wait_for_starts(ids, (ROTATIONS + 1) * 50)
        over.set()
        for starter in starters:
            starter.join(LIMIT)
    files = sorted(tmp_path.glob("worker.log*"))
    assert len(files) == ROTATIONS + 1
    data = b"".join(file.read_bytes() for file in files)
    assert b"\0" not in data
    lines = data.decode().splitlines()
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\dT\S+ \[\S+#\w+\] ", line)] == []
    counted = Counter(re.findall(r"Job (\S+) (started|is done)", data.decode()))
    expected = {(job_id, what) for job_id in ids for what in ("started", "is done")}
    assert set(counted) == expected
    if text is CREATE:
        assert set(counted.values()) == {1}
        assert data.count(b"was opened again") == ROTATIONS
    else:
        assert data.count(b"The log file was cut by another program") >= ROTATIONS - 1


@pytest.mark.skipif(LOGROTATE is None, reason="there is no logrotate here")
def test_packaged(tmp_path: Path) -> None:
    """
    The file that ships: the worker opens its log again; while none runs, the log is rotated all the same, and a process
    that has the number of a stale pidfile gets no signal.
    """
    pidfile, log = tmp_path / "worker.pid", tmp_path / "worker.log"
    text = PACKAGED.read_text().replace("create 0640 txworker adm", "create 0640")
    text = text.replace("/var/log/txworker/worker.log", str(log)).replace("/run/txworker/worker.pid", str(pidfile))
    text = text.replace("{", "{{").replace("}", "}}")  # rotate() formats it
    with background(tmp_path):
        rotate(tmp_path, text)
        wait_until(lambda: "was opened again" in log.read_text())
    rotate(tmp_path, text)
    with subprocess.Popen(["sleep", "1000"]) as other:
        pidfile.write_text(str(other.pid))
        log.write_text("a line\n")
        rotate(tmp_path, text)
        assert other.poll() is None
        other.kill()
    assert len(list(tmp_path.glob("worker.log*"))) == 4


def test_surroundings(tmp_path: Path) -> None:
    """
    A daemon starts beside a pidfile with the number of another process, and without descriptors 0, 1 and 2; its jobs
    have all three.
    """
    (tmp_path / "worker.pid").write_text(str(os.getppid()))

    def close() -> None:
        for fd in range(3):
            os.close(fd)

    with background(tmp_path, preexec_fn=close) as stub:
        job_id = stub.StartJob(pb.StartJobReq(command="ls", args=["/proc/self/fd"]), timeout=LIMIT).jobID
        messages = stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT)
        assert b"".join(message.data for message in messages).split()[:3] == [b"0", b"1", b"2"]


def test_logger(tmp_path: Path) -> None:
    """twistd's --logger takes our factories: the daemon's log is JSON, in the file that --logfile names."""
    with background(tmp_path, "--logger=txworker.daemon.log_output.json") as stub:
        job_id = stub.StartJob(pb.StartJobReq(command="true"), timeout=LIMIT).jobID
        list(stub.StreamJob(pb.StreamJobReq(jobID=job_id, raw=True), timeout=LIMIT))
    entries = [json.loads(line) for line in (tmp_path / "worker.log").read_text().splitlines()]
    ends = [entry for entry in entries if entry.get("job_id") == job_id and "is done" in entry["message"]]
    assert [(entry["state"], entry["exit_code"]) for entry in ends] == [("SUCCEEDED", 0)]
