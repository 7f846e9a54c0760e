"""The command line `txworker` against a real worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import AbstractContextManager

import grpc
import pytest

from tests.support.daemon import LIMIT, Daemon, running, wait_until
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub

PROGRAM = [sys.executable, "-m", "txworker"]


def txworker(daemon: Daemon, *words: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Exit status, stdout and stderr of one call."""
    done = subprocess.run(
        [*PROGRAM, "--addr", daemon.addr, *words], input=stdin, capture_output=True, timeout=LIMIT, check=False
    )
    return done.returncode, done.stdout, done.stderr.decode()


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


def with_signals(action: str) -> list[str]:
    """
    The program, with SIG_DFL or SIG_IGN for the signals that stop a job, however the tests were started (nohup).

    Set by a process of its own: gRPC does not bear Python code between fork and exec.
    """
    numbers = [int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP), int(signal.SIGQUIT)]
    setting = f"import os, signal, sys; [signal.signal(number, signal.{action}) for number in {numbers}]"
    return [sys.executable, "-c", f"{setting}; os.execv(sys.argv[1], sys.argv[1:])", *PROGRAM]


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


FOREVER = "while echo y; do sleep 0.01; done"


def test_reader_gone(daemon: Daemon) -> None:
    """When nobody reads the output any more, `run` stops its job, says so, and ends as SIGPIPE would have it."""
    for words in ((), ("--separate-stderr",)):
        with running([*PROGRAM, "--addr", daemon.addr, "run", *words, "bash", "-c", FOREVER], text=True) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            assert run.stdout.readline() == "y\n"
            run.stdout.close()
            (line,) = run.stderr.readlines()
            assert run.wait(LIMIT) == 141
        said = re.fullmatch(
            r"txworker: cannot write to standard output: Broken pipe; job (\S+) was told to end\n", line
        )
        assert said, line
        assert daemon.end(said[1]).job.state == pb.JOB_STATE_STOPPED


def test_reader_of_stderr_gone(daemon: Daemon) -> None:
    """The same holds for a separate stderr, however silent stdout is."""
    words = ("--separate-stderr", "--label", "of=unread", "bash", "-c", f"({FOREVER}) >&2")
    with running([*PROGRAM, "--addr", daemon.addr, "run", *words]) as run:
        assert run.stderr is not None
        assert run.stderr.readline() == b"y\n"
        run.stderr.close()
        assert run.wait(LIMIT) == 141
    (job,) = daemon.stub.ListJobs(pb.ListJobsReq(labels={"of": "unread"}), timeout=LIMIT).jobs
    assert daemon.end(job.jobID).job.state == pb.JOB_STATE_STOPPED


def test_reader_of_a_stream_gone(daemon: Daemon) -> None:
    """`stream` ends quietly when nobody reads it any more, and leaves the job alone."""
    job_id = daemon.bash(FOREVER)
    with running([*PROGRAM, "--addr", daemon.addr, "stream", job_id]) as stream:
        assert stream.stdout is not None
        assert stream.stderr is not None
        assert stream.stdout.readline() == b"y\n"
        stream.stdout.close()
        assert stream.stderr.read() == b""
        assert stream.wait(LIMIT) == 0
    assert not daemon.query(job_id).done
    assert txworker(daemon, "stop", "--grace", "0", job_id) == (0, b"", "")


def by_shell(daemon: Daemon, script: str, **env: str) -> tuple[int, bytes, str]:
    """Exit status, stdout and stderr of a shell's script, in which "$@" is the program."""
    done = subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM],
        env={**os.environ, "TXWORKER_ADDR": daemon.addr, **env},
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.slow
def test_closed_output(daemon: Daemon) -> None:
    """Without a standard output nothing is started, and what has nothing to say works; no other stream is missed."""
    for status, words in ((1, "start --label of=closed true"), (125, "run --label of=closed true"), (1, "ps")):
        assert by_shell(daemon, f'"$@" {words} >&-') == (status, b"", "txworker: standard output is closed\n")
    assert txworker(daemon, "ps", "--quiet", "--label", "of=closed") == (0, b"", "")
    job_id = daemon.bash("exec sleep 1000")
    assert by_shell(daemon, f'"$@" stop {job_id} >&-') == (0, b"", "")
    assert by_shell(daemon, f'"$@" wait --quiet {job_id} >&- 2>&-') == (143, b"", "")
    assert by_shell(daemon, '"$@" run --stdin - cat <&-') == (125, b"", "txworker: --stdin: standard input is closed\n")
    assert by_shell(daemon, '"$@" run --separate-stderr sh -c "echo a; echo b >&2; exit 3" <&- 2>&-') == (3, b"a\n", "")


def test_full_output(daemon: Daemon) -> None:
    """What cannot be written is said as it is, and `run` stops its job."""
    sentence = "txworker: cannot write to standard output: No space left on device"
    assert by_shell(daemon, '"$@" ps >/dev/full') == (1, b"", f"{sentence}\n")
    status, _, err = by_shell(daemon, f'"$@" run bash -c "{FOREVER}" >/dev/full')
    said = re.fullmatch(rf"{sentence}; job (\S+) was told to end\n", err)
    assert said, err
    assert (status, daemon.end(said[1]).job.state) == (125, pb.JOB_STATE_STOPPED)


@pytest.mark.slow
def test_full_output_of_each(daemon: Daemon) -> None:
    """So it is with what asks no worker; and a job that was started is named, so that it can be found."""
    sentence = "txworker: cannot write to standard output: No space left on device"
    for words in ("--version", "--help", "ps --help", "help", "help ps", "completion bash"):
        assert by_shell(daemon, f'"$@" {words} >/dev/full') == (1, b"", f"{sentence}\n"), words
        assert by_shell(daemon, f'{{ "$@" {words}; echo $? >&2; }} | true') == (0, b"", "0\n"), words
    for status, command in ((1, "start"), (125, "run -d")):
        found, _, err = by_shell(daemon, f'"$@" {command} sleep 1000 >/dev/full')
        said = re.fullmatch(rf"{sentence}; job (\S+) was started, and runs on\n", err)
        assert said, err
        assert (found, daemon.query(said[1]).done) == (status, False)
        daemon.stub.StopJob(pb.StopJobReq(jobID=said[1]), timeout=LIMIT)


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


def test_ascii(daemon: Daemon) -> None:
    """What stdout has no character for is shown as an escape."""
    daemon.end(daemon.start("true", "é", labels={"of": "ascii"}))
    status, out, err = by_shell(daemon, '"$@" ps --label of=ascii', PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert out.endswith(b"true \\xe9\n")


def test_proxy(daemon: Daemon) -> None:
    """A proxy for the web is not asked for a worker."""
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    assert by_shell(daemon, '"$@" ps --label of=nothing --json', no_proxy="", no_grpc_proxy="", **nobody) == (
        0,
        b"",
        "",
    )


def test_nobody_there() -> None:
    """That a host is not known is said as what it is, and with nothing of gRPC's own beside it."""
    done = subprocess.run(
        [*PROGRAM, "--addr", "worker.invalid:1", "ps"], capture_output=True, timeout=LIMIT, check=False
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
    with watching(daemon, "--label", "of=watch") as all_of_them, watching(daemon, "--no-finished") as the_rest:
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
