"""The examples that --help shows, run by a shell against a real worker."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli_examples import arguments, readme_examples
from tests.support.command_line import PROGRAM
from tests.support.daemon import LIMIT, Daemon
from tests.support.pems import Authority
from txworker.cli.examples import EXAMPLES, GENERAL
from txworker.pb import worker_pb2 as pb

ADaemon = Callable[..., Daemon]


ENDING = ("drain", "handover")
"""Commands after which the worker is no more."""


def by_shell(worker: Daemon, line: str) -> tuple[int, str]:
    """Exit status and stderr of an example; one that watches for ever is interrupted, which is 130."""
    master, slave = os.openpty()  # for examples that need a terminal; a shell there is told to exit
    os.write(master, b"exit\n")
    script = f'txworker() {{ {shlex.join(PROGRAM)} "$@"; }}; {line}'
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=worker.place,
        env={
            **os.environ,
            "TXWORKER_ADDR": worker.addr,
            "XDG_CONFIG_HOME": str(worker.place),
            "PYTHONPATH": os.getcwd(),
        },
        stdin=slave if {"--tty", "-t"} & set(line.split()) else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(slave)
    endless = line.startswith("txworker watch") and not names_jobs(line)
    if endless:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    os.close(master)
    return process.returncode, err


def names_jobs(line: str) -> bool:
    """The line names jobs by their ids."""
    return any(len(word) == 36 for word in line.split())


@pytest.fixture
def worker(a_daemon: ADaemon) -> Daemon:
    """A worker in a directory with what the examples use."""
    made = a_daemon("[jobs]\nstop_grace_seconds = 1")
    (made.place / "report.py").write_text("print('fine')")
    (made.place / "count.sh").write_text("echo 1; echo 2")
    (made.place / "data.csv").write_text("2\n1\n")
    (made.place / "txworker").mkdir()
    (made.place / "txworker" / "client.toml").write_text(
        "".join(f'[workers.{name}]\naddr = "{made.addr}"\n' for name in ("build", "test"))
    )
    return made


def named(worker: Daemon, line: str) -> str:
    """With ids in place of "JOB": of jobs that run where they are stopped, else of jobs that are done."""
    while "JOB" in line:
        if line.split()[1] in ("stop", "kill", "renew"):
            job_id = worker.start("sleep", "1000")
        else:
            job_id = worker.bash("echo out; echo err >&2", separateStderr=True)
            worker.end(job_id)
        line = line.replace("JOB", job_id, 1)
    return line


@pytest.mark.parametrize(
    "command",
    [
        name if name == "run" else pytest.param(name, marks=pytest.mark.slow)
        for name in EXAMPLES
        if name not in (*ENDING, "reload", "check", "web")  # test_page.py has those of web
    ],
)
def test_examples(worker: Daemon, command: str) -> None:
    """Each does what it says, without an error."""
    night = worker.start("sleep", "1000", labels={"night": "1"})
    for line, _ in EXAMPLES[command]:
        status, err = by_shell(worker, named(worker, line))
        assert (status in (0, 130), err) == (True, ""), line
    assert worker.query(night).done == (command in ("stop", "kill"))
    worker.stub.StopJob(pb.StopJobReq(jobID=night), timeout=LIMIT)


@pytest.mark.slow
def test_general_examples(worker: Daemon) -> None:
    """So do the options of every command."""
    for line, _ in GENERAL:
        if "--tls-ca" not in line:
            assert by_shell(worker, line.replace("worker:30000", worker.addr)) == (0, ""), line


@pytest.mark.slow
def test_tls_examples(a_daemon: ADaemon, tmp_path: Path) -> None:
    """With TLS files, too."""
    authority = Authority()
    authority.sign("worker").write(tmp_path, "server")
    authority.sign("client").write(tmp_path, "me")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    server = 'use_tls = true\ncrt_file = "../server.pem"\nkey_file = "../server.key"\nclient_ca_file = "../ca.pem"\n'
    worker = a_daemon(server=server)
    for name in ("ca.pem", "me.pem", "me.key"):
        shutil.copy(tmp_path / name, worker.place)
    lines = [line for line, _ in GENERAL if "--tls-ca" in line]
    assert len(lines) == 1
    for line in lines:
        assert by_shell(worker, line) == (0, "")


@pytest.mark.slow
def test_readme(worker: Daemon) -> None:
    """The README's lines do what they say; those that end the worker come last in it, and have the other test."""
    (worker.place / "scripts").mkdir()
    shutil.copy(worker.place / "count.sh", worker.place / "scripts")
    for line in readme_examples():
        if arguments(line)[0] not in (*ENDING, "web"):
            status, err = by_shell(worker, named(worker, line))
            assert (status in (0, 130), err) == (True, ""), line


@pytest.mark.parametrize("command", ["reload", "check"])
def test_reload_examples(worker: Daemon, command: str) -> None:
    """The worker goes on."""
    ((line, _),) = EXAMPLES[command]
    assert by_shell(worker, line) == (0, "")
    assert worker.process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("command", ENDING)
def test_operator_examples(worker: Daemon, command: str) -> None:
    """The worker ends."""
    ((line, _),) = EXAMPLES[command]
    assert by_shell(worker, line) == (0, "")
    assert worker.process.wait(LIMIT) == 0
