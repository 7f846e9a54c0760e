"""What clients, jobs and names of files make of a real worker's log and of a terminal: nothing but lines to read."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live.test_tls import TLS
from tests.support.command_line import txworker
from tests.support.daemon import LIMIT, Daemon, cannot_start, wait_until
from tests.support.pems import Authority
from txworker.pb import worker_pb2 as pb

EVIL = "\x1b]0;x\x07\x1b[2J\r\n2026-01-01T00:00:00+0000 [forged#info] Job x is done.\x9b31m\u202e\u2028\ufeff\ufe0f"


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    """Its code and its sentence; of a stream's call, too."""
    try:
        answer = call(request, timeout=LIMIT)
        list(answer if hasattr(answer, "__next__") else ())
    except grpc.RpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"not refused: {request}")


def assert_plain(text: str) -> None:
    for line in text.split("\n"):
        assert line.removeprefix("\t").isprintable(), line
        assert not line.startswith("2026-01-01T00:00:00+0000 [forged"), line
        assert "\ufe0f" not in line


def test_texts_of_clients(daemon: Daemon) -> None:
    """Whatever is in an order, a job or a name: the log, statuses and the terminal have it in escapes, cut if long."""
    stub = daemon.stub
    orders = [
        pb.StartJobReq(command="", requestID=EVIL),
        pb.StartJobReq(command=EVIL),
        pb.StartJobReq(command="true", directory=EVIL),
        pb.StartJobReq(command="true", env={EVIL: "\0"}),
        pb.StartJobReq(command="'" + EVIL),
        pb.StartJobReq(command="", requestID=EVIL * 40),
        pb.StartJobReq(command="", requestID="x, was refused: nothing"),
    ]
    errors = [refusal(stub.StartJob, order) for order in orders]
    calls: list[tuple[Any, Any]] = [
        (stub.QueryJob, pb.QueryJobReq(jobID=EVIL)),
        (stub.StopJob, pb.StopJobReq(jobID=EVIL)),
        (stub.StreamJob, pb.StreamJobReq(path=EVIL)),
        (stub.WatchJobs, pb.WatchJobsReq(jobIDs=[EVIL])),
        (stub.ListJobs, pb.ListJobsReq(pageToken=EVIL)),
    ]
    errors += [refusal(call, request) for call, request in calls]
    for code, sentence in errors:
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), sentence
        assert_plain(sentence)
        assert "\n" not in sentence

    job_id = daemon.start("bash", "-c", "printf '\\033[2Jout\\r\\n'", EVIL, labels={EVIL: EVIL}, requestID=EVIL)
    daemon.end(job_id)
    for command in (["ps"], ["query", job_id], ["watch", job_id]):
        status, out, err = txworker(daemon, *command)
        assert (status, err) == (0, ""), err
        assert_plain(out.decode())
    assert txworker(daemon, "stream", job_id)[1] == b"\x1b[2Jout\r\n"
    log = wait_until(lambda: re.search(rf"Job {job_id} is done", text := daemon.log()) and text)
    assert_plain(log)
    assert max(map(len, log.split("\n"))) < 2500
    assert len(re.findall(r"A start requested by ", log)) == len(orders)
    assert ", request id 'x, was refused: nothing', was refused: " in log


def test_flood_of_refusals(a_daemon: Callable[..., Daemon]) -> None:
    """A thousand orders that are refused are some lines and a number; none of a job that runs meanwhile is missing."""
    daemon = a_daemon()
    jobs: list[str] = []

    def order(number: int) -> None:
        if number % 50 == 0:
            jobs.append(daemon.start("true"))
        refusal(daemon.stub.StartJob, pb.StartJobReq(command="", requestID=f"r-{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(order, range(1000)))
    for job_id in jobs:
        daemon.end(job_id)
    assert daemon.stop() == 0
    log = daemon.log()
    written = len(re.findall(r" was refused: ", log))
    counted = sum(
        map(int, re.findall(r"… and (\d+) more like it within 5 s: starts refused \(INVALID_ARGUMENT\)", log))
    )
    assert written + counted == 1000
    assert log.count("\n") < 250, log
    for job_id in jobs:
        assert len(re.findall(rf"Job {job_id} (started|is done)", log)) == 2


@pytest.mark.slow
def test_told_in_time(a_daemon: Callable[..., Daemon]) -> None:
    """How many more there were is told though nothing else happens then; a job's end that is asked for again is not."""
    daemon = a_daemon()
    job_id = daemon.bash("trap '' TERM; echo up; exec sleep 1000")
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id))))
    for _ in range(60):
        refusal(daemon.stub.StartJob, pb.StartJobReq())
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))
    assert_told_of = re.compile(r"was refused: |… and (\d+) more like it")
    wait_until(lambda: sum(int(count or 1) for count in assert_told_of.findall(daemon.log())) == 60)
    assert "more like it" in daemon.log()
    assert len(re.findall(rf"Job {job_id} is being stopped", daemon.log())) == 1


def test_handshakes(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """
    Who only connects writes no line: no handshake that fails is one, nor is a certificate that cannot serve, but
    once.
    """
    authority = Authority()
    authority.sign("worker").write(tmp_path, "server")
    daemon = a_daemon(server=TLS)
    lines = daemon.log().count("\n")
    (tmp_path / "server.key").unlink()
    for _ in range(100):
        with socket.create_connection(daemon.addr.rsplit(":", 1)) as client:
            client.sendall(b"GET /\x1b[31m HTTP/1.1\r\n\r\n")
            client.settimeout(LIMIT)
            try:
                while client.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    assert daemon.stop() == 0
    log = daemon.log()
    assert len(re.findall("The old certificate goes on serving", log)) == 1
    assert log.count("\n") - lines < 10, log


def test_names_of_files(tmp_path: Path) -> None:
    """A worker whose directory has such a name says so in escapes, when it runs and when it cannot."""
    place = tmp_path / "a\x1b[2J\r\n\u202e\udcff"
    place.mkdir()
    daemon = Daemon(place)
    try:
        assert daemon.end(daemon.start("true")).done
        assert daemon.stop(signal.SIGTERM) == 0
        assert r"\x1b[2J\r\n\u202e\udcff" in daemon.log()
        assert_plain(daemon.log())
    finally:
        daemon.close()
    (place / "worker.toml").write_text('[grpc_server]\naddr = "\\u001b[2J\\u009b\\u202e"\n')
    assert_plain(cannot_start(place / "worker.toml"))
