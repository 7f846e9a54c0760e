"""What `txworker` does with its standard streams: closed, full, unread, or of another encoding."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.support.command_line import PROGRAM, txworker
from tests.support.daemon import LIMIT, Daemon, running
from txworker.pb import worker_pb2 as pb

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


def test_full_stderr(daemon: Daemon) -> None:
    """What cannot be said on stderr is told by the exit status alone, as it would be otherwise."""
    for status, words in ((1, "query nothing"), (2, "no-command"), (125, "run --directory /nothing true")):
        assert by_shell(daemon, f'"$@" {words} 2>/dev/full') == (status, b"", ""), words
    assert by_shell(daemon, '"$@" run no-such-program 2>/dev/full') == (127, b"", "")


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


def test_ascii(daemon: Daemon) -> None:
    """What stdout has no character for is shown as an escape."""
    daemon.end(daemon.start("true", "é", labels={"of": "ascii"}))
    status, out, err = by_shell(daemon, '"$@" ps --label of=ascii', PYTHONIOENCODING="ascii")
    assert (status, err) == (0, "")
    assert out.endswith(b"true \\xe9\n")
