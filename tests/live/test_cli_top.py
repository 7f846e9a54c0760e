"""`txworker top` against real workers, and on a real terminal."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.test_cli_workers import config_home, name_workers
from tests.live.test_takeover import Again, again
from tests.support.command_line import PROGRAM, txworker
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.terminal import on_terminal
from txworker.pb import worker_pb2 as pb

__all__ = ["again", "config_home"]

ADaemon = Callable[..., Daemon]

BUSY = "nice -n 19 bash -c 'while :; do :; done' & echo up; wait"
"""A job of which a child is busy."""


@pytest.fixture
def busy(daemon: Daemon) -> Iterator[str]:
    """The id of a job whose child uses CPU."""
    job_id = daemon.bash(BUSY, labels={"of": "top"})
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT)))
    yield job_id
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    daemon.end(job_id)


def test_once(daemon: Daemon, busy: str) -> None:
    """Where stdout is no terminal, one table: the busy tree first, with its processes, its label and its output."""
    quiet = daemon.start("sleep", "1000", labels={"of": "quiet"})
    daemon.end(daemon.start("true"))

    def table() -> list[list[str]]:
        """Once the busy child has had a CPU between two samples: others may keep it from one for longer."""
        status, out, err = txworker(daemon, "top", "--interval", "0.3", "-L", "of")
        assert (status, err) == (0, "")
        found = [line.split() for line in out.decode().splitlines()]
        return found if found[1][0] == busy and float(found[1][1]) > 0 else []

    header, *lines = wait_until(table)
    assert header == ["JOB", "CPU%", "MEMORY", "PROCS", "RAN", "OUTPUT", "OF", "COMMAND"]
    assert [(line[0], line[6], line[7]) for line in lines] == [(busy, "top", "bash"), (quiet, "quiet", "sleep")]
    assert (lines[0][3], lines[0][5], lines[1][3]) == ("2", "3", "1")
    txworker(daemon, "kill", quiet)


@pytest.mark.slow
def test_selected(daemon: Daemon, busy: str) -> None:
    """Jobs by their ids and labels, as JSON too; not one that is done; that there is none is an error."""
    quiet, done = daemon.start("sleep", "1000"), daemon.start("true")
    daemon.end(done)
    status, out, _ = txworker(daemon, "top", "--json", "--interval", "0.1", "--sort", "job", busy[:8], quiet)
    uses = [json.loads(line) for line in out.splitlines()]
    assert (status, {use["jobID"]: use["processes"] for use in uses}) == (0, {busy: 2, quiet: 1})
    assert all(use["rssBytes"] > 2**18 and use["job"]["state"] == "JOB_STATE_RUNNING" for use in uses)
    assert txworker(daemon, "top", "--once", "--interval", "0.1", done)[::2] == (0, "")
    assert txworker(daemon, "top", "--label", "of=none", "--interval", "0.1")[1].count(b"\n") == 1
    assert txworker(daemon, "top", "nobody")[::2] == (
        1,
        "txworker: there is no job 'nobody' on this worker (NOT_FOUND)\n",
    )
    txworker(daemon, "kill", quiet)


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.slow), False])
def rich(request: pytest.FixtureRequest) -> bool:
    """Whether rich is installed."""
    return bool(request.param)


@pytest.fixture
def env(rich: bool, tmp_path: Path) -> dict[str, str]:
    """The environment where it is so."""
    if rich:
        return dict(os.environ)
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("raise ModuleNotFoundError")
    return {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}


def test_on_a_terminal(daemon: Daemon, busy: str, rich: bool, env: dict[str, str]) -> None:
    """The screen is refreshed; keys sort and end it; the terminal is as it was. Without rich it says so."""
    words = [*PROGRAM, "--addr", daemon.addr, "top", "--interval", "0.2"]
    with on_terminal(words, env, columns=100) as terminal:
        terminal.until(rf"(?s){busy[:8]} +-.*by cpu.*{busy[:8]} +[0-9.]+ ")
        assert terminal.mode() != terminal.first_mode
        terminal.type("m")
        assert ("pip install 'txworker[top]'" in terminal.until("by memory")) == (not rich)
        terminal.type("q")
        status, shown = terminal.ended()
        assert (status, shown.endswith("\x1b[?1049l")) == (0, True), shown
        assert terminal.mode() == terminal.first_mode


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_ended(daemon: Daemon, busy: str, number: signal.Signals, status: int) -> None:
    """Ctrl-C and signals end it as a shell tells it, and give the terminal back."""
    with on_terminal([*PROGRAM, "--addr", daemon.addr, "top"]) as terminal:
        terminal.until(busy[:8])
        if number == signal.SIGINT:
            terminal.type("\x03")
        else:
            terminal.process.send_signal(number)
        assert terminal.ended()[0] == status
        assert "\x1b[?1049l" in terminal.shown
        assert terminal.mode() == terminal.first_mode


def test_terminal_lost(daemon: Daemon, busy: str, env: dict[str, str], tmp_path: Path) -> None:
    """When the terminal goes away the program ends by SIGHUP, and says nothing."""
    words = ["sh", "-c", 'exec "$@" 2>"$0"', str(tmp_path / "said"), *PROGRAM, "--addr", daemon.addr, "top"]
    with on_terminal(words, env) as terminal:
        terminal.until(busy[:8])
        terminal.hang_up()
        assert terminal.process.wait(LIMIT) == 128 + signal.SIGHUP
    assert (tmp_path / "said").read_text() == ""


def test_suspended(daemon: Daemon, busy: str, env: dict[str, str]) -> None:
    """Ctrl-Z gives the shell the terminal as it was; afterwards the screen and its keys are back."""
    with on_terminal(["bash", "--norc", "--noediting", "-i"], {**env, "PS1": "ready> "}) as terminal:
        terminal.sees("ready> ")
        before = terminal.mode()
        terminal.type(f"{shlex.join([*PROGRAM, '--addr', daemon.addr, 'top'])}\r")
        terminal.sees("\x1b[?1049h")
        terminal.sees(busy[:8])
        terminal.type("m")
        terminal.sees("by memory")
        terminal.type("\x1a")
        terminal.sees("\x1b[?1049l")
        terminal.sees("Stopped")
        terminal.sees("ready> ")
        assert terminal.mode() == before
        terminal.type("fg\r")
        terminal.sees("\x1b[?1049h")
        terminal.sees("by memory")
        terminal.type("q")
        terminal.sees("\x1b[?1049l")
        terminal.sees("ready> ")
        terminal.type("exit $?\r")
        assert terminal.ended()[0] == 0


@pytest.mark.slow
def test_named(daemon: Daemon) -> None:
    """It ends when all jobs that are named are done."""
    job_id = daemon.start("sleep", "1000")
    with on_terminal([*PROGRAM, "--addr", daemon.addr, "top", "--interval", "0.1", job_id[:8]]) as terminal:
        terminal.until(job_id[:8])
        daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        assert terminal.ended()[0] == 0


@pytest.mark.slow
def test_taken_over(a_daemon: ADaemon, again: Again) -> None:
    """A worker that is killed is waited for, which the screen says, and its jobs are shown by the next one."""
    worker = a_daemon()
    job_id = worker.start("sleep", "1000")
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy:
        words = [*PROGRAM, "--addr", proxy.addr, "top", "--interval", "0.2"]
        with on_terminal(words, columns=200) as terminal:
            terminal.until(job_id[:8])
            worker.stop(signal.SIGKILL)
            terminal.until("connection lost")
            proxy.upstream = again(worker).addr
            terminal.until(r"memory; by cpu(?:(?!lost|memory; by)[\s\S])*\[q\]uit")
            terminal.type("q")
            assert terminal.ended()[0] == 0


@pytest.mark.slow
def test_several(a_daemon: ADaemon, config_home: Path) -> None:
    """The jobs of several workers are in one table; one that does not answer is reported, also by the status."""
    workers = {name: a_daemon() for name in ("one", "second")}
    jobs = {name: worker.start("sleep", "1000") for name, worker in workers.items()}
    env = name_workers(config_home, **{name: worker.addr for name, worker in workers.items()}, gone="127.0.0.1:1")

    def run_top(*words: str) -> tuple[int, str, str]:
        command = [*PROGRAM, "--patience", "0", "top", "--interval", "0.1", "--sort", "job", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
        return done.returncode, done.stdout, done.stderr

    status, out, err = run_top("--worker", "one,second")
    assert (status, err) == (0, "")
    assert [tuple(line.split()[:2]) for line in out.splitlines()] == [("WORKER", "JOB"), *jobs.items()]
    status, out, err = run_top("--all-workers", "--json")
    assert {use["worker"]: use["jobID"] for use in map(json.loads, out.splitlines())} == jobs
    assert (status, err.count("\n")) == (69, 1)
    assert err.startswith("txworker: gone: no worker answers at 127.0.0.1:1: ")
    with on_terminal([*PROGRAM, "--patience", "0", "top", "--all-workers"], env, columns=120) as terminal:
        terminal.until("gone: no worker answers")
        terminal.until(jobs["second"][:8])
        terminal.type("q")
        status, shown = terminal.ended()
    assert status == 69
    assert "txworker: gone: no worker answers" in shown.rpartition("\x1b[?1049l")[2]
