"""What a job sees of the world it is started in, on every launch path: a table, and each row a job that looks."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import TWISTD, TWISTD_COMMAND, Daemon
from tests.support.other_users import AS_NOBODY, ROOT, a_python
from txworker.pb import worker_pb2 as pb

NOBODY = pwd.getpwnam("nobody")
IGNORED = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGXCPU,
    signal.SIGXFSZ,
    signal.SIGPIPE,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGRTMIN,
)

NO_SIGNALS = b"".join(b"%s:\t0000000000000000\n" % name for name in (b"SigPnd", b"SigBlk", b"SigIgn"))
"""As /proc has it; not asked of Python, which ignores two itself."""

LOOK = """
import json, os, resource
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "status": status,
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name[:7] == "RLIMIT_"},
    "cgroup": open("/proc/self/cgroup").read(),
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "environment": dict(os.environ),
    "directory": os.getcwd(),
    "session": os.getsid(0), "group": os.getpgrp(), "pid": os.getpid(),
    "umask": os.umask(0), "nice": os.nice(0), "ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
    "cpus": len(os.sched_getaffinity(0)), "oom": int(open("/proc/self/oom_score_adj").read()),
}))
"""


@dataclass
class Row:
    """A worker with these words in [jobs], a job with those in its order, and what the job must see."""

    jobs: str = ""
    order: dict[str, Any] = field(default_factory=dict)
    sees: dict[str, Any] = field(default_factory=dict)
    root: bool = False


ROWS = {
    "at once": Row(),
    "without a cgroup": Row("use_cgroups = false\n"),
    "limits": Row(
        order={
            "limits": pb.Limits(maxOpenFiles=99, maxCPU=Duration(seconds=77), maxMemoryBytes=3 << 30, maxProcesses=3333)
        },
        sees={
            "RLIMIT_NOFILE": [99, 99],
            "RLIMIT_CPU": [77, 82],
            "RLIMIT_AS": [3 << 30] * 2,
            "RLIMIT_NPROC": [3333] * 2,
        },
    ),
    "nice": Row(
        'nice = 7\noom_score_adj = 321\ngroup = "daemon"\n',
        sees={"nice": min(os.nice(0) + 7, 19), "oom": 321, "ids": [0] * 3 + [1] * 3, "groups": [1]},
        root=True,
    ),
    "directory": Row(order={"directory": "/usr/../usr/lib"}, sees={"directory": "/usr/lib"}),
    "user": Row(
        AS_NOBODY,
        sees={
            "directory": "/tmp",
            "ids": [NOBODY.pw_uid] * 3 + [NOBODY.pw_gid] * 3,
            "groups": os.getgrouplist("nobody", NOBODY.pw_gid),
        },
        root=True,
    ),
    "stdin, two outputs": Row(order={"stdin": b"x" * 100_000, "separateStderr": True}),
}


ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/root",
    "OLDPWD": "/root/before",
    "PWD": "/root/now",
    "_": "/usr/bin/starter",
    "NOTIFY_SOCKET": "/run/none",
    "LISTEN_FDS": "0",
    "MAIL": "/var/mail/root",
    "SHELL": "/bin/bash",
    "USER": "root",
    "LOGNAME": "root",
    "SUDO_USER": "operator",
    "SUDO_UID": "1000",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "XDG_SESSION_ID": "7",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/0/bus",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "LISTS": "stay",
    "EMPTY": "",
    "BYTES": "\udcff",
}
"""Of the starter; no locale, so that Python makes one up for itself (PEP 538)."""


def a_hostile_starter(place: Path, ignored: tuple[int, ...] = IGNORED) -> tuple[str, ...]:
    """A program that starts twistd with signals ignored and blocked, more descriptors, another umask."""
    script = place / "starter"
    script.write_text(
        f"#!{sys.executable} -IS\n"
        "import ctypes, os, signal, sys\n"
        f"for number in {[int(number) for number in ignored]}: signal.signal(number, signal.SIG_IGN)\n"
        "action = ctypes.create_string_buffer(64); action[0] = 1\n"
        "if os.uname().machine == 'x86_64':  # libc's own, as a posix_spawn leaves them\n"
        "    for number in (32, 33):\n"
        "        word, number = ctypes.c_long, ctypes.c_long(number)\n"
        "        ctypes.CDLL(None).syscall(word(13), number, action, None, ctypes.c_size_t(8))\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, {[int(signal.SIGUSR2), int(signal.SIGALRM)]})\n"
        "os.umask(0o027)\n"
        "os.dup2(os.open('/dev/null', os.O_RDONLY), 77)\n"
        f"os.execve({TWISTD!r}, [{TWISTD!r}, *sys.argv[1:]], {ENVIRONMENT!r})\n"
    )
    script.chmod(0o755)
    return (str(script),)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Daemon]]:
    """The worker with these words in [jobs]; every one has a hostile starter, and is there for all of this file."""
    made: dict[str, Daemon] = {}

    def worker(jobs: str = "") -> Daemon:
        if jobs not in made:
            place = tmp_path_factory.mktemp("hostile")
            made[jobs] = Daemon(place, f"[jobs]\n{jobs}", twistd=a_hostile_starter(place))
        return made[jobs]

    yield worker
    for one in made.values():
        one.close()


def seen(daemon: Daemon, user: int, **order: Any) -> dict[str, Any]:
    """What a job sees that is started like this, as that user."""
    job_id = daemon.start(a_python(user), "-ISc", LOOK, **order)
    text = daemon.raw(job_id)
    assert daemon.query(job_id).job.state == pb.JOB_STATE_SUCCEEDED, text
    found: dict[str, Any] = json.loads(text)
    return {**found, "id": job_id}


@pytest.mark.parametrize("name", ROWS)
def test_table(name: str, hostile: Callable[[str], Daemon]) -> None:
    """
    Nothing of how the worker was started shows in a job: signals, mask, session, descriptors. What is the worker's
    stays (umask, limits); what was configured or ordered is there.
    """
    row = ROWS[name]
    if row.root and os.getuid() != 0:
        pytest.skip("needs root")
    daemon = hostile(row.jobs)
    with open(f"/proc/{daemon.process.pid}/status") as file:
        assert "Umask:\t0027" in file.read()
    assert daemon.raw(daemon.start("grep", "-E", "^Sig(Ign|Blk|Pnd):", "/proc/self/status", **row.order)) == NO_SIGNALS
    for _ in range(2):  # in a burst the second is moved into its cgroup, a single one is born in it
        job = seen(daemon, row.sees.get("ids", [os.getuid()])[0], **row.order)
        assert job["descriptors"] == [0, 1, 2]
        assert job["session"] == job["group"] == job["pid"]
        assert job["umask"] == 0o027
        assert job["cpus"] == len(os.sched_getaffinity(0))
        assert job["environment"]["TXWORKER_JOB_ID"] == job["id"]
        expected = {"directory": str(daemon.place), "nice": os.nice(0), **row.sees}
        for key, value in expected.items():
            assert (job["limits"] if key.startswith("RLIMIT_") else job)[key] == value, key
        for limit in ("RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_DATA", "RLIMIT_FSIZE"):
            assert job["limits"][limit] == list(resource.getrlimit(getattr(resource, limit)))
        if "RLIMIT_NOFILE" not in row.sees:
            assert job["limits"]["RLIMIT_NOFILE"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
        in_its_own = "use_cgroups = false" not in row.jobs and "Jobs get no cgroup" not in daemon.log()
        assert (job["id"] in job["cgroup"]) == in_its_own


@pytest.mark.parametrize("jobs", ["", "shim = false\n"])
def test_high_oom_score(tmp_path: Path, jobs: str) -> None:
    """A worker that the kernel would kill before its jobs, as one in a container may be, gives them its own score."""
    high = ("sh", "-c", 'echo 700 >/proc/self/oom_score_adj; exec "$@"', "sh", *TWISTD_COMMAND)
    daemon = Daemon(tmp_path, f"[jobs]\n{jobs}", twistd=high)
    try:
        limits = {} if jobs else {"limits": pb.Limits(maxOpenFiles=99)}  # in a fork, so that it is set before the exec
        assert daemon.raw(daemon.start("cat", "/proc/self/oom_score_adj", **limits)) == b"700\n"
    finally:
        daemon.close()


def environment(daemon: Daemon, **order: Any) -> dict[str, str]:
    """That of a job, as the kernel has it."""
    entries = daemon.raw(daemon.start("cat", "/proc/self/environ", **order)).split(b"\0")
    return {
        os.fsdecode(name): os.fsdecode(value) for name, _, value in (entry.partition(b"=") for entry in entries[:-1])
    }


THE_WORKERS = {
    "OLDPWD": None,
    "_": None,
    "NOTIFY_SOCKET": None,
    "LISTEN_FDS": None,
    "LC_CTYPE": None,
    "GRPC_ENABLE_FORK_SUPPORT": None,
    "PYTHONUNBUFFERED": "1",
    "PATH": ENVIRONMENT["PATH"],
    "LISTS": "stay",
    "EMPTY": "",
    "BYTES": "\udcff",
}
OWN = {**THE_WORKERS, **{name: ENVIRONMENT[name] for name in ("HOME", "MAIL", "SUDO_USER", "XDG_RUNTIME_DIR", "SHELL")}}
NOBODYS = {
    **THE_WORKERS,
    **dict.fromkeys(name for name in ENVIRONMENT if name.startswith(("SUDO_", "XDG_", "DBUS_", "SSH_", "MAIL"))),
    "HOME": NOBODY.pw_dir,
    "USER": "nobody",
    "LOGNAME": "nobody",
    "SHELL": NOBODY.pw_shell,
    "PWD": "/tmp",
}


@pytest.mark.parametrize(
    ("jobs", "order", "expected"),
    [
        ("", {}, OWN),
        ("", {"directory": "/usr//./lib/"}, {**OWN, "PWD": "/usr/lib"}),
        ("", {"directory": "/usr/../usr"}, {**OWN, "PWD": None}),
        (
            "",
            {"env": {"PWD": "/mine", "OLDPWD": "/old", "LC_CTYPE": "de"}},
            {"PWD": "/mine", "OLDPWD": "/old", "LC_CTYPE": "de"},
        ),
        ("", {"limits": pb.Limits(maxOpenFiles=99)}, OWN),
        pytest.param(AS_NOBODY, {}, NOBODYS, marks=ROOT),
        pytest.param(
            AS_NOBODY, {"directory": "/", "env": {"MAIL": "x"}}, {**NOBODYS, "PWD": "/", "MAIL": "x"}, marks=ROOT
        ),
    ],
)
def test_environment(
    hostile: Callable[[str], Daemon], jobs: str, order: dict[str, Any], expected: dict[str, str | None]
) -> None:
    """The starter's, to the byte, but for what would be untrue of the job, or speaks of another user."""
    daemon = hostile(jobs)
    expected = {"PWD": str(daemon.place), **expected}
    found = environment(daemon, **order)
    assert {name: found.get(name) for name in expected} == expected
    assert set(found) <= {*expected, *ENVIRONMENT, "TXWORKER_JOB_ID", "PYTHONUNBUFFERED"}


@ROOT
@pytest.mark.slow
def test_name_that_is_no_text(tmp_path: Path) -> None:
    """The jobs' user may have a name that is no UTF-8: jobs have it as it is, and sentences have it readable."""
    accounts = tmp_path / "passwd"
    accounts.write_bytes(Path("/etc/passwd").read_bytes() + b"m\xfcller:x:4242:4242::/tmp:/bin/sh\n")
    mounted = f'mount --bind {accounts} /etc/passwd && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", mounted, "sh", "true"], check=False).returncode:
        pytest.skip("this machine lets nothing be mounted")
    place = tmp_path / "worker"
    place.mkdir()
    text = '[jobs]\nuser = "4242"\ndirectory = "/"\n'
    daemon = Daemon(place, text, twistd=("unshare", "-m", "sh", "-c", mounted, "sh", *TWISTD_COMMAND))
    try:
        job_id = daemon.bash("id -nu; echo $USER")
        assert daemon.raw(job_id) == b"m\xfcller\n" * 2
        with pytest.raises(grpc.RpcError) as caught:
            daemon.start(str(place / "program"), directory=str(place / "state"))
        assert "the jobs' user (m\\udcfcller) may not enter" in str(caught.value.details())
    finally:
        daemon.close()


@pytest.mark.parametrize(
    ("script", "order", "number"),
    [
        ("while :; do :; done", {"limits": pb.Limits(maxCPU=Duration(seconds=1))}, signal.SIGXCPU),
        (
            "exec python3 -ISc 'import signal, time; signal.setitimer(signal.ITIMER_REAL, 0.1); time.sleep(60)'",
            {},
            signal.SIGALRM,
        ),
        ("kill -USR2 $$; sleep 60", {}, signal.SIGUSR2),
        ("exec yes | true; exit ${PIPESTATUS[0]}", {}, None),
    ],
)
def test_signals_work(
    hostile: Callable[[str], Daemon], script: str, order: dict[str, Any], number: signal.Signals | None
) -> None:
    """What a job counts on ends it, though the worker was started with all of it ignored."""
    daemon = hostile("")
    job = daemon.end(daemon.bash(script, **order)).job
    assert (job.signal, job.exitCode) == ((number, 0) if number else (0, 128 + signal.SIGPIPE))


PIPES = """
echo out > /dev/stdout; echo err > /dev/stderr; echo tee | tee /dev/stderr > /dev/null
echo fd >> /proc/self/fd/1; head -c 3 /dev/stdin; cat < /dev/fd/0;
"""


@pytest.mark.parametrize("jobs", ["", pytest.param(AS_NOBODY, marks=ROOT)])
@pytest.mark.parametrize("apart", [False, True])
def test_pipes_are_the_jobs(hostile: Callable[[str], Daemon], jobs: str, apart: bool) -> None:
    """A job may open its own three descriptors anew by their names, whichever user it runs as."""
    daemon = hostile(jobs)
    job_id = daemon.bash(PIPES, stdin=b"in\nin\n", separateStderr=apart, env={"LC_ALL": "C"})
    err = daemon.raw(job_id, stderr=True) if apart else b""
    out = daemon.raw(job_id)
    assert (out, err) == ((b"out\nfd\nin\nin\n", b"err\ntee\n") if apart else (b"out\nerr\ntee\nfd\nin\nin\n", b""))
    assert daemon.query(job_id).job.state == pb.JOB_STATE_SUCCEEDED


def test_core_dump(hostile: Callable[[str], Daemon], tmp_path: Path) -> None:
    """That there is one is told, in the words that Go has for it; and only where there is one."""
    script = "ulimit -c unlimited; kill -SEGV $$"
    pid = os.posix_spawn("/bin/bash", ["bash", "-c", f"cd {tmp_path}; {script}"], os.environ)
    _, status = os.waitpid(pid, 0)
    daemon = hostile("")
    answer = daemon.end(daemon.bash(script, directory=str(tmp_path)))
    assert answer.job.coreDumped == os.WCOREDUMP(status)
    assert answer.errorText == "signal: segmentation fault" + " (core dumped)" * os.WCOREDUMP(status)
    answer = daemon.end(daemon.bash("ulimit -c 0; kill -SEGV $$", directory=str(tmp_path)))
    assert (answer.job.coreDumped, answer.errorText) == (False, "signal: segmentation fault")
