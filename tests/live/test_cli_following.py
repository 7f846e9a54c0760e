"""What the command line makes of connections that break, of workers that come and go, and of every way a run ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.live.test_client import EXPECTED, LINES, NUMBERED, follow_over_cuts
from tests.live.test_takeover import Again, again
from tests.support.command_line import PROGRAM, txworker, with_signals
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, running, wait_until
from txworker.pb import worker_pb2 as pb

__all__ = ["again"]

ADaemon = Callable[..., Daemon]

LOST = re.compile(r"txworker: following job \S+: connection lost, resuming at byte (\d+): .*")


def at(addr: str, *words: str, program: Sequence[str] = PROGRAM) -> AbstractContextManager[subprocess.Popen[str]]:
    """The program, asking the worker at that address."""
    return running([*program, "--addr", addr, *words], text=True, stdin=subprocess.DEVNULL)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, what else was printed on stdout, and stderr."""
    out, err = process.communicate(timeout=4 * LIMIT)
    return process.returncode, out, err


def first_line(process: subprocess.Popen[str]) -> str:
    """What a process prints first: it follows."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.slow
def test_nobody_there() -> None:
    """No worker at all, and no patience: 125 for `run`, 69 for the others, in one sentence."""
    for words, status in (
        (("run", "true"), 125),
        (("run", "--detach", "true"), 125),
        (("start", "true"), 69),
        (("ps",), 69),
        (("watch",), 69),
        (("wait", "x"), 69),
        (("stop", "x"), 69),
        (("query", "x"), 69),
        (("stream", "x"), 69),
    ):
        with at("127.0.0.1:1", "--patience", "0", *words) as call:
            found, _, err = ended(call)
        assert (found, err.count("\n")) == (status, 1), err
        assert err.startswith("txworker: no worker answers at 127.0.0.1:1: ")


def test_detach(daemon: Daemon) -> None:
    """`run --detach` prints the id and ends; the job runs on."""
    status, out, err = txworker(daemon, "run", "--detach", "sleep", "1000")
    assert (status, err) == (0, "")
    job_id = out.decode().strip()
    assert not daemon.query(job_id).done
    assert txworker(daemon, "run", "-d", "no-such-program")[0] == 127
    assert txworker(daemon, "stop", "--grace", "0", job_id)[0] == 0


def test_standard_input(daemon: Daemon, tmp_path: Path) -> None:
    """A pipe and a file are forwarded, of any length; a terminal, /dev/null and a closed one are not."""
    file = tmp_path / "file"
    file.write_bytes(b"skipped\nin a file\n")
    script = '"$@"'
    words = [*PROGRAM, "--addr", daemon.addr, "run", "cat"]

    def by_shell(redirection: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            ["sh", "-c", f"{script} {redirection}", "sh", *words], capture_output=True, timeout=LIMIT, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert txworker(daemon, "run", "cat", stdin=b"\0in") == (0, b"\0in", "")
    assert by_shell(f"< {file}") == (0, file.read_bytes(), b"")
    assert by_shell("< /dev/null") == (0, b"", b"")
    assert by_shell("<&-") == (0, b"", b"")
    long = os.urandom(2**22 + 1)
    assert txworker(daemon, "run", "cat", stdin=long) == (0, long, "")
    file.write_bytes(long)
    assert txworker(daemon, "run", "--stdin", str(file), "cat") == (0, long, "")
    assert txworker(daemon, "run", "head", "-c", "3", stdin=long) == (0, long[:3], "")
    assert txworker(daemon, "run", "true", stdin=long) == (0, b"", "")
    status, _, err = txworker(daemon, "run", "--detach", "cat", stdin=long)
    sentence = "txworker: standard input has more than 4194304 bytes; at most about 4 MiB fit into a request\n"
    assert (status, err) == (125, sentence)
    begin, end = os.openpty()
    with running(words, stdin=end) as run:
        assert run.communicate(timeout=LIMIT) == (b"", b"")
    os.close(begin)
    os.close(end)


@pytest.mark.slow
def test_silent_standard_input(daemon: Daemon) -> None:
    """What comes late follows when it comes; a job that is detached needs all of it before, and that is said."""
    words = [*PROGRAM, "--addr", daemon.addr, "run", "cat"]
    with running(words, stdin=subprocess.PIPE, text=True) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        for line in ("one\n", "two\n"):
            run.stdin.write(line)
            run.stdin.flush()
            assert run.stdout.readline() == line
        assert run.communicate("late", timeout=LIMIT) == ("late", "")
    words = [*PROGRAM, "--addr", daemon.addr, "run", "--detach", "cat"]
    with running(words, stdin=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = "txworker: reading standard input to its end for the job; with --stdin /dev/null the job gets none\n"
        assert run.stderr.readline() == said
        assert len(run.communicate("late", timeout=LIMIT)[0]) == 37


GO_ON = f"""import os, sys, time
for n in range({LINES}):
    if n == {LINES // 2}:
        sys.stdout.flush()
        while not os.path.exists('go'): time.sleep(0.01)
    sys.stdout.write('%063d\\n' % n)
sys.exit(int(sys.argv[1]))
"""
"""Prints as NUMBERED does, and the second half when there is a file `go`."""


def numbered(number: int, program: str = NUMBERED) -> list[str]:
    """A job that prints EXPECTED and exits with that number."""
    return [sys.executable, "-c", program, str(number)]


def _cut(addr: str, jobs: int, program: str = NUMBERED) -> None:
    def followed(number: int) -> tuple[int, str]:
        with at(addr, "--patience", str(LIMIT), "run", *numbered(number, program)) as run:
            status, out, err = ended(run)
        for line in err.splitlines():
            assert any(words in line for words in ("connection lost", "answers again", f"exit status {number}")), line
        return status, out

    with ThreadPoolExecutor(8) as threads:
        for number, (status, out) in enumerate(threads.map(followed, range(jobs))):
            assert status == number
            assert out == EXPECTED.decode()


def test_connections_are_cut(a_daemon: ADaemon) -> None:
    """Through a proxy that cuts every connection after 50 to 500 ms every byte comes once; nothing is started twice."""
    worker = a_daemon()
    with cutting_proxy(worker.addr) as proxy, ThreadPoolExecutor(1) as thread:
        following = thread.submit(_cut, proxy.addr, 8, GO_ON)
        try:
            wait_until(lambda: proxy.cuts >= 8)  # or a quick machine would be done before
        finally:
            (worker.place / "go").touch()
        following.result(4 * LIMIT)
    assert len(worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs) == 8


@pytest.mark.slow
def test_connections_are_cut_often(a_daemon: ADaemon) -> None:
    """The same with 200 jobs, of the command line and of both clients of the library at once."""
    worker = a_daemon()
    with cutting_proxy(worker.addr) as proxy, ThreadPoolExecutor(1) as thread:
        by_the_library = thread.submit(follow_over_cuts, proxy.addr, 67)
        _cut(proxy.addr, 66)
        by_the_library.result(10 * LIMIT)
        assert proxy.cuts > 20
    assert len(worker.stub.ListJobs(pb.ListJobsReq(pageSize=500), timeout=LIMIT).jobs) == 200


def until(path: Path) -> str:
    """A script that prints, waits for a file, prints again and fails."""
    return f"echo up; until [ -e {path} ]; do sleep 0.05; done; echo last; exit 5"


def test_taken_over(a_daemon: ADaemon, again: Again) -> None:
    """The worker is killed and another one takes its jobs over: run, stream, wait and watch go on, and say so."""
    worker = a_daemon()
    go = worker.place / "go"
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy, at(proxy.addr, "run", "bash", "-c", until(go)) as run:
        assert first_line(run) == "up\n"
        (job,) = worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs
        with (
            at(proxy.addr, "stream", job.jobID) as stream,
            at(proxy.addr, "--patience", str(LIMIT), "wait", job.jobID) as waiting,  # perhaps not connected yet
            at(proxy.addr, "watch", job.jobID) as watch,
        ):
            assert (first_line(stream), "running" in first_line(watch)) == ("up\n", True)
            worker.stop(signal.SIGKILL)
            lines = [stderr.readline() for stderr in (run.stderr, stream.stderr) if stderr is not None]
            assert [LOST.fullmatch(line.rstrip())[1] for line in lines] == ["3", "3"]  # type: ignore[index]
            proxy.upstream = again(worker).addr
            go.touch()
            status, out, err = ended(run)
            assert (status, out, f"job {job.jobID}: exit status 5" in err) == (5, "last\n", True)
            assert ended(stream)[:2] == (0, "last\n")
            assert ended(waiting)[:2] == (5, f"{job.jobID} failed: exit status 5\n")
            status, out, _ = ended(watch)
            assert (status, "failed" in out) == (0, True)


@pytest.mark.slow
def test_stays_away(a_daemon: ADaemon) -> None:
    """Beyond the patience all give up: 69, and 125 for `run`, which says what to do about its job."""
    worker = a_daemon()
    job_id = worker.bash("echo up; exec sleep 1000")
    table: dict[tuple[str, ...], int] = {
        ("run", "bash", "-c", "echo up; exec sleep 1000"): 125,
        ("stream", job_id): 69,
        ("wait", job_id, worker.start("true")): 69,
        ("watch",): 69,
    }
    calls = [
        subprocess.Popen(
            [*PROGRAM, "--addr", worker.addr, *words, "--patience", "1"]
            if words[0] != "run"
            else [*PROGRAM, "--addr", worker.addr, "--patience", "1", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in table
    ]
    for call in calls:
        assert first_line(call)
    jobs = worker.stub.ListJobs(pb.ListJobsReq(states=[pb.JOB_STATE_RUNNING]), timeout=LIMIT).jobs
    worker.stop(signal.SIGKILL)
    for call, (words, expected) in zip(calls, table.items(), strict=True):
        status, _, err = ended(call)
        assert status == expected, (words, err)
        *lost, last = err.splitlines()
        assert all("connection lost" in line for line in lost), err
        assert last.startswith(f"txworker: no worker answers at {worker.addr}: "), (words, err)
        assert ("`txworker query " in last) == (words[0] == "run")
    for job in jobs:
        os.kill(job.pid, signal.SIGKILL)


def test_interrupted_while_nobody_answers(a_daemon: ADaemon) -> None:
    """The third signal ends a `run` whose worker is away, and says what becomes of the job."""
    worker = a_daemon()
    program = with_signals("SIG_DFL")
    with at(worker.addr, "--patience", "inf", "run", "bash", "-c", "echo up; exec sleep 1000", program=program) as run:
        assert first_line(run) == "up\n"
        (job,) = worker.stub.ListJobs(pb.ListJobsReq(), timeout=LIMIT).jobs
        worker.stop(signal.SIGKILL)
        assert run.stderr is not None
        assert LOST.fullmatch(run.stderr.readline().rstrip())
        with ThreadPoolExecutor(1) as thread:
            line = thread.submit(run.stderr.readline)
            while not wait([line], 0.1).done:  # two signals at once are one
                run.send_signal(signal.SIGINT)
        assert line.result() == f"txworker: interrupted 3 times: job {job.jobID} is left to itself\n"
        assert ended(run)[0] in (130, -signal.SIGINT)  # one more may have come at the end; a shell calls both 130
    os.kill(job.pid, signal.SIGKILL)


@pytest.mark.slow
def test_interrupted_before_any_answer() -> None:
    """One Ctrl-C ends a `run` whose worker has not answered the start; whether there is a job is not known then."""
    program = with_signals("SIG_DFL")
    with at("127.0.0.1:1", "--patience", "inf", "run", "true", program=program) as run:
        assert run.stderr is not None
        assert "connection lost" in run.stderr.readline()
        run.send_signal(signal.SIGINT)
        status, _, err = ended(run)
    said = "txworker: interrupted; the worker has not answered whether the job was started"
    assert (status, err.splitlines()[-1]) == (130, said)


@pytest.mark.slow
def test_start_waits_for_the_next_worker(a_daemon: ADaemon, again: Again) -> None:
    """A start is kept for a worker that is about to come, and made once."""
    worker = a_daemon('[jobs]\nat_stop = "leave"')
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy:
        worker.stop()
        with at(proxy.addr, "--patience", str(LIMIT), "start", "true") as start:
            proxy.upstream = again(worker).addr
            status, out, _ = ended(start)
    assert (status, len(out.split())) == (0, 1)
