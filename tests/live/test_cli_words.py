"""The command line's ways to name jobs, and to end, show and list several of them, against a real worker."""

from __future__ import annotations

import calendar
import json
import shutil
import subprocess
import time

import pytest

from tests.support.command_line import PROGRAM, txworker
from tests.support.daemon import LIMIT, Daemon
from tests.support.terminal import on_terminal, without_waiting
from txworker.pb import worker_pb2 as pb


@pytest.mark.slow
def test_prefix(daemon: Daemon) -> None:
    """The first characters of an id stand for it in every command; too few, and those of no job, are refused."""
    job_id = daemon.bash("echo out; exec sleep 1000", labels={"of": "prefix"})
    short = job_id[:8]
    assert json.loads(txworker(daemon, "query", "--json", short)[1])["job"]["jobID"] == job_id
    assert txworker(daemon, "logs", short)[::2] == (0, "")
    assert txworker(daemon, "stop", "--grace", "0", "--wait", short) == (0, b"", "")
    assert txworker(daemon, "wait", short) == (137, f"{job_id} stopped: signal: killed\n".encode(), "")
    assert txworker(daemon, "watch", "--json", short)[0] == 0
    assert txworker(daemon, "stream", short)[1] == b"out\n"
    for word in (job_id[:3], "ffff" if not job_id.startswith("ffff") else "eeee", "nobody"):
        status, _, err = txworker(daemon, "inspect", word)
        hint = "; to find it by the beginning of its id, give at least 4 characters" if len(word) == 3 else ""
        assert (status, err) == (1, f"txworker: there is no job '{word}' on this worker{hint} (NOT_FOUND)\n")


def test_inspect(daemon: Daemon) -> None:
    """All of the record: how the job was started, too."""
    words = ("--directory", "/", "--env", "A=secret", "--timeout", "1h", "--max-open-files", "64", "--separate-stderr")
    status, out, _ = txworker(daemon, "run", "-d", *words, "true")
    assert status == 0
    job_id = out.decode().strip()
    daemon.end(job_id)
    shown = txworker(daemon, "inspect", job_id)[1].decode()
    for line in ("directory   /", "timeout     3600.000 s", "environment A", "limits      maxOpenFiles=64"):
        assert f"{line}\n" in shown
    assert "secret" not in shown
    assert json.loads(txworker(daemon, "inspect", "--json", job_id)[1])["envNames"] == ["A"]


def test_logs(daemon: Daemon) -> None:
    """What is there, of several jobs with their ids; with -f until they are done."""
    one, two = (daemon.bash(f"echo {n}; echo last {n}; exit 3") for n in "12")
    for job_id in (one, two):
        daemon.end(job_id)
    for words in ((), ("-f",)):
        status, out, err = txworker(daemon, "logs", *words, "--tail", "1", one, two)
        expected = sorted([f"{one[:8]} | last 1", f"{two[:8]} | last 2"])
        assert (status, sorted(out.decode().splitlines()), err) == (0, expected, "")
    endless = daemon.bash("echo up; exec sleep 1000")
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=endless), timeout=LIMIT)))
    assert txworker(daemon, "logs", endless) == (0, b"up\n", "")
    assert txworker(daemon, "kill", endless) == (0, b"", "")
    assert daemon.end(endless).job.signal == 9


@pytest.mark.slow
def test_logs_since(daemon: Daemon) -> None:
    """--since leaves out what was done before, and says of a job that was running that no more can be told."""
    done, running = daemon.bash("echo first; echo last"), daemon.bash("echo up; exec sleep 1000")
    daemon.end(done)
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=running), timeout=LIMIT)))
    assert txworker(daemon, "logs", "--since", "1h", "--tail", "1", done) == (0, b"last\n", "")
    assert txworker(daemon, "logs", "--since", "2200-01-01T00:00:00Z", done) == (0, b"", "")
    assert txworker(daemon, "logs", "--tail", "0", done) == (0, b"", "")
    status, out, err = txworker(daemon, "logs", "--since", "0", done, running)
    assert (status, out, err.count("\n")) == (0, f"{running[:8]} | up\n".encode(), 1)
    assert f"job {running} was running at " in err
    assert txworker(daemon, "kill", "--wait", running)[0] == 0


def test_kill_with_a_signal(daemon: Daemon) -> None:
    """`kill -s` sends any signal to several jobs, which go on or end by it; a job that is done gets none."""
    script = "trap 'echo hup' HUP; trap 'exit 3' USR1; echo up; while :; do sleep 0.02; done"
    jobs = [daemon.bash(script) for _ in range(2)]
    streams = [daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT) for job_id in jobs]
    assert [next(stream).output for stream in streams] == ["up\n"] * 2
    assert txworker(daemon, "kill", "-s", "SIGHUP", *jobs) == (0, b"", "")
    assert any("hup" in message.output for message in streams[0])
    assert txworker(daemon, "kill", "--signal", "usr1", "--wait", jobs[0][:8], jobs[1]) == (0, b"", "")
    for job_id in jobs:
        job = daemon.query(job_id).job
        assert (job.state, job.exitCode, job.signal) == (pb.JOB_STATE_FAILED, 3, 0)
    status, _, err = txworker(daemon, "kill", "-s", "HUP", jobs[0])
    assert (status, err.count("\n"), "FAILED_PRECONDITION" in err) == (1, 1, True), err


@pytest.mark.slow
def test_stop_by_label(daemon: Daemon) -> None:
    """Those with the label end, and are named; --wait returns when they are done. --all is every other one."""
    script = "trap 'sleep 0.3; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    ours = [daemon.bash(script, labels={"of": "stop"})]
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=ours[0]), timeout=LIMIT)))
    other = daemon.start("sleep", "1000")
    status, out, err = txworker(daemon, "stop", "--label", "of=stop", "--wait")
    assert (status, out.decode().split(), err) == (0, ours, "")
    assert daemon.query(ours[0]).job.exitCode == 5
    assert not daemon.query(other).done
    status, out, err = txworker(daemon, "kill", "--all", "--wait")
    assert (status, out.decode().split(), err) == (0, [other], "")
    assert daemon.query(other).done
    assert txworker(daemon, "stop", "--all") == (0, b"", "")


@pytest.mark.slow
def test_json(daemon: Daemon) -> None:
    """Times are what jq's fromdateiso8601 takes (no fraction, Z), and are the record's; numbers are plain."""
    job_id = daemon.bash("echo out")
    job = daemon.end(job_id).job
    times = {name: getattr(job, name).seconds for name in ("createdAt", "startedAt", "finishedAt")}
    for words in (("inspect", job_id), ("ps", "--limit", "0"), ("wait", job_id), ("watch", job_id), ("query", job_id)):
        lines = txworker(daemon, "--json", *words)[1]
        records = (record.get("job", record) for record in map(json.loads, lines.splitlines()))
        record = next(record for record in records if record["jobID"] == job_id)
        parsed = {name: calendar.timegm(time.strptime(record[name], "%Y-%m-%dT%H:%M:%SZ")) for name in times}
        assert (parsed, record["outputBytes"], type(record["userCPU"])) == (times, 4, float), words
    jq = shutil.which("jq")
    if jq is None:
        pytest.skip("no jq on this machine")
    done = subprocess.run([jq, ".job.createdAt | fromdateiso8601"], input=lines, stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) == times["createdAt"]


def test_ps_on_a_terminal(daemon: Daemon) -> None:
    """In 80 columns a terminal shows short ids, all columns and the command; with --no-trunc whole ids."""
    job_id = daemon.start("true", labels={"of": "terminal"})
    daemon.end(job_id)

    def shown(*words: str) -> list[str]:
        command = [*PROGRAM, "--addr", daemon.addr, "ps", "--label", "of=terminal", "--color", "never", *words]
        with on_terminal(command) as terminal:
            status, text = terminal.ended()
        assert status == 0
        return without_waiting(text).splitlines()

    header, line = shown()
    assert header == "JOB      STATE     EXIT      AGE    RAN  OUTPUT  COMMAND"
    assert line.startswith(f"{job_id[:8]} succeeded 0 ")
    assert line.endswith("  true")
    assert job_id in shown("--no-trunc")[1]


def test_ps_window_and_label(daemon: Daemon) -> None:
    """Jobs of the last hours, of before that, and those that have a label of any value."""
    job_id = daemon.start("true", labels={"window": "x"})
    assert txworker(daemon, "ps", "-q", "--label", "window", "--since", "1h")[1].decode().split() == [job_id]
    assert txworker(daemon, "ps", "-q", "--label", "window", "--until", "1h")[1] == b""
    assert txworker(daemon, "ps", "-q", "--label", "window", "--since", "2200-01-01T00:00:00Z")[1] == b""
    assert txworker(daemon, "ps", "-q", "--label", "no-such-label")[1] == b""
    header, line = txworker(daemon, "ps", "--label", "window", "-L", "window,none")[1].decode().splitlines()
    assert (header.split()[-3:], line.split()[-3:]) == (["WINDOW", "NONE", "COMMAND"], ["x", "-", "true"])
