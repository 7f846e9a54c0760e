"""What a job sees of the world it is started in, on every launch path: a table, and each row a job that looks."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run jobs as another user")
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


AS_NOBODY = 'user = "nobody"\ndirectory = "/tmp"\n'
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
        sees={"nice": 7, "oom": 321, "ids": [0] * 3 + [1] * 3, "groups": [1]},
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


def a_python(user: int) -> str:
    """One that this user can execute."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([python, "-ISc", ""], user=user, check=True, cwd="/")
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip("no Python that another user can execute")


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
echo fd >> /proc/self/fd/1; cat /dev/stdin; cat < /dev/fd/0;
"""


@pytest.mark.parametrize("jobs", ["", pytest.param(AS_NOBODY, marks=ROOT)])
@pytest.mark.parametrize("apart", [False, True])
def test_pipes_are_the_jobs(hostile: Callable[[str], Daemon], jobs: str, apart: bool) -> None:
    """A job may open its own three descriptors anew by their names, whichever user it runs as."""
    daemon = hostile(jobs)
    job_id = daemon.bash(PIPES, stdin=b"in\n", separateStderr=apart, env={"LC_ALL": "C"})
    err = daemon.raw(job_id, stderr=True) if apart else b""
    out = daemon.raw(job_id)
    assert (out, err) == ((b"out\nfd\nin\nin\n", b"err\ntee\n") if apart else (b"out\nerr\ntee\nfd\nin\nin\n", b""))
    assert daemon.query(job_id).job.state == pb.JOB_STATE_SUCCEEDED


def refused(daemon: Daemon, **order: Any) -> tuple[grpc.StatusCode, str]:
    """With what a start is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        daemon.stub.StartJob(pb.StartJobReq(**order), timeout=LIMIT)
    return caught.value.code(), str(caught.value.details())


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.parametrize("jobs", ["", pytest.param(AS_NOBODY, marks=ROOT)])
def test_what_is_in_the_way(hostile: Callable[[str], Daemon], open_place: Path, jobs: str) -> None:
    """A start that is not permitted names what is in the way, and for which user."""
    daemon, tmp_path = hostile(jobs), open_place
    subject = "the jobs' user (nobody)" if jobs else f"the worker (user {pwd.getpwuid(os.getuid()).pw_name})"
    for name, mode, text in (
        ("plain", 0o644, "#!/bin/sh\n"),
        ("script", 0o755, f"#!{tmp_path}/plain\n"),
        ("orphan", 0o755, "#!/no/such/interpreter -x\n"),
        ("relative", 0o755, "#!./plain\n"),
        ("below", 0o755, f"#!{tmp_path}/closed/interpreter\n"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "interpreter").write_text("#!/bin/sh\n")
    (closed / "interpreter").chmod(0o755)
    (closed / "deeper").mkdir()
    (tmp_path / "link").symlink_to(closed / "deeper")
    denied, missing = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND
    at = {"directory": str(tmp_path)}
    rows: list[tuple[dict[str, Any], tuple[grpc.StatusCode, str]]] = [
        ({"path": "./plain", **at}, (denied, "command: './plain': is not executable (chmod +x)")),
        ({"path": "./script", **at}, (denied, f"its interpreter '{tmp_path}/plain' is not executable")),
        ({"path": "./relative", **at}, (denied, f"its interpreter '{tmp_path}/./plain' is not executable")),
        ({"path": str(closed / "deeper")}, (denied, "is a directory, not a program")),
        (
            {"path": "./orphan", **at},
            (missing, "the interpreter that its first line names, '/no/such/interpreter', is"),
        ),
        ({"command": "orphan", "env": {"PATH": str(tmp_path)}}, (missing, "'/no/such/interpreter'")),
        ({"command": "plain", "env": {"PATH": f"/no:{tmp_path}"}}, (denied, f"{tmp_path}/plain: is not executable")),
        (
            {"command": "nowhere", "env": {"PATH": f"{closed}:/bin"}},
            (missing, "command: 'nowhere': no such executable"),
        ),
        ({"path": "true", "directory": str(tmp_path / "plain")}, (missing, "is not a directory")),
        ({"path": "true", "directory": "x" * 300}, (grpc.StatusCode.INVALID_ARGUMENT, "directory: ")),
    ]
    for order, (code, words) in rows:
        found = refused(daemon, **order)
        assert found[0] == code, found
        assert words in found[1], found
    if jobs or os.getuid():
        closed.chmod(0)
        may_not = f"{subject} may not enter '{closed}'"
        for order in (
            {"path": "true", "directory": str(closed / "deeper")},
            {"path": "true", "directory": str(tmp_path / "link")},
            {"path": str(closed / "interpreter")},
            {"path": str(tmp_path / "below")},
        ):
            found = refused(daemon, **order)
            assert found[0] == denied
            assert may_not in found[1], found
        assert f"{subject} may not enter it" in refused(daemon, path="true", directory=str(closed))[1]
        own = tmp_path / "own"
        own.write_text("#!/bin/sh\n")
        own.chmod(0o710)
        assert f"{subject} may not execute it" in refused(daemon, path=str(own))[1]


@ROOT
def test_noexec(hostile: Callable[[str], Daemon], tmp_path: Path) -> None:
    """A mount that allows no program is named."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this machine lets nothing be mounted")
    try:
        script = tmp_path / "script"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        code, text = refused(hostile(""), path=str(script))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert f"is on a file system that is mounted noexec ({tmp_path})" in text


@pytest.mark.parametrize("order", [{}, {"limits": pb.Limits(maxOpenFiles=99)}])
def test_busy(hostile: Callable[[str], Daemon], tmp_path: Path, order: dict[str, Any]) -> None:
    """An executable that is being written to can be tried again."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with program.open("ab"):
        code, text = refused(hostile(""), path=str(program), **order)
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "try again" in text
    hostile("").end(hostile("").start(str(program)))


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


LEFT = "for n in $(seq 1000); do echo line $n; sleep 0.01; done"
"""Prints for ten seconds and more, what its descriptors lead to."""


def lines(daemon: Daemon, job_id: str, **more: Any) -> list[int]:
    """The numbers of the lines that it has printed so far."""
    whole = daemon.raw(job_id, noFollow=True, **more)
    return [int(line.split()[1]) for line in whole[: whole.rindex(b"\n") + 1].splitlines() if line.startswith(b"line")]


def alive(name: str) -> list[int]:
    """The processes with that name in their arguments."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(int(pid))
    return found


def end(name: str) -> None:
    """No test leaves what was kept behind."""
    for pid in alive(name):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("default", "asked"), [pytest.param("keep", "", marks=pytest.mark.slow), ("end", "keep")])
def test_kept(a_daemon: Callable[..., Daemon], default: str, asked: str) -> None:
    """
    What is kept goes on printing when its job is done, beside a worker, without one and beside the next; not one line
    is missing, and viewers find them.
    """
    daemon = a_daemon(f'[jobs]\nleftovers = "{default}"\n')
    name = f"kept-{os.getpid()}-{default}"
    script = f"setsid bash -c '{LEFT}' {name} & setsid bash -c 'sleep 60; :' {name} >/dev/null 2>&1 &"
    again = None
    try:
        job_id = daemon.bash(script, leftovers=asked)
        daemon.end(job_id)
        mine = daemon.query(job_id).job
        assert (mine.state, mine.leftoversEnded) == (pb.JOB_STATE_SUCCEEDED, 0)
        before = lines(daemon, job_id)[-1]
        wait_until(lambda: lines(daemon, job_id)[-1] > before + 5)
        other = daemon.bash("setsid sleep 61 & echo", leftovers="end")
        assert daemon.end(other).job.leftoversEnded == 1
        daemon.stop()
        size = (daemon.output / f"{job_id}.out").stat().st_size
        wait_until(lambda: (daemon.output / f"{job_id}.out").stat().st_size > size + 50)
        again = Daemon(daemon.place, daemon.settings)
        before = lines(again, job_id)[-1]
        wait_until(lambda: lines(again, job_id)[-1] > before + 5)
        printed = lines(again, job_id)
        assert printed == list(range(1, len(printed) + 1))
        assert len(alive(name)) == 2
        again.stop()
        assert len(alive(name)) == 2
    finally:
        end(name)
        if again is not None:
            again.close()


@pytest.mark.slow
def test_kept_beside_what_is_taken_over(a_daemon: Callable[..., Daemon]) -> None:
    """A worker that is killed leaves what is kept to the shim; the next one ends neither that nor the shim."""
    daemon = a_daemon()
    name = f"kept-{os.getpid()}-killed"
    again = None
    try:
        running = daemon.bash("sleep 60")
        job_id = daemon.bash(
            f"(setsid bash -c '{LEFT}' {name} &) ; (setsid sleep 60 >/dev/null 2>&1 &)", leftovers="keep"
        )
        daemon.end(job_id)
        daemon.stop(signal.SIGKILL)
        again = Daemon(daemon.place, daemon.settings)
        assert again.query(running).job.state == pb.JOB_STATE_RUNNING
        assert again.end(again.bash("setsid sleep 61 & echo", leftovers="end")).job.leftoversEnded == 1
        before = lines(again, job_id)[-1]
        wait_until(lambda: lines(again, job_id)[-1] > before + 20)
        again.stop()
        assert len(alive(name)) == 1
    finally:
        end(name)
        if again is not None:
            again.close()


def test_kept_within_its_limit(daemon: Daemon) -> None:
    """What a job left prints no more than the job may; where it was cut a line says so. It does not wait, nor die."""
    name = f"kept-{os.getpid()}-limit"
    go = daemon.place / name
    left = f"until [ -e {go} ]; do sleep 0.02; done; head -c 9000 /dev/zero; sleep 60; :"
    script = f"echo begun; (setsid bash -c '{left}' {name} &)"
    try:
        job_id = daemon.bash(script, leftovers="keep", limits=pb.Limits(maxOutputBytes=1000))
        daemon.end(job_id)
        go.touch()
        wait_until(lambda: b"dropped" in daemon.raw(job_id))
        assert daemon.raw(job_id) == b"begun\n" + bytes(994) + b"\n[output beyond 1000 bytes was dropped]\n"
        assert alive(name)
    finally:
        end(name)


def test_leftovers_word(daemon: Daemon) -> None:
    """Another word is refused by field and value."""
    code, text = refused(daemon, command="true", leftovers="kill")
    assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "leftovers: 'kill' must be 'end' or 'keep'")


@pytest.fixture
def unprivileged(open_place: Path) -> Iterator[Daemon]:
    """A worker of an unprivileged user's, and beside it a program that becomes root's and sleeps."""
    helper = open_place / "setpriv"
    helper.write_bytes(Path("/usr/bin/setpriv").read_bytes())
    helper.chmod(0o4755)
    place = open_place / "worker"
    place.mkdir()
    os.chown(place, 65534, 65534)
    python = a_python(65534)
    worker = Daemon(place, "[jobs]\nstop_grace_seconds = 0.5\n", twistd=an_unprivileged_twistd(open_place, python))
    yield worker
    end("300.5")
    worker.close()


def an_unprivileged_twistd(place: Path, python: str) -> tuple[str, ...]:
    """twistd as nobody, by a Python that nobody can execute, with the packages of this one."""
    script = place / "twistd"
    paths = [str(Path(__file__).resolve().parents[2]), *(path for path in sys.path if "site-packages" in path)]
    script.write_text(
        f"#!{python}\nimport sys\n"
        f"sys.path[:] = {paths!r} + [path for path in sys.path if 'dist-packages' not in path]\n"
        "from twisted.scripts.twistd import run\nrun()\n"
    )
    script.chmod(0o755)
    return ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(script))


AS_ROOT = ("--reuid=0", "--regid=0", "--clear-groups", "sleep", "300.5")


@ROOT
@pytest.mark.slow
def test_what_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """
    A job that has become another user's is not ended, and its record says so and why: while it is stopped, and beside
    the next worker, which has taken it over. When it has ended after all, that is told as it was.
    """
    daemon = unprivileged
    job_id = daemon.start(str(open_place / "setpriv"), "", *AS_ROOT)
    pid = daemon.query(job_id).job.pid
    wait_until(lambda: b"Uid:\t0\t0" in Path(f"/proc/{pid}/status").read_bytes())
    daemon.stub.StopJob(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
    text = f"process {pid} still runs as user root: this worker (user nobody) may not signal it"
    answer = wait_until(lambda: (now := daemon.query(job_id)).errorText and now)
    assert (answer.done, answer.error, answer.errorText) == (False, False, text)
    assert (answer.job.state, answer.job.errorText) == (pb.JOB_STATE_STOPPING, text)
    assert daemon.stop() == 0
    assert f"Job {job_id} does not end: {text}." in daemon.log()
    again = Daemon(daemon.place, daemon.settings, twistd=daemon.twistd)
    try:
        answer = again.query(job_id)
        assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPING, text)
        os.kill(pid, signal.SIGTERM)
        answer = again.end(job_id)
        assert (answer.job.state, answer.errorText) == (pb.JOB_STATE_STOPPED, "signal: terminated")
    finally:
        again.close()


@ROOT
@pytest.mark.slow  # it is given up after ten seconds
def test_what_is_left_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """What a job left and the worker cannot end is in the job's record: it is not counted as ended."""
    daemon = unprivileged
    job_id = daemon.bash(f"setsid {open_place}/setpriv {' '.join(AS_ROOT)} >/dev/null 2>&1 & sleep 0.2; exit 3")
    text = wait_until(lambda: daemon.query(job_id).errorText)
    assert "still runs as user root: this worker (user nobody) may not signal it" in text
    answer = daemon.end(job_id)
    assert answer.errorText.startswith("exit status 3; process ")
    assert (answer.job.state, answer.job.leftoversEnded) == (pb.JOB_STATE_FAILED, 0)


@ROOT
@pytest.mark.slow
def test_lost_and_may_not_be_signalled(unprivileged: Daemon, open_place: Path) -> None:
    """A job is lost with its shim; that its process runs on is in its record."""
    daemon = unprivileged
    job_id = daemon.start(str(open_place / "setpriv"), "", *AS_ROOT)
    pid = daemon.query(job_id).job.pid
    wait_until(lambda: b"Uid:\t0\t0" in Path(f"/proc/{pid}/status").read_bytes())
    parent = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
    daemon.stop()
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: int(Path(f"/proc/{pid}/stat").read_text().split()[3]) != parent)
    again = Daemon(daemon.place, daemon.settings, twistd=daemon.twistd)
    try:
        answer = again.query(job_id)
        assert answer.job.state == pb.JOB_STATE_LOST
        assert answer.errorText.startswith(f"lost: the worker (pid {daemon.process.pid}) was stopped at ")
        assert answer.errorText.endswith(
            f"; process {pid} still runs as user root: this worker (user nobody) may not signal it"
        )
    finally:
        again.close()
