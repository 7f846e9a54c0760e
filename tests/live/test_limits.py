"""Each limit, shown by a job that hits it; who jobs run as; what they inherit from the worker."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from tests.support.other_users import a_python
from txworker.pb import worker_pb2 as pb
from txworker.process.limits import CPU_GRACE_SECONDS

MIB = 1024 * 1024
ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root")

EAT_MEMORY = "python3 -c 'bytearray(400 << 20)'"
OPEN_FILES = "python3 -c 'import os; [os.dup(0) for _ in range(100)]'"
FORK = "import os, time; [os.fork() or time.sleep(2) for _ in range(5)]"
BURN = "exec python3 -c 'while True: pass'"


def limits(**values: object) -> pb.Limits:
    return pb.Limits(**values)  # type: ignore[arg-type]


def test_output(daemon: Daemon) -> None:
    """Output beyond the limit is drained and dropped: the job ends well, its record and the last line say so."""
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2; exit 3"
    job_id = daemon.bash(script, limits=limits(maxOutputBytes=100_000))
    output = daemon.raw(job_id)
    job = daemon.query(job_id).job
    assert (job.state, job.exitCode, job.outputTruncated) == (pb.JOB_STATE_FAILED, 3, True)
    last_line = b"\n[output beyond 100000 bytes was dropped]\n"
    assert output == b"x" * 100_000 + last_line
    assert job.outputBytes == len(output)


def test_output_at_the_limit(daemon: Daemon) -> None:
    """Exactly so much is not too much."""
    job_id = daemon.bash("head -c 100000 /dev/zero", limits=limits(maxOutputBytes=100_000))
    assert len(daemon.raw(job_id)) == 100_000
    assert not daemon.query(job_id).job.outputTruncated


def test_memory(daemon: Daemon) -> None:
    """A job that wants more memory does not get it, nor does its child."""
    for script in (f"exec {EAT_MEMORY}", f"{EAT_MEMORY}; exit $?"):
        job_id = daemon.bash(script, limits=limits(maxMemoryBytes=200 * MIB))
        assert b"MemoryError" in daemon.raw(job_id)
        assert daemon.query(job_id).job.exitCode == 1
    job_id = daemon.bash(EAT_MEMORY, limits=limits(maxMemoryBytes=4000 * MIB))
    assert daemon.end(job_id).job.exitCode == 0


def test_cpu(daemon: Daemon) -> None:
    """A job that burns too much gets XCPU, and the end says so."""
    answer = daemon.end(daemon.bash(BURN, limits=limits(maxCPU=Duration(seconds=1))))
    assert (answer.job.state, answer.job.signal) == (pb.JOB_STATE_FAILED, 24)
    assert "CPU time limit exceeded" in answer.errorText
    assert 0.5 < answer.job.userCPU.ToNanoseconds() / 1e9 + answer.job.systemCPU.ToNanoseconds() / 1e9 < 3


@pytest.mark.slow
def test_cpu_ignored(daemon: Daemon) -> None:
    """One that does not listen to XCPU is killed some seconds of CPU later."""
    script = f"trap '' XCPU; {BURN}"
    answer = daemon.end(daemon.bash(script, limits=limits(maxCPU=Duration(seconds=1))))
    assert (answer.job.signal, answer.errorText) == (9, "signal: killed")
    assert answer.job.userCPU.seconds >= CPU_GRACE_SECONDS - 1


def test_open_files(daemon: Daemon) -> None:
    """A job with so many files gets no more."""
    job_id = daemon.bash(OPEN_FILES, limits=limits(maxOpenFiles=50))
    assert b"Too many open files" in daemon.raw(job_id)
    assert daemon.query(job_id).job.exitCode == 1


@ROOT
def test_processes(a_daemon: Callable[..., Daemon]) -> None:
    """A job with so many processes gets no more. The kernel counts the user's, and does not bind root."""
    daemon = a_daemon('[jobs]\nuser = "nobody"\ndirectory = "/"\n')
    forks = (a_python(pwd.getpwnam("nobody").pw_uid), "-ISc", FORK)  # no shell: bash tries again for half a minute
    job_id = daemon.start(*forks, limits=limits(maxProcesses=4))
    assert b"Resource temporarily unavailable" in daemon.raw(job_id)
    assert daemon.raw(daemon.start(*forks)) == b""


def test_before_the_first_instruction(daemon: Daemon) -> None:
    """All limits hold when the job's first line runs, and for its children."""
    asked = limits(maxMemoryBytes=3000 * MIB, maxCPU=Duration(seconds=77), maxOpenFiles=99, maxProcesses=3333)
    for script in ("ulimit -v -t -n -u", "bash -c 'ulimit -v -t -n -u'"):
        values = [line.split()[-1] for line in daemon.raw(daemon.bash(script, limits=asked)).decode().splitlines()]
        assert sorted(values) == sorted([str(3000 * 1024), "77", "99", "3333"])


def test_defaults_and_ceilings(a_daemon: Callable[..., Daemon]) -> None:
    """Who asks for nothing gets the default, or the ceiling; who asks for more than the ceiling is refused."""
    daemon = a_daemon(
        "[jobs.limits]\nmax_open_files = 60\n"
        "[jobs.ceilings]\nmax_open_files = 80\nmax_cpu_seconds = 50\nmax_output_bytes = 1000\n"
    )
    assert daemon.raw(daemon.bash("ulimit -n; ulimit -t")) == b"60\n50\n"
    assert daemon.raw(daemon.bash("ulimit -n; ulimit -t", limits=limits(maxOpenFiles=80))) == b"80\n50\n"
    for asked, field, value in [
        (limits(maxOpenFiles=81), "limits.maxOpenFiles", "81"),
        (limits(maxCPU=Duration(seconds=51)), "limits.maxCPU", "51"),
        (limits(maxOutputBytes=1001), "limits.maxOutputBytes", "1001"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            daemon.bash("true", limits=asked)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert field in str(caught.value.details())
        assert value in str(caught.value.details())


@ROOT
def test_user(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Jobs run as somebody else: user, group and groups as after a login, HOME and USER to go with it."""
    place = Path("/tmp")
    daemon = a_daemon(f'[jobs]\nuser = "nobody"\ndirectory = "{place}"\n')
    account = pwd.getpwnam("nobody")
    groups = " ".join(map(str, os.getgrouplist("nobody", account.pw_gid)))
    script = 'id -u; id -g; id -G; echo "$HOME $USER $LOGNAME"; pwd; grep -c "^CapPrm:.*[1-9a-f]" /proc/self/status'
    expected = f"{account.pw_uid}\n{account.pw_gid}\n{groups}\n{account.pw_dir} nobody nobody\n{place}\n0\n"
    assert daemon.raw(daemon.bash(script)).decode() == expected
    for user in ("nobody", str(account.pw_uid)):
        assert daemon.end(daemon.start("true", user=user)).job.user == "nobody"
    with pytest.raises(grpc.RpcError, match=r"user: 'root' is not the user .*, 'nobody'"):
        daemon.start("true", user="root")


@ROOT
def test_group(a_daemon: Callable[..., Daemon]) -> None:
    """A group alone may be named, or a group beside the user's own; numbers will do."""
    daemon = a_daemon('[jobs]\ngroup = "daemon"\n')
    assert daemon.raw(daemon.bash("id -u; id -gn")) == b"0\ndaemon\n"
    daemon = a_daemon('[jobs]\nuser = "65534"\ngroup = "1"\ndirectory = "/"\n')
    assert daemon.raw(daemon.bash("id -u; id -g")) == b"65534\n1\n"


@ROOT
def test_what_the_user_may_not(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """What the job's user may not enter or execute is refused with the right words, and the worker goes on."""
    daemon = a_daemon('[jobs]\nuser = "nobody"\ndirectory = "/"\n')
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    for request, word in (
        (pb.StartJobReq(command="true", directory=str(closed)), "directory"),
        (pb.StartJobReq(path=str(script)), "command"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            daemon.stub.StartJob(request, timeout=LIMIT)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert word in str(caught.value.details())
    assert daemon.raw(daemon.bash("echo on")) == b"on\n"


@ROOT
def test_stop_of_another_users_job(a_daemon: Callable[..., Daemon]) -> None:
    """Root ends whoever runs as somebody else, with what they left."""
    daemon = a_daemon('[jobs]\nuser = "nobody"\ndirectory = "/"\nuse_cgroups = false\n')
    away = "setsid sh -c 'echo; exec sleep 300' &"  # what it says, it says from its own session
    job_id = daemon.bash(f"{away} (env -i {away}); wait")
    wait_until(lambda: daemon.query(job_id).job.outputBytes == 2)
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    assert daemon.end(job_id).job.leftoversEnded == 2


def test_nice_and_oom_score(a_daemon: Callable[..., Daemon]) -> None:
    """Jobs give way to the worker, and the kernel takes a job before it when memory runs out."""
    daemon = a_daemon("[jobs]\nnice = 7\noom_score_adj = 321\n")
    assert daemon.raw(daemon.bash("nice; cat /proc/self/oom_score_adj")) == b"%d\n321\n" % min(19, os.nice(0) + 7)
    assert Path(f"/proc/{daemon.process.pid}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
    assert os.getpriority(os.PRIO_PROCESS, daemon.process.pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_oom_score_by_default(daemon: Daemon) -> None:
    """Without a word in the configuration, too: the children of a job that is started at once have it as well."""
    job_id = daemon.bash("sleep 0.1; cat /proc/self/oom_score_adj")
    assert daemon.raw(job_id) == b"500\n"


def test_descriptors(tmp_path: Path) -> None:
    """The worker raises its own soft limit to the hard one; jobs get what the worker was started with."""
    script = tmp_path / "twistd"
    soft, hard = 256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script.write_text(f'#!/bin/bash\nulimit -Sn {soft}\nexec {TWISTD} "$@"\n')
    script.chmod(0o755)
    daemon = Daemon(tmp_path, twistd=[str(script)])
    try:
        assert daemon.raw(daemon.bash("ulimit -Sn; ulimit -Hn")) == f"{soft}\n{hard}\n".encode()
        text = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        assert f"{hard} {hard}" in " ".join(next(line for line in text.splitlines() if "open files" in line).split())
    finally:
        daemon.close()
