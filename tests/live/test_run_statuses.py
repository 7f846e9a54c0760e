"""Every exit status of `txworker run`, in one table; the README has it in words."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.live.test_takeover import Again, again
from tests.support.command_line import PROGRAM, with_signals
from tests.support.cutting_proxy import HARDLY_EVER, cutting_proxy
from tests.support.daemon import LIMIT, Daemon, running, wait_until
from tests.support.terminal import on_terminal
from txworker.pb import worker_pb2 as pb

__all__ = ["again"]

ADaemon = Callable[..., Daemon]

NO_PROGRAM = Path(__file__).parents[1] / "support" / "scripts" / "no_shebang"
"""A file that may be executed, and that the kernel cannot."""

SLEEPS = "echo up; exec sleep 1000"
TIDY = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
WELL = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
DEAF = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def stops_now(worker: Daemon, job_id: str) -> bool:
    """The worker knows that the job is to end, or it has ended."""
    return worker.query(job_id).job.state != pb.JOB_STATE_RUNNING


class Run:
    """A run whose job has printed its first line, which is read here, and the worker that it asks."""

    def __init__(self, worker: Daemon, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        self.worker = worker
        self.process = process
        self.job_id = worker.stub.ListJobs(pb.ListJobsReq(pageSize=1), timeout=LIMIT).jobs[0].jobID


def sends(*numbers: int) -> Callable[[Run], None]:
    """The run gets these signals, each when the worker has heard of the one before."""

    def act(run: Run) -> None:
        for number in numbers:
            run.process.send_signal(number)
            wait_until(partial(stops_now, run.worker, run.job_id))

    return act


def stops(run: Run) -> None:
    """Another client stops the job."""
    run.worker.stub.StopJob(pb.StopJobReq(jobID=run.job_id), timeout=LIMIT)


def kills(run: Run) -> None:
    """Another client sends a signal, which is no stop."""
    run.worker.stub.SignalJob(pb.SignalJobReq(jobID=run.job_id, signal=signal.SIGUSR1), timeout=LIMIT)


def closes(run: Run) -> None:
    """Nothing reads the output any more."""
    assert run.process.stdout is not None
    run.process.stdout.close()


def stops_worker(run: Run) -> None:
    """The worker is stopped in order, and ends its jobs; no other one comes."""
    run.worker.stop()


def loses_worker(run: Run) -> None:
    """The worker is killed, and no other one comes."""
    run.worker.stop(signal.SIGKILL)


@dataclass(frozen=True)
class Case:
    """
    What is run; its status; the end of what stderr says, with "JOB" for the job's id, "" for nothing at all; and what
    happens once the job has printed a line.
    """

    words: Sequence[str]
    status: int
    said: str = ""
    act: Callable[[Run], None] | None = None
    slow: bool = True


def bash(script: str, *options: str) -> tuple[str, ...]:
    """The words of a run of this script."""
    return (*options, "bash", "-c", script)


CASES = {
    # the job's own end
    "well": Case(("true",), 0, slow=False),
    "exit code": Case(bash("exit 7"), 7, "job JOB: exit status 7", slow=False),
    "highest exit code": Case(bash("exit 255"), 255, "job JOB: exit status 255"),
    "an exit code of ours": Case(bash("exit 125"), 125, "job JOB: exit status 125"),
    "signal": Case(bash("kill -9 $$"), 137, "job JOB: signal: killed", slow=False),
    "signal of another client": Case(bash(SLEEPS), 138, "job JOB: signal: user defined signal 1", kills),
    "limit": Case(bash("while :; do :; done", "--max-cpu", "1"), 152, "job JOB: signal: CPU time limit exceeded"),
    "separate stderr": Case(bash("exit 3", "--separate-stderr"), 3, "job JOB: exit status 3"),
    # the job is stopped
    "stopped": Case(bash(SLEEPS), 143, "job JOB: signal: terminated", stops, slow=False),
    "stopped, exits": Case(bash(TIDY), 5, "job JOB: exit status 5", stops),
    "stopped, exits well": Case(bash(WELL), 1, "job JOB: stopped: exit status 0", stops),
    "timed out": Case(("--timeout", "0.2", "sleep", "1000"), 143, "job JOB: timed out after 0.2 s: signal: terminated"),
    "silent": Case(bash(SLEEPS, "--quiet-timeout", "0.2"), 143, "job JOB: no output for 0.2 s: signal: terminated"),
    "Ctrl-C": Case(bash(SLEEPS), 143, "job JOB: signal: terminated", sends(signal.SIGINT), slow=False),
    "Ctrl-\\": Case(bash(TIDY), 5, "job JOB: exit status 5", sends(signal.SIGQUIT)),
    "TERM": Case(bash(TIDY), 5, "job JOB: exit status 5", sends(signal.SIGTERM)),
    "terminal lost": Case(bash(TIDY), 5, "job JOB: exit status 5", sends(signal.SIGHUP)),
    "Ctrl-C twice": Case(bash(DEAF), 137, "job JOB: signal: killed", sends(signal.SIGINT, signal.SIGINT)),
    "Ctrl-\\ after Ctrl-C": Case(bash(DEAF), 137, "job JOB: signal: killed", sends(signal.SIGINT, signal.SIGQUIT)),
    "output not read": Case(bash("while echo up; do sleep 0.01; done"), 141, "; job JOB was told to end", closes),
    # the worker goes away
    "worker stopped in order": Case(bash(TIDY), 5, "job JOB: exit status 5", stops_worker),
    "worker stopped, job well": Case(bash(WELL), 1, "job JOB: stopped: exit status 0", stops_worker),
    "worker gone for good": Case(
        bash(SLEEPS, "--patience", "1"),
        125,
        "; waited N s for it; `txworker query JOB` tells what became of job JOB once it is back",
        loses_worker,
    ),
    # there is no job
    "not found": Case(
        ("no-such-program",), 127, "command: 'no-such-program': no such executable (NOT_FOUND)", slow=False
    ),
    "builtin": Case(("cd", "/tmp"), 127, "; no shell here: use `bash -c 'cd /tmp'`"),
    "interpreter not found": Case(("--directory", "/tmp", "./txworker-no-such"), 127, "(NOT_FOUND)"),
    "not executable": Case(("/etc/passwd",), 126, "(PERMISSION_DENIED)", slow=False),
    "a directory": Case(("/tmp",), 126, "(PERMISSION_DENIED)"),
    "no program": Case((str(NO_PROGRAM),), 126, "neither a program nor a script with a #! line (INVALID_ARGUMENT)"),
    "a directory as stdin": Case(("--stdin", "/tmp", "true"), 125, "--stdin: /tmp: Is a directory"),
    "no working directory": Case(("--directory", "/no/such", "true"), 125, "(NOT_FOUND)"),
    "refused": Case((" ",), 125, "(INVALID_ARGUMENT)", slow=False),
    "a short lease": Case(("--lease", "0.5", "true"), 125, "lease: 0.5 must be 1 second or more (INVALID_ARGUMENT)"),
    "detached": Case(("--detach", "no-such-program"), 127, "(NOT_FOUND)"),
    "unreachable": Case(("--addr", "127.0.0.1:1", "--patience", "0.1", "true"), 125, "Connection refused"),
    "no such stdin": Case(("--stdin", "/no/such", "true"), 125, "/no/such: No such file or directory", slow=False),
    "no such CA": Case(("--tls-ca", "/no/such", "true"), 125, "/no/such: No such file or directory"),
    "not UTF-8": Case(("echo", "\udcff"), 125, "'\\udcff' is not valid UTF-8, and cannot be sent"),
    # the words are wrong
    "wrong usage": Case(("--env", "=x", "true"), 2, "'=x' is not NAME=VALUE (txworker run --help shows the usage)"),
    "nothing to run": Case((), 2, "name an executable (txworker run --help shows the usage)"),
    "a pipe of a shell's": Case(("false", "|", "cat"), 1, "no shell here: use `bash -c 'false | cat'`"),
}


@pytest.fixture
def worker(request: pytest.FixtureRequest, name: str) -> Daemon:
    """The file's, or one of its own for a test that ends it."""
    if CASES[name].act not in (stops_worker, loses_worker):
        shared: Daemon = request.getfixturevalue("daemon")
        return shared
    own: Daemon = request.getfixturevalue("a_daemon")("[jobs]\nstop_grace_seconds = 10")
    return own


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if case.slow else name for name, case in CASES.items()]
)
def test_statuses(worker: Daemon, name: str) -> None:
    """`run` ends as its job did; with 125, 126 or 127 where there is no job; and says why, in one sentence."""
    case = CASES[name]
    words = [*with_signals("SIG_DFL"), "--addr", worker.addr, "run", *case.words]
    with running(words, stdin=subprocess.DEVNULL) as process:
        job_id = ""
        if case.act is not None:
            run = Run(worker, process)
            job_id = run.job_id
            case.act(run)
        _, err = process.communicate(timeout=LIMIT)
    said = err.decode().replace(job_id or "no id", "JOB")
    said = re.sub(r"job [0-9a-f-]{36}:", "job JOB:", said).rstrip("\n")
    said = re.sub(r"waited \d+ s", "waited N s", said)
    assert process.returncode == case.status, said
    assert said.endswith(case.said) if case.said else said == "", said


@pytest.mark.slow
def test_lost(a_daemon: ADaemon, again: Again) -> None:
    """Worker and shim are killed: how the job ended is not known, which is 1."""
    worker = a_daemon()
    with cutting_proxy(worker.addr, HARDLY_EVER) as proxy:
        words = [*PROGRAM, "--addr", proxy.addr, "run", "bash", "-c", SLEEPS]
        with running(words, stdin=subprocess.DEVNULL) as process:
            run = Run(worker, process)
            worker.kill_with_shim()
            proxy.upstream = again(worker).addr
            _, err = process.communicate(timeout=2 * LIMIT)
    assert (process.returncode, f"job {run.job_id}: lost: " in err.decode()) == (1, True), err


@pytest.mark.slow
@pytest.mark.parametrize("key", ["\x03", "\x1c"])
def test_keys(daemon: Daemon, key: str) -> None:
    """Ctrl-C and Ctrl-\\, typed on a terminal, stop the job; a second one kills it, and the status is the job's."""
    for script, typed, status in ((TIDY, key, 5), (DEAF, key * 2, 137)):
        with on_terminal([*PROGRAM, "--addr", daemon.addr, "run", "bash", "-c", script]) as terminal:
            terminal.until("up\r\n")
            (job,) = daemon.stub.ListJobs(pb.ListJobsReq(pageSize=1), timeout=LIMIT).jobs
            for one in typed:
                terminal.type(one)
                wait_until(partial(stops_now, daemon, job.jobID))
            assert terminal.ended()[0] == status


def test_documented() -> None:
    """The table has every status that the README's table has for `run`."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d, ]+) \| (.*) \|$", readme.partition("| exit status | of |")[2], re.MULTILINE)
    documented = {int(number) for numbers, of in rows if "`run`" in of for number in numbers.split(",")}
    assert {125, 126, 127, 141} <= documented <= {case.status for case in CASES.values()}
