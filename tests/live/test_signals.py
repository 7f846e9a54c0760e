"""What signals do to a running worker, beside stopping it: reload, reopen; and a terminal that goes away."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.live.test_tls import TLS
from tests.support.command_line import txworker
from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from tests.support.pems import Authority
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

ADaemon = Callable[..., Daemon]


def reload(worker: Daemon, text: str, server: str = "") -> str:
    """What the log says after SIGHUP with that file."""
    worker.config.write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n{server}\n{text}')
    before = len(worker.log())
    worker.process.send_signal(signal.SIGHUP)
    ended = r"The configuration (\S+ was read again|stays as it is): .*\n"
    wait_until(lambda: re.search(ended, worker.log()[before:]))
    return worker.log()[before:]


def test_reload(a_daemon: ADaemon) -> None:
    """Limits, retention and level are in force after SIGHUP; what needs a restart is named and changes nothing."""
    worker = a_daemon("[jobs]\nmax_running = 1\n")
    done = [worker.end(worker.start("true")).job.jobID for _ in range(2)]
    first = worker.start("sleep", "1000")
    with pytest.raises(grpc.RpcError, match=r"jobs\.max_running: 1"):
        worker.start("true")
    new = "[jobs]\nmax_running = 0\nnice = 5\nkeep_jobs = 1\n[jobs.limits]\nmax_open_files = 50\n"
    log = reload(worker, new)
    assert "jobs.max_running is 0 from now on; it was 1." in log
    assert "jobs.nice stays 0: only a restart can make it 5." in log
    assert "3 changes apply, 1 needs a restart." in log
    assert worker.raw(worker.bash("ulimit -n")) == b"50\n"
    wait_until(lambda: _gone(worker, done[0]))
    assert worker.query(first).job.state == pb.JOB_STATE_RUNNING

    log = reload(worker, '[jobs]\nmax_running = "many"\n')
    assert "jobs.max_running: must be an integer" in log
    assert "from now on" not in log
    assert log.count("jobs.max_running") == 1
    assert worker.raw(worker.bash("ulimit -n")) == b"50\n"

    worker.config.write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n{new}[log]\nlevel = "error"\n')
    assert txworker(worker, "reload", "--state-directory", str(worker.place / "state"))[0] == 0
    worker.end(worker.start("true"))
    assert worker.stop() == 0
    assert "goodbye" not in worker.log()


def _gone(worker: Daemon, job_id: str) -> bool:
    try:
        worker.query(job_id)
    except grpc.RpcError as error:
        return bool(error.code() is grpc.StatusCode.NOT_FOUND)
    return False


def test_by_the_operator(a_daemon: ADaemon) -> None:
    """`txworker check` tells what `txworker reload` then does; a wrong file is told to both."""
    worker = a_daemon()
    state = ["--state-directory", str(worker.place / "state")]
    assert txworker(worker, "check", *state) == (0, b"the configuration is valid; a reload would change nothing\n", "")
    worker.config.write_text("[jobs]\nmax_running = 2\nnice = 5\n")
    words = (
        'grpc_server.addr: stays "127.0.0.1:0"; only a restart makes it "127.0.0.1:30000"\n'
        "jobs.max_running: {} 2 from now on; it was 0\n"
        "jobs.nice: stays 0; only a restart makes it 5\n"
    )
    assert txworker(worker, "check", *state) == (0, words.format("would be").encode(), "")
    assert "read again" not in worker.log()
    assert txworker(worker, "reload", *state) == (0, words.format("is").encode(), "")
    assert b"max_running" not in txworker(worker, "check", *state)[1]
    worker.config.write_text("[jobs]\nmax_runing = 2\n")
    for command in ("check", "reload"):
        status, _, err = txworker(worker, command, *state)
        assert (status, err.count("\n")) == (1, 1), err
        assert "worker.toml: jobs.max_runing: unknown key; did you mean jobs.max_running?" in err


def test_certificates(a_daemon: ADaemon, tmp_path: Path) -> None:
    """After a reload new connections get the certificate of the files that are named now."""
    authority = Authority()
    authority.sign("worker").write(tmp_path, "server")
    worker = a_daemon(server=TLS)
    authority.sign("worker").write(tmp_path, "other")
    log = reload(worker, "", TLS.replace("server.pem", "other.pem").replace("server.key", "other.key"))
    assert "grpc_server.crt_file is" in log
    trusted = grpc.ssl_channel_credentials(authority.pem)
    with grpc.secure_channel(worker.addr, trusted) as channel:
        WorkerStub(channel).ListJobs(pb.ListJobsReq(), timeout=LIMIT)
    assert "Serving the certificate that is now in" in worker.log()
    assert "other.pem" in worker.log()


def test_nothing_to_reopen(daemon: Daemon) -> None:
    """SIGUSR1 to a worker that logs to standard output does no harm."""
    daemon.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: "there is nothing to open again" in daemon.log())
    assert daemon.raw(daemon.start("echo", "on")) == b"on\n"


def test_terminal(tmp_path: Path) -> None:
    """
    A foreground worker with a terminal reloads by SIGHUP while the terminal is there, and ends in order when it goes.
    """
    (tmp_path / "worker.toml").write_text('[grpc_server]\naddr = "127.0.0.1:0"\n')
    leader, terminal = pty.openpty()
    log = tmp_path / "log"
    shell = f"{TWISTD} -n --pidfile= --logfile={log} worker & echo $! >pid; wait"
    words = ["setsid", "--ctty", "bash", "-ic", shell]
    process = subprocess.Popen(words, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    pid = 0
    try:
        found = wait_until(lambda: log.exists() and re.search(r"Serving on (\S+:\d+)", log.read_text()))
        pid = int(wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "was read again" in log.read_text())
        with grpc.insecure_channel(found[1]) as channel:
            stub = WorkerStub(channel)
            job_id = stub.StartJob(pb.StartJobReq(command="sleep", args=["1000"]), timeout=LIMIT).jobID
            job_pid = stub.QueryJob(pb.QueryJobReq(jobID=job_id)).job.pid
        os.close(leader)
        wait_until(lambda: "goodbye" in log.read_text())
        assert "SIGHUP, the terminal is gone: stopping." in log.read_text()
        wait_until(lambda: not os.path.exists(f"/proc/{job_pid}"))
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGTERM)
        process.kill()
        process.wait()
