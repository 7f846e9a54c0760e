"""What the operator sees when the worker cannot start, or is only asked whether it could."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.support.daemon import LIMIT, TWISTD, Daemon, cannot_start, twistd_ends, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

SIGNALLED_EARLY = """
import os, signal
from twisted.internet import reactor
from twisted.logger import Logger
from txworker.daemon.signals import SignalActions, Terminal, handle_signals, hold_signals
hold_signals()
os.kill(os.getpid(), signal.SIGTERM)
said = [lambda word=word: print(word) for word in ("reloaded", "reopened", "drained", "handed-over")]
handle_signals(reactor, SignalActions(*said), Terminal(), Logger())
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGUSR2):
    os.kill(os.getpid(), number)
reactor.addSystemEventTrigger("during", "startup", os.kill, os.getpid(), signal.SIGINT)
reactor.run()
print(reactor._exitSignal)
"""


def twistd(place: Path, text: str, *options: str) -> tuple[int, str]:
    """Exit status, and all it printed, of a worker with that configuration."""
    (place / "worker.toml").write_text(text)
    done = subprocess.run(
        [TWISTD, "-n", "--pidfile=", "worker", *options], cwd=place, capture_output=True, text=True, timeout=LIMIT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_bad_configuration(tmp_path: Path) -> None:
    """A mistake is one sentence with the dotted key, exit status 1, and no traceback."""
    (tmp_path / "file").write_text("")
    table = [
        ("[grpc_server]\nadr = 'x:1'", "grpc_server.adr: "),
        ("[grpc_server]\naddr = 'x:99999'", "grpc_server.addr: "),
        ("[grpc_server]\nuse_tls = true", "grpc_server."),
        ("[jobs]\nmax_running = 'many'", "jobs.max_running: "),
        ("not toml at all", "worker.toml"),
    ]
    for text, words in table:
        for options in ((), ("--check",)):
            status, printed = twistd(tmp_path, text, *options)
            assert status == 1, text
            assert words in printed
            assert printed.count("\n") == 1, printed


def test_check(tmp_path: Path) -> None:
    """--check says that a good configuration is good, and does nothing else."""
    status, printed = twistd(tmp_path, "", "--check")
    assert (status, printed.count("\n")) == (0, 1)
    assert "is good" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["worker.toml"]


def test_unwritable_output(tmp_path: Path) -> None:
    """What cannot be written is one sentence and status 1; a lost warning, or a reader that has gone, is no error."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[grpc_server]\naddr = "0.0.0.0:30000"')
    bad.write_text("[grpc_server]\nadr = 1")
    full = (1, "txworker: cannot write to standard output: No space left on device\n")
    table = [
        (f"--config {good} --check >/dev/full", *full),
        ("--version >/dev/full", *full),
        ("--help >/dev/full", *full),
        (f"--config {good} --check >/dev/full 2>/dev/full", 1, ""),
        (f"--config {good} --check 2>/dev/full", 0, f"txworker: {good} is good\n"),
        (f"--config {bad} --check 2>/dev/full", 1, ""),
    ]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for words, status, printed in table:
        done = subprocess.run(
            ["sh", "-c", f'"$0" -n --pidfile= worker {words}', TWISTD],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert (done.returncode, done.stdout + done.stderr) == (status, printed), words
    script = '{ "$0" -n --pidfile= worker --version; echo $? >&2; } | true'
    done = subprocess.run(["sh", "-c", script, TWISTD], capture_output=True, text=True, timeout=LIMIT, env=environ)
    assert done.stderr == "0\n"


def test_no_name(tmp_path: Path) -> None:
    """An address that no machine can have is named."""
    (tmp_path / "worker.toml").write_text('[grpc_server]\naddr = "a..b:30000"')
    assert cannot_start(tmp_path / "worker.toml") == "txworker: grpc_server.addr: a..b:30000: no name of a machine"


def test_address_in_use(tmp_path: Path) -> None:
    """An address that somebody else serves is named, in the foreground and by a starting daemon."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        text = f'[grpc_server]\naddr = "127.0.0.1:{taken.getsockname()[1]}"'
        status, printed = twistd(tmp_path, text)
        assert status == 1
        assert "grpc_server.addr: 127.0.0.1:" in printed
        assert "in use" in printed
        assert "Traceback" not in printed
        daemon = subprocess.run(
            [TWISTD, "--pidfile=pid", "--logfile=log", "worker"], cwd=tmp_path, capture_output=True, timeout=LIMIT
        )
        assert daemon.returncode == 1
        assert b"in use" in daemon.stdout + daemon.stderr
        wait_until(lambda: not (tmp_path / "pid").exists())  # twistd says why first, and then removes it


def test_early_signals() -> None:
    """A signal that comes before the reactor runs, or while it begins to, is obeyed in order, and not Twisted's way."""
    words = [sys.executable, "-c", SIGNALLED_EARLY]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert sorted(done.stdout.split()) == ["None", "drained", "handed-over", "reloaded", "reopened"]


def test_umask_of_jobs(tmp_path: Path) -> None:
    """A daemon's jobs have the umask that it was started with, though twistd gives the daemon itself another."""
    (tmp_path / "worker.toml").write_text('[grpc_server]\naddr = "127.0.0.1:0"')
    words = [TWISTD, "--pidfile=pid", "--logfile=log", "worker"]
    subprocess.run(words, cwd=tmp_path, umask=0o027, timeout=LIMIT, check=True)
    log, pid = tmp_path / "log", int((tmp_path / "pid").read_text())
    found = wait_until(lambda: re.search(r"Serving on (\S+:\d+)", log.read_text()))
    with grpc.insecure_channel(found[1]) as channel:
        stub = WorkerStub(channel)
        job_id = stub.StartJob(pb.StartJobReq(command="sh", path="-c", args=["umask"]), timeout=LIMIT).jobID
        assert [message.output for message in stub.StreamJob(pb.StreamJobReq(jobID=job_id))] == ["0027\n"]
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists())


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    """Version, configuration and directories are in the log; so is what may have been meant otherwise."""
    worker = Daemon(tmp_path, server='crt_file = "none.pem"\n')
    wait_until(lambda: "crt_file and key_file are not used" in worker.log())
    log = worker.log().replace('addr = "127.0.0.1:0"', "")
    worker.close()
    assert re.search(
        rf"txworker \d\S*, configuration {tmp_path}/worker.toml, state in {tmp_path}/state, output in", log
    )
    warning = "grpc_server.use_tls is false: crt_file and key_file are not used, and calls are not encrypted"
    assert f"#warn] {warning}.\n" in log
    words = [TWISTD, "worker", "--config", str(worker.config), "--check"]
    check = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert check.stdout == f"txworker: {worker.config} is good\n"
    assert f"txworker: warning: {warning}\n" in check.stderr
    status = subprocess.run([TWISTD, "worker", "--version"], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert re.match(r"txworker \d\S*, Twisted \d", status.stdout)


def test_no_file_name(tmp_path: Path) -> None:
    """An empty --config, of a shell variable that is not set, is no wish for the defaults."""
    status, printed = twistd(tmp_path, "", "--config", "")
    assert (status, printed) == (1, "txworker: --config: needs the name of a file\n")


def test_output_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """It is refused by its key, and not each job after it."""
    place = tmp_path / "here"
    place.mkdir()
    config = place / "worker.toml"
    config.write_text('[jobs]\noutput_directory = "/proc/self/task"\nstate_directory = "state"\n')
    sentence = cannot_start(config)
    assert sentence.startswith("txworker: jobs.output_directory: /proc/self/task: no file can be made in it: ")


def test_refusals_are_logged(daemon: Daemon) -> None:
    """An operator sees which starts were refused, whose, and why."""
    for request in (pb.StartJobReq(command="no-such-program", requestID="night-7"), pb.StartJobReq(command="a\0b")):
        with pytest.raises(grpc.RpcError):
            daemon.stub.StartJob(request, timeout=LIMIT)
    refused = re.findall(r"A start requested by ipv4:127.0.0.1:\d+(.*) was refused: (.*)", daemon.log())
    assert refused == [
        (", request id night-7,", "command: 'no-such-program': no such executable"),
        ("", r"command: 'a\x00b' contains a NUL byte"),
    ]


def test_options_of_twistd(tmp_path: Path) -> None:
    """An option of twistd under which promises would be untrue is refused in one sentence that names it."""
    (tmp_path / "worker.toml").write_text('[grpc_server]\naddr = "127.0.0.1:0"\n')
    table = [
        (["--uid=65534", "--euid"], "twistd --euid: "),
        (["--euid"], "twistd --euid: "),
        (["--chroot=/"], "twistd --chroot: "),
        (["--debug"], "twistd --debug: "),
        (["--reactor=select"], "twistd --reactor=select: "),
    ]
    for words, begin in table:
        status, printed = twistd_ends(["-n", "--pidfile=", *words, "worker"], tmp_path)
        assert (status, printed.count("\n"), f"txworker: {begin}" in printed) == (1, 1, True), printed
    assert [path.name for path in tmp_path.iterdir()] == ["worker.toml"]
