"""The command line `txworker` against a real worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import grpc
import pytest

from tests.support.command_line import PROGRAM, txworker, with_signals
from tests.support.daemon import LIMIT, Daemon, running, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub


def test_run(daemon: Daemon) -> None:
    """Output comes through byte by byte, options behind the executable are the job's, and its exit code is ours."""
    status, out, err = txworker(daemon, "run", "bash", "-c", "printf 'a\\377b'; exit 7", "--json")
    assert (status, out) == (7, b"a\xffb")
    assert "exit status 7" in err
    assert txworker(daemon, "run", "--", "echo", "fine") == (0, b"fine\n", "")
    assert txworker(daemon, "run", "--stdin", "-", "cat", stdin=b"\x00in")[1] == b"\x00in"
    assert txworker(daemon, "run", "--env", "A=b c", "--directory", "/", "bash", "-c", "echo $A $PWD")[1] == b"b c /\n"
    assert txworker(daemon, "run", "--timeout", "0.2", "sleep", "100")[0] == 143


def test_separate_stderr(daemon: Daemon) -> None:
    """What goes to stderr is seen while the job runs, and each stream comes out where it belongs."""
    go = daemon.place / "go-on"
    script = f"echo out; echo err >&2; until [ -e {go} ]; do sleep 0.02; done; echo went; echo more >&2"
    words = ("run", "--separate-stderr", "--timeout", str(LIMIT), "bash", "-c", script)
    with running([*PROGRAM, "--addr", daemon.addr, *words]) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert (run.stderr.readline(), run.stdout.readline()) == (b"err\n", b"out\n")
        go.touch()
        assert run.communicate(timeout=LIMIT) == (b"went\n", b"more\n")
        assert run.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_interrupted(daemon: Daemon, number: signal.Signals) -> None:
    """Ctrl-C, Ctrl-\\ and a lost terminal stop the job; what it still prints is shown, and its end is ours."""
    script = "trap 'echo bye; exit 5' INT TERM; echo up; while :; do sleep 0.1; done"
    with running([*with_signals("SIG_DFL"), "--addr", daemon.addr, "run", "bash", "-c", script]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(number)
        out, _ = run.communicate(timeout=LIMIT)
    assert run.returncode == 5
    assert out.endswith(b"bye\n"), out  # bash itself says "Terminated" of its sleep before


def test_interrupted_and_well(daemon: Daemon) -> None:
    """A job that exits with 0 when it is stopped: `run` fails nevertheless, and says why in words that make sense."""
    script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
    with running([*with_signals("SIG_DFL"), "--addr", daemon.addr, "run", "bash", "-c", script]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=LIMIT)
    assert (run.returncode, err.endswith(b": stopped: exit status 0\n")) == (1, True), err
    job_id = err.decode().split()[2].rstrip(":")
    assert "error       stopped: exit status 0" in txworker(daemon, "query", job_id)[1].decode()


def test_nohup(daemon: Daemon) -> None:
    """A signal that was ignored when `run` was started stops nothing."""
    go = daemon.place / "go-home"
    script = f"echo up; until [ -e {go} ]; do sleep 0.02; done"
    with running([*with_signals("SIG_IGN"), "--addr", daemon.addr, "run", "bash", "-c", script]) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(signal.SIGHUP)
        go.touch()
        assert run.communicate(timeout=LIMIT) == (b"", b"")
    assert run.returncode == 0


INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, *_):
        if name == "grpc":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
import txworker.cli
"""


def test_interrupted_at_once() -> None:
    """Ctrl-C while the program is still being loaded ends it without a traceback."""
    words = [*with_signals("SIG_DFL")[:-3], sys.executable, "-c", INTERRUPTED_IMPORT]
    done = subprocess.run(words, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_proxy(daemon: Daemon) -> None:
    """A proxy for the web is not asked for a worker."""
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    done = subprocess.run(
        [*PROGRAM, "--addr", daemon.addr, "ps", "--label", "of=nothing", "--json"],
        env={**os.environ, "no_proxy": "", "no_grpc_proxy": "", **nobody},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_nobody_there() -> None:
    """That a host is not known is said as what it is, and with nothing of gRPC's own beside it."""
    done = subprocess.run(
        [*PROGRAM, "--addr", "worker.invalid:1", "--patience", "0.1", "ps"],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 69
    assert done.stderr.startswith(b"txworker: no worker answers at worker.invalid:1: ")
    assert done.stderr.count(b"\n") == 1


def test_start_stream_query_stop(daemon: Daemon) -> None:
    """A job can be started, followed, asked after and stopped by separate calls; JSON where a program reads it."""
    status, out, _ = txworker(daemon, "start", "--label", "night=1", "bash", "-c", "echo a; echo b; exec sleep 1000")
    job_id = out.decode().strip()
    assert status == 0
    wait_until(lambda: daemon.query(job_id).job.outputBytes == 4)
    assert txworker(daemon, "stream", "--tail", "1", "--no-follow", job_id)[1] == b"b\n"
    assert "running" in txworker(daemon, "query", job_id)[1].decode()
    assert txworker(daemon, "stop", "--grace", "1", job_id) == (0, b"", "")
    assert txworker(daemon, "stream", job_id)[1] == b"a\nb\n"
    answer = json.loads(txworker(daemon, "--json", "query", job_id)[1])
    assert (answer["done"], answer["job"]["state"]) == (True, "JOB_STATE_STOPPED")
    assert answer["job"]["labels"] == {"night": "1"}


@pytest.mark.slow
def test_stream_from_now_on(daemon: Daemon) -> None:
    """`stream --tail 0` prints only what comes from now on, and nothing of a job that is done."""
    stop = daemon.place / "printed"
    job_id = daemon.start("bash", "-c", 'echo old; while [ ! -e "$0" ]; do echo new; sleep 0.02; done', str(stop))
    next(iter(daemon.stub.StreamJob(pb.StreamJobReq(jobID=job_id), timeout=LIMIT)))
    with running([*PROGRAM, "--addr", daemon.addr, "stream", "--tail", "0", job_id]) as stream:
        assert stream.stdout is not None
        assert stream.stdout.readline() == b"new\n"
        stop.touch()
        assert set(stream.stdout.read().split()) <= {b"new"}
        assert stream.wait(LIMIT) == 0
    assert txworker(daemon, "stream", "--tail", "0", job_id) == (0, b"", "")
    assert txworker(daemon, "stream", job_id)[1].startswith(b"old\nnew\n")


def test_ps(daemon: Daemon) -> None:
    """Jobs are listed newest first, those that are meant and no more of them than were asked for."""
    ids = [daemon.bash(script, labels={"of": "ps"}) for script in ("exit 3", "kill -9 $$", "exec sleep 1000")]
    for job_id in ids[:2]:
        daemon.end(job_id)
    status, out, err = txworker(daemon, "ps", "--label", "of=ps")
    lines = out.decode().splitlines()
    assert (status, err, lines[0].split()[0]) == (0, "", "JOB")
    found = [line.split()[:3] for line in lines[1:]]
    assert found == [[ids[2], "running", "-"], [ids[1], "failed", "KILL"], [ids[0], "failed", "3"]]
    assert lines[1].endswith("bash -c exec sleep 1000")
    assert txworker(daemon, "ps", "-q", "--label", "of=ps", "--state", "failed")[1].decode().split() == ids[1::-1]
    newest = txworker(daemon, "ps", "--json", "--label", "of=ps", "--limit", "1")[1]
    assert [json.loads(line)["jobID"] for line in newest.splitlines()] == [ids[2]]
    assert txworker(daemon, "ps", "--label", "of=nothing")[1].decode().splitlines() == lines[:1]
    txworker(daemon, "stop", "--grace", "0", ids[2])


def test_wait(daemon: Daemon) -> None:
    """`wait` ends when all are done; as its one job did, or with 1 when one of several did not end well."""
    good, bad = daemon.bash("sleep 0.2"), daemon.bash("sleep 0.3; exit 7")
    assert txworker(daemon, "wait", bad) == (7, f"{bad} failed: exit status 7\n".encode(), "")
    status, out, _ = txworker(daemon, "wait", good, bad, good)
    assert (status, sorted(out.decode().splitlines())) == (
        1,
        sorted([f"{good} succeeded", f"{bad} failed: exit status 7"]),
    )
    assert txworker(daemon, "wait", "--quiet", good, good) == (0, b"", "")
    ended = json.loads(txworker(daemon, "wait", "--json", good)[1])
    assert (ended["jobID"], ended["state"]) == (good, "JOB_STATE_SUCCEEDED")
    assert txworker(daemon, "wait", "nobody")[::2] == (
        1,
        "txworker: there is no job 'nobody' on this worker (NOT_FOUND)\n",
    )


@pytest.mark.slow
def test_wait_no_longer(daemon: Daemon) -> None:
    """`wait --timeout` gives up in time, with the status of timeout(1), and leaves the job alone."""
    done, sleeper = daemon.start("true"), daemon.start("sleep 1000")
    daemon.end(done)
    assert txworker(daemon, "wait", "--quiet", "--timeout", "0.2", sleeper) == (
        124,
        b"",
        "txworker: the job was not done after 0.2 s\n",
    )
    status, _, err = txworker(daemon, "wait", "--timeout", "3", sleeper, done)
    assert (status, err) == (124, "txworker: 1 of 2 jobs was not done after 3 s\n")
    assert not daemon.query(sleeper).done
    txworker(daemon, "stop", "--grace", "0", sleeper)
    assert txworker(daemon, "wait", "--quiet", sleeper)[0] == 137


def watching(daemon: Daemon, *words: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return running([*PROGRAM, "--addr", daemon.addr, "watch", *words], text=True)


def told(watch: subprocess.Popen[str]) -> tuple[str, str]:
    """Job and state of the next line."""
    assert watch.stdout is not None
    job_id, state, *_ = watch.stdout.readline().split()
    return job_id, state


def told_until(watch: subprocess.Popen[str], last: tuple[str, str]) -> list[tuple[str, str]]:
    """Jobs and states up to that line; what passed quickly may not have been told."""
    lines = [told(watch)]
    while lines[-1] != last:
        lines.append(told(watch))
    return lines


def test_watch(daemon: Daemon) -> None:
    """A line for each job as it stands, then one for every change; those done before may be left out."""
    old = daemon.start("true", labels={"of": "watch"})
    daemon.end(old)
    running = daemon.start("sleep 1000", labels={"of": "watch"})
    with (
        watching(daemon, "--label", "of=watch") as all_of_them,
        watching(daemon, "--label", "of=watch", "--no-finished") as the_rest,
    ):
        assert [told(all_of_them) for _ in range(2)] == [(old, "succeeded"), (running, "running")]
        assert told(the_rest) == (running, "running")
        daemon.stub.StopJob(pb.StopJobReq(jobID=running))
        for watch in (all_of_them, the_rest):
            lines = told_until(watch, (running, "stopped"))
            assert set(lines[:-1]) <= {(running, "stopping")}
        new = daemon.start("true", labels={"of": "watch"})
        for watch in (all_of_them, the_rest):
            lines = told_until(watch, (new, "succeeded"))
            assert set(lines[:-1]) <= {(new, "running")}
            watch.send_signal(signal.SIGINT)
            assert watch.wait(LIMIT) == 130
    with watching(daemon, "--json", old, new) as both:
        assert both.stdout is not None
        assert {json.loads(line)["jobID"] for line in both.stdout} == {old, new}
        assert both.wait(LIMIT) == 0


def test_limits(daemon: Daemon) -> None:
    """What a job may use can be said where it is started."""
    script = "ulimit -n; ulimit -v; ulimit -t"
    limits = ("--max-open-files", "77", "--max-memory", "1G", "--max-cpu", "9")
    assert txworker(daemon, "run", *limits, "bash", "-c", script)[1] == b"77\n1048576\n9\n"
    job_id = txworker(daemon, "start", "--max-output", "1K", "bash", "-c", "head -c 5000 /dev/zero")[1].decode().strip()
    assert daemon.end(job_id).job.outputTruncated
    assert "truncated" in txworker(daemon, "query", job_id)[1].decode()


@pytest.mark.slow
def test_quiet_for_long(daemon: Daemon) -> None:
    """A client that pings, as ours does, may follow a job that is silent for long; it is not taken for a nuisance."""
    job_id = daemon.bash("sleep 40; echo at last")
    options = [("grpc.keepalive_time_ms", 6_000), ("grpc.http2.max_pings_without_data", 0)]
    with grpc.insecure_channel(daemon.addr, [*options, ("grpc.use_local_subchannel_pool", 1)]) as channel:
        stream = WorkerStub(channel).StreamJob(pb.StreamJobReq(jobID=job_id), timeout=2 * LIMIT)
        assert [message.output for message in stream] == ["at last\n"]


@pytest.mark.slow
def test_refused(daemon: Daemon) -> None:
    """What the worker refuses is one sentence and status 1; wrong usage is 2; no worker is 69."""
    status, _, err = txworker(daemon, "query", "nobody")
    assert (status, err) == (1, "txworker: there is no job 'nobody' on this worker (NOT_FOUND)\n")
    assert txworker(daemon, "run")[0] == 2
    assert txworker(daemon, "--tls-cert", "x", "query", "y")[0] == 2
    assert txworker(daemon, "--tls-ca", "/no/such.pem", "query", "y")[::2] == (
        1,
        "txworker: /no/such.pem: No such file or directory\n",
    )
    nobody = subprocess.run(
        [*PROGRAM, "--addr", "127.0.0.1:1", "query", "x"], capture_output=True, timeout=LIMIT, check=False
    )
    assert nobody.returncode == 69
    assert nobody.stderr.startswith(b"txworker: no worker answers at 127.0.0.1:1: ")
    assert nobody.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_no_room(a_daemon: Callable[..., Daemon]) -> None:
    """While other viewers take all places for streams the job runs; its input and output follow, whole."""
    worker = a_daemon(server="max_streams = 2")
    other = worker.bash("echo up; exec sleep 1000")
    streams = [worker.stub.StreamJob(pb.StreamJobReq(path=other)) for _ in range(2)]
    assert [next(iter(stream)).output for stream in streams] == ["up\n", "up\n"]
    data = os.urandom(3_000_000)
    (worker.place / "data").write_bytes(data)
    words = [*PROGRAM, "--addr", worker.addr, "run", "--stdin", str(worker.place / "data"), "cat"]
    with running(words, stdin=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith(b"; trying again until there is room\n")
        for stream in streams:
            stream.cancel()
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out == data, err) == (0, True, b"")
