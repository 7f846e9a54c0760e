"""The command line `txworker` against a real worker."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from tests.support.daemon import LIMIT, Daemon

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


def test_interrupted(daemon: Daemon) -> None:
    """Ctrl-C stops the job; what it still prints is shown, and its end is ours."""
    script = "trap 'echo bye; exit 5' INT TERM; echo up; while :; do sleep 0.1; done"
    with subprocess.Popen(
        [*PROGRAM, "--addr", daemon.addr, "run", "bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=LIMIT)
    assert running.returncode == 5
    assert out.endswith(b"bye\n"), out  # bash itself says "Terminated" of its sleep before


def test_start_stream_query_stop(daemon: Daemon) -> None:
    """A job can be started, followed, asked after and stopped by separate calls; JSON where a program reads it."""
    status, out, _ = txworker(daemon, "start", "--label", "night=1", "bash", "-c", "echo a; echo b; exec sleep 1000")
    job_id = out.decode().strip()
    assert status == 0
    assert txworker(daemon, "stream", "--tail", "1", "--no-follow", job_id)[1] in (b"b\n", b"a\n", b"")
    assert "running" in txworker(daemon, "query", job_id)[1].decode()
    assert txworker(daemon, "stop", "--grace", "1", job_id) == (0, b"", "")
    assert txworker(daemon, "stream", job_id)[1] == b"a\nb\n"
    answer = json.loads(txworker(daemon, "--json", "query", job_id)[1])
    assert (answer["done"], answer["job"]["state"]) == (True, "JOB_STATE_STOPPED")
    assert answer["job"]["labels"] == {"night": "1"}


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
