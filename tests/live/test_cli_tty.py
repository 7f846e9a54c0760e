"""`txworker run --tty` in a real terminal: a pseudo-terminal of the test's own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.live.test_takeover import Again, again
from tests.support.command_line import PROGRAM, txworker
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.terminal import Terminal, on_terminal, without_waiting
from txworker.pb import worker_pb2 as pb

__all__ = ["again"]  # a fixture

SHELL = ("run", "--tty", "--env", "PS1=ready> ", "bash", "--norc", "--noediting")


@contextmanager
def at_a_terminal(addr: str, *words: str) -> Iterator[Terminal]:
    """The program on a terminal of 30 rows and 100 columns, which is as it was in the end."""
    with on_terminal([*PROGRAM, "--addr", addr, *words], rows=30, columns=100) as terminal:
        yield terminal
        assert terminal.mode() == terminal.first_mode


def test_shell(daemon: Daemon) -> None:
    """
    A shell is usable: prompt, size, signals by keys, job control, the end of input; and its exit status is ours.
    """
    with at_a_terminal(daemon.addr, *SHELL) as screen:
        assert without_waiting(screen.sees("ready> ")) == "ready> "  # and no word about job control
        screen.type("stty size; echo $TERM\r")
        assert screen.sees("ready> ").endswith("\r\n30 100\r\nxterm-256color\r\nready> ")
        screen.resize(41, 133)
        screen.type("until [ \"$(stty size)\" = '41 133' ]; do sleep 0.02; done; echo wi'der'\r")
        screen.sees("\nwider\r\n")
        screen.sees("ready> ")
        screen.type("sh -c 'echo up; exec sleep 1000'\r")  # what is up has the terminal, and gets its signals
        screen.sees("\nup\r\n")
        screen.type("\x03")
        screen.sees("ready> ")
        screen.type("echo status $?; sh -c 'echo up; exec sleep 2000'\r")
        screen.sees("\nstatus 130\r\nup\r\n")
        screen.type("\x1a")
        screen.sees("Stopped")
        screen.sees("ready> ")  # or it comes between the typed line and its copy
        screen.type("kill -KILL %1; cat\r")
        screen.sees("cat\r\n")
        screen.type("grüße\r")
        screen.sees("grüße\r\ngrüße\r\n")
        screen.type("\x04")
        screen.sees("ready> ")
        screen.type("exit 7\r")
        assert screen.ended()[0] == 7
    assert "Traceback" not in screen.shown


def test_leave(daemon: Daemon) -> None:
    """`~.` at the beginning of a line leaves the job to itself; elsewhere a `~` is the job's."""
    with at_a_terminal(daemon.addr, *SHELL) as screen:
        screen.sees("ready> ")
        screen.type("echo ~.a\r")
        screen.sees("\n~.a\r\n")
        screen.type("echo last > left\r~.")
        sentence = screen.sees("runs on")
        assert screen.ended()[0] == 0
    job_id = sentence.split("job ")[1].split()[0]
    assert daemon.query(job_id).job.state == pb.JOB_STATE_RUNNING
    wait_until((daemon.place / "left").exists)
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id))
    assert daemon.end(job_id).errorText == "signal: hangup"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signalled(daemon: Daemon, number: int) -> None:
    """A signal from outside stops the job, as without a terminal; ours is as it was before."""
    with at_a_terminal(daemon.addr, *SHELL) as screen:
        screen.sees("ready> ")
        screen.process.send_signal(number)
        assert screen.ended()[0] == 128 + signal.SIGHUP


def test_terminal_lost(daemon: Daemon) -> None:
    """When the terminal goes away, as at the end of an ssh session, the job is stopped."""
    with on_terminal([*PROGRAM, "--addr", daemon.addr, *SHELL]) as screen:
        screen.sees("ready> ")
        (job,) = daemon.stub.ListJobs(pb.ListJobsReq(pageSize=1)).jobs
        screen.hang_up()
        assert screen.process.wait(LIMIT) == 128 + signal.SIGHUP
    assert daemon.end(job.jobID).errorText == "signal: hangup"


def test_no_terminal(daemon: Daemon) -> None:
    """Where there is none the job is not started, and the error says so."""
    before = len(daemon.stub.ListJobs(pb.ListJobsReq()).jobs)
    assert txworker(daemon, "run", "-t", "bash") == (125, b"", "txworker: --tty: standard input is not a terminal\n")
    assert len(daemon.stub.ListJobs(pb.ListJobsReq()).jobs) == before


def test_detached(daemon: Daemon) -> None:
    """With --detach a job has a terminal, too, of the usual size where we have none."""
    status, out, _ = txworker(daemon, "run", "-t", "-d", "stty", "size")
    assert status == 0
    assert daemon.raw(out.decode().strip()) == b"24 80\r\n"


def test_not_started(daemon: Daemon) -> None:
    """A job that cannot be started leaves the terminal as it was."""
    with at_a_terminal(daemon.addr, "run", "-t", "no-such-program") as screen:
        assert screen.ended()[0] == 127
        assert "no-such-program" in screen.shown


@pytest.mark.slow
def test_taken_over(a_daemon: Callable[..., Daemon], again: Again) -> None:
    """A worker that is killed and replaced ends no session: what is typed and shown afterwards comes through."""
    worker = a_daemon()
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy, at_a_terminal(proxy.addr, *SHELL) as screen:
        screen.sees("ready> ")
        screen.type("echo be'fore'; kept=yes\r")
        screen.sees("\nbefore\r\nready> ")
        worker.stop(signal.SIGKILL)
        screen.sees("connection lost, resuming at byte ")
        proxy.upstream = again(worker).addr
        screen.type("echo ba'ck'\r")
        screen.sees("\nback\r\n")
        screen.resize(20, 70)
        screen.type("until [ \"$(stty size)\" = '20 70' ]; do sleep 0.02; done; echo kept=$kept; exit 3\r")
        screen.sees("\nkept=yes\r\n")
        assert screen.ended()[0] == 3
