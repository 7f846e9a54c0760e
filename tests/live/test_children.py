"""
What every way of making jobs' processes promises, through a real shim and by Twisted's reactor alone: one set of tests.

What differs between the two is said in the test, and in docs/architecture.md.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass, verifyObject

from tests.support.daemon import Daemon, wait_until
from tests.support.hanging import exec_that_waits
from tests.support.providers import (
    DESCRIPTOR_LIMIT,
    ENVIRONMENT,
    LIMIT,
    UMASK,
    Provider,
    by_reactor,
    through_shim,
)
from txworker.jobs import EndReason, Exit, JobSpec, Limits, Usage
from txworker.jobs.errors import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    NotSupported,
    OutOfResources,
    TxWorkerError,
    WorkerStopping,
)
from txworker.linux.procfs import ProcessTable
from txworker.process.job_process import JobProcess
from txworker.process.reactor_spawner import ReactorTransport
from txworker.process.shim_connection import RECALL_SECONDS
from txworker.process.spawn_options import SpawnOptions
from txworker.process.transport import ChildTransport

End = tuple[int | None, int | None, Usage]
real: Any = reactor


@dataclass
class Heard:
    """What became of one child."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    pourings: int = 0
    exit: Exit = field(default_factory=Exit)
    overdue_for: list[EndReason] = field(default_factory=list)
    end: Deferred[End] = field(default_factory=Deferred)
    running: JobProcess | None = None

    @property
    def printed(self) -> bytes:
        """To its stdout, or to both where they are one."""
        return bytes(self.stdout)

    @property
    def errors(self) -> bytes:
        """To its separate stderr."""
        return bytes(self.stderr)

    def ready(self, child_fd: int) -> bool:
        return True

    def write(self, child_fd: int, data: bytes) -> None:
        if child_fd == 2:
            self.stderr += data
        else:
            self.stdout += data

    def copy_pipe(self, child_fd: int, pipe: int, max_bytes: int) -> int:
        data = os.read(pipe, max_bytes)
        self.write(child_fd, data)
        return len(data)

    def pipe_copied(self, child_fd: int) -> None:
        self.pourings += 1

    def end_blocked(self, problem: str) -> None:
        raise AssertionError(problem)

    def overdue(self, reason: EndReason) -> None:
        self.overdue_for.append(reason)

    def ended(self, exit: Exit) -> None:
        self.exit = exit
        self.end.callback((exit.exit_code, exit.signal, exit.usage))

    async def over(self) -> End:
        """Its end, which is then written down as far as its process knows."""
        end = await self.end.addTimeout(LIMIT, real)
        assert self.running is not None
        self.running.release()
        return end


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test gives back the descriptors and children it had; of those there are none before."""
    if Daemon.spares is not None:
        Daemon.spares.close()
    pytest_twisted.blockon(deferLater(real, 0))  # the reactor has its own descriptors by now
    before = held()
    yield
    assert held() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture(params=["shim", "reactor"])
def provider(request: pytest.FixtureRequest, nothing_left: None, tmp_path: Path) -> Iterator[Provider]:
    """Both of them, one after the other."""
    with through_shim(tmp_path) if request.param == "shim" else by_reactor() as one:
        yield one


@pytest.fixture
def shim(nothing_left: None, tmp_path: Path) -> Iterator[Provider]:
    """That one alone."""
    with through_shim(tmp_path) as one:
        yield one


@pytest.fixture
def odd_signals() -> Iterator[None]:
    """Where the worker was started these were ignored, or blocked."""
    ignored = (signal.SIGUSR2, signal.SIGALRM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGXCPU, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH, signal.SIGQUIT})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def held(pid: int | str = "self") -> list[str]:
    """The pipes, pidfds and memory files of a process; sockets are gRPC's, which comes and goes as it likes."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return sorted(link for link in links if link.startswith(("pipe:", "anon_inode:[pidfd]", "/memfd:")))


async def held_by_shim(provider: Provider) -> list[str]:
    """The same of the shim, if there is one, when it has done all that it was asked before."""
    with pytest.raises(NoSuchExecutable):
        await provider.launcher(Path("/")).launch("last", JobSpec("no-such-program"), Heard(), Heard())
    return [] if provider.shim is None else held(provider.shim.pid)


def alive_in_session(session: int) -> list[int]:
    """Zombies are not: who was not ours is waited for by init, when it likes."""
    everybody = [ProcessTable().read(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return [one.pid for one in everybody if one is not None and one.session == session and not one.zombie]


async def launch(
    provider: Provider, directory: Path, spec: JobSpec, heard: Heard, job_id: str = "id", **more: Any
) -> JobProcess:
    """Start it there."""
    heard.running = await provider.launcher(directory).launch(job_id, spec, heard, heard, **more)
    return heard.running


async def run(provider: Provider, directory: Path, spec: JobSpec) -> Heard:
    """Start it there; what it was, when it is over."""
    heard = Heard()
    await launch(provider, directory, spec, heard)
    await heard.over()
    return heard


def test_interfaces(provider: Provider) -> None:
    """A provider is an IReactorProcess and what it makes is an IProcessTransport."""
    assert verifyObject(IReactorProcess, provider.spawner)
    for transport in (ChildTransport, ReactorTransport):
        assert verifyClass(IProcessTransport, transport)


@pytest_twisted.ensureDeferred
async def test_session_and_usage(tmp_path: Path, provider: Provider) -> None:
    """
    A child leads its own session and group in its directory. The shim tells what it used; Twisted's wait does not.
    """
    heard = Heard()
    code = "import os; print(os.getsid(0) == os.getpgrp() == os.getpid(), os.getpid(), os.getcwd())"
    running = await launch(provider, tmp_path, JobSpec(sys.executable, "-c", (code,)), heard)
    exit_code, number, usage = await heard.over()
    assert (exit_code, number, heard.printed.decode()) == (0, None, f"True {running.pid} {tmp_path}\n")
    assert running.exited_at is not None
    assert not heard.exit.core_dumped
    if provider.shim is None:
        assert usage == Usage()
    else:
        assert usage.max_rss_bytes > 1_000_000
        assert usage.user_cpu_seconds + usage.system_cpu_seconds > 0


@pytest_twisted.ensureDeferred
async def test_how_it_ended(tmp_path: Path, provider: Provider) -> None:
    """Its exit code, or the signal that ended it."""
    for script, expected in [("exit 0", (0, None)), ("exit 7", (7, None)), ("kill -USR1 $$", (None, signal.SIGUSR1))]:
        heard = Heard()
        await launch(provider, tmp_path, JobSpec("sh", "-c", (script,)), heard)
        assert (await heard.over())[:2] == expected


@pytest_twisted.ensureDeferred
async def test_descriptors_of_a_child(tmp_path: Path, provider: Provider) -> None:
    """A child has 0, 1 and 2 and nothing of ours, with an input and with a separate stderr, too."""
    inheritable = os.dup(0)
    os.set_inheritable(inheritable, True)
    for spec in [
        JobSpec("ls", "/proc/self/fd"),
        JobSpec("ls", "/proc/self/fd", stdin=b"x", separate_stderr=True),
    ]:
        heard = await run(provider, tmp_path, spec)
        assert heard.printed.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls reading the directory
    os.close(inheritable)


@pytest_twisted.ensureDeferred
async def test_state_of_a_child(odd_signals: None, tmp_path: Path, provider: Provider) -> None:
    """
    A child is an ordinary process: every signal means what it means by default, and none is blocked, whatever was
    ignored where the worker was started; umask and limits are those that the worker was started with.
    """
    script = "cat /proc/self/status; umask; ulimit -n; ulimit -Hn; nice"
    lines = (await run(provider, tmp_path, JobSpec("sh", "-c", (script,)))).printed.decode().splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    assert [int(found[name], 16) & 2**31 - 1 for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]  # beyond: libc's
    umask, soft, hard, nice = lines[-4:]
    assert int(umask, 8) == UMASK
    assert int(soft) == DESCRIPTOR_LIMIT[0]
    assert int(hard) >= DESCRIPTOR_LIMIT[1]
    assert nice == str(os.nice(0))


@pytest_twisted.ensureDeferred
async def test_stdin(tmp_path: Path, provider: Provider) -> None:
    """Stdin is what was given, to the last byte, then ends; nothing given is an empty one."""
    for data in (b"", b"x", os.urandom(3_000_000)):
        assert (await run(provider, tmp_path, JobSpec("cat", stdin=data))).printed == data


@pytest_twisted.ensureDeferred
async def test_stderr(tmp_path: Path, provider: Provider) -> None:
    """With separate stderr the two do not mix; else they share a pipe, in the order of the writes."""
    script = "for n in 1 2 3; do echo out; echo err >&2; done"
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,), separate_stderr=True))
    assert (heard.printed, heard.errors) == (3 * b"out\n", 3 * b"err\n")
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,)))
    assert (heard.printed, heard.errors) == (3 * b"out\nerr\n", b"")


@pytest_twisted.ensureDeferred
async def test_environment(tmp_path: Path, provider: Provider) -> None:
    """What the order adds stands beside what the worker has, and the tag is set; there is nothing else, to the byte."""
    odd = os.fsdecode(b"\xff\xfe=")
    spec = JobSpec("env", args=("-0",), env={"ADDED": "a\nb", "HOME": "/changed", "ODD": odd})
    expected = {**ENVIRONMENT, "ADDED": "a\nb", "HOME": "/changed", "ODD": odd, "TXWORKER_JOB_ID": "id"}
    entries = (await run(provider, tmp_path, spec)).printed.split(b"\0")
    assert sorted(entries) == sorted([b"", *(os.fsencode(f"{name}={value}") for name, value in expected.items())])


@pytest_twisted.ensureDeferred
async def test_large_order(tmp_path: Path, provider: Provider) -> None:
    """Arguments and environment of more than a message holds arrive whole."""
    words = tuple(f"{number:04}" + "x" * 996 for number in range(500))
    script = 'printf %s "$@" "$BIG" | sha256sum'
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script, "name", *words), env={"BIG": "y" * 100_000}))
    expected = hashlib.sha256(("".join(words) + "y" * 100_000).encode()).hexdigest()
    assert heard.printed.split()[0].decode() == expected


@pytest_twisted.ensureDeferred
async def test_path_of_the_job(tmp_path: Path, provider: Provider) -> None:
    """A word without a slash is looked for in the job's own PATH, seen from its directory, and may be executed."""
    for place, mode in [("first", 0o644), ("second", 0o755)]:
        (tmp_path / place).mkdir()
        (tmp_path / place / "program").write_text(f"#!/bin/sh\necho {place}\n")
        (tmp_path / place / "program").chmod(mode)
    heard = await run(provider, tmp_path, JobSpec("program", env={"PATH": f"first:second:{os.environ['PATH']}"}))
    assert heard.printed == b"second\n"


@pytest_twisted.ensureDeferred
async def test_pouring(tmp_path: Path, provider: Provider) -> None:
    """What a job prints at full speed arrives to the byte."""
    script = "yes $(seq 1 2000) | head -c 20000000 | tee sums | sha256sum > sum; exec cat sums"
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,)))
    assert len(heard.printed) == 20_000_000
    assert hashlib.sha256(heard.printed).hexdigest() == (tmp_path / "sum").read_text().split()[0]


@pytest_twisted.ensureDeferred
async def test_short_jobs(tmp_path: Path, provider: Provider) -> None:
    """Many at once, which are over before anybody looks: each is told whole, once."""
    jobs = {f"job-{number}": Heard() for number in range(20)}
    launches = [
        ensureDeferred(launch(provider, tmp_path, JobSpec("echo", job_id), heard, job_id))
        for job_id, heard in jobs.items()
    ]
    for launched in launches:
        await launched
    for job_id, heard in jobs.items():
        assert (await heard.over())[:2] == (0, None)
        assert heard.printed.decode() == f"{job_id}\n"


@pytest_twisted.ensureDeferred
async def test_stop_reaches_the_group(tmp_path: Path, provider: Provider) -> None:
    """A stop ends the job's children, too, also one that ignores TERM."""
    heard = Heard()
    script = "trap '' TERM; sleep 100 & echo ready; wait; wait"
    running = await launch(provider, tmp_path, JobSpec("bash", "-c", (script,)), heard)
    running.stop(0.3)
    assert (await heard.over())[1] in (9, 15)
    wait_until(lambda: not alive_in_session(running.pid))  # whoever closed the pipe last may still be on its way out


@pytest_twisted.ensureDeferred
async def test_stop_of_a_job_that_is_over(tmp_path: Path, provider: Provider) -> None:
    """It signals nothing, and changes nothing."""
    heard = Heard()
    running = await launch(provider, tmp_path, JobSpec("true"), heard)
    assert (await heard.over())[:2] == (0, None)
    running.stop(0.0)


@pytest_twisted.ensureDeferred
async def test_leftovers(tmp_path: Path, provider: Provider) -> None:
    """
    What left the session, or shed its environment, is found and ended when the job is over. What shed its rlimit tag,
    too, is found by descent, which needs the shim.
    """
    leave = "setsid sleep 100 & env -i /usr/bin/setsid sleep 101 & (setsid -f sleep 102) & wait %3; sleep 0.1; echo out"
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (leave,)))
    assert (heard.printed, heard.exit.leftovers_ended) == (b"out\n", 3)
    if provider.shim is not None:
        shed = "ulimit -S -x unlimited; env -i /usr/bin/setsid sleep 100 & sleep 0.1; echo out"
        heard = await run(provider, tmp_path, JobSpec("bash", "-c", (shed,)))
        assert (heard.printed, heard.exit.leftovers_ended) == (b"out\n", 1)


@pytest_twisted.ensureDeferred
async def test_timeouts(tmp_path: Path, provider: Provider) -> None:
    """Too long, or too quiet, ends a job, and it is told which."""
    for spec, reason in [
        (JobSpec("sleep", "100", timeout_seconds=0.1), EndReason.TIMEOUT),
        (JobSpec("sleep", "100", quiet_timeout_seconds=0.1), EndReason.QUIET),
    ]:
        heard = Heard()
        await launch(provider, tmp_path, spec, heard)
        assert (await heard.over())[1] == 15
        assert heard.overdue_for == [reason]


@pytest_twisted.ensureDeferred
async def test_exact_errors(tmp_path: Path, provider: Provider) -> None:
    """What cannot be started says why, by the field's name, and leaves no child and no descriptor."""
    for name, mode, text in [
        ("plain", 0o644, "x"),
        ("garbage", 0o755, "\x01\x02garbage"),
        ("orphan", 0o755, "#!/no/such/interpreter\n"),
        ("windows", 0o755, "#!/bin/sh\r\ntrue\r\n"),
    ]:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode | stat.S_IRUSR)
    table: list[tuple[JobSpec, type[TxWorkerError], str]] = [
        (JobSpec("no-such-program"), NoSuchExecutable, "command: 'no-such-program'"),
        (JobSpec("", "./no-such-script"), NoSuchExecutable, "command: './no-such-script'"),
        (JobSpec("", "./orphan"), NoSuchExecutable, "interpreter"),
        (JobSpec("", "./windows"), NoSuchExecutable, "CR LF"),
        (JobSpec("", "./plain/below"), NoSuchExecutable, "command: './plain/below'"),
        (JobSpec("", "./plain"), NotPermitted, "command: './plain': is not executable"),
        (JobSpec("plain", env={"PATH": str(tmp_path)}), NotPermitted, "command: 'plain'"),
        (JobSpec("", str(tmp_path)), NotPermitted, f"command: {str(tmp_path)!r}: is a directory"),
        (JobSpec("", "./garbage"), InvalidRequest, "#! line"),
        (JobSpec("ls", directory="/no/such/dir"), NoSuchDirectory, "directory: '/no/such/dir'"),
        (JobSpec("ls", directory="plain"), NoSuchDirectory, "plain': is not a directory"),
        (JobSpec("/" + "x" * 5000), InvalidRequest, "too long"),
        (JobSpec("ls", args=("x" * 100_000,) * 40), InvalidRequest, "too long"),
    ]
    before = await held_by_shim(provider)
    for spec, error_class, words in table:
        with pytest.raises(error_class) as caught:
            await launch(provider, tmp_path, spec, Heard())
        assert words in str(caught.value)
    assert await held_by_shim(provider) == before


@pytest_twisted.ensureDeferred
async def test_no_descriptors_left(tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever on the way the descriptors or processes run out, the order is refused whole, and the next one is not."""

    def refuse(number: int) -> Callable[..., Any]:
        def refused(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        return refused

    table: list[tuple[Any, str, int]] = [(os, "memfd_create", 24)]
    if provider.shim is None:
        table += [(os, "pipe", 24), (os, "posix_spawnp", 11)]
    else:
        table += [(provider.epoll_set, "addReader", 28)]
    for place, name, number in table:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, refuse(number))
            with pytest.raises(OutOfResources):
                await launch(provider, tmp_path, JobSpec("sleep", "100", stdin=b"x"), Heard())
    assert (await run(provider, tmp_path, JobSpec("cat", stdin=b"x"))).printed == b"x"


@pytest_twisted.ensureDeferred
async def test_check(tmp_path: Path, provider: Provider) -> None:
    """What is no longer wanted when its turn comes is not started, and nothing is left of it."""

    def check() -> None:
        raise WorkerStopping

    with pytest.raises(WorkerStopping):
        await launch(provider, tmp_path, JobSpec("touch", "made"), Heard(), check=check)
    assert not (tmp_path / "made").exists()


@pytest_twisted.ensureDeferred
async def test_limits(tmp_path: Path, provider: Provider) -> None:
    """Limits that the kernel holds need the shim; without it they are refused by name."""
    spec = JobSpec("sh", "-c", ("ulimit -n",), limits=Limits(max_open_files=50))
    if provider.shim is None:
        with pytest.raises(NotSupported, match=r"limits\.maxOpenFiles: 50 needs the shim"):
            await run(provider, tmp_path, spec)
    else:
        assert (await run(provider, tmp_path, spec)).printed == b"50\n"


@pytest_twisted.ensureDeferred
async def test_exec_that_hangs(tmp_path: Path, provider: Provider) -> None:
    """An exec that waits for a disk holds up no end, no output and no stop; and when it is through the job runs."""
    talking = Heard()
    await launch(provider, tmp_path, JobSpec("cat", stdin=b"x" * 100_000), talking, "talking")
    sleeping = Heard()
    stopped = await launch(provider, tmp_path, JobSpec("sleep", "100"), sleeping, "sleeping")
    late = Heard()
    with exec_that_waits(tmp_path, "echo through") as (program, tried):
        launched = ensureDeferred(launch(provider, tmp_path, JobSpec(str(program)), late, "late"))
        await until(tried.is_set)
        stopped.stop(5.0)
        assert (await sleeping.over())[1] == signal.SIGTERM
        assert (await talking.over())[:2] == (0, None)
        assert talking.printed == b"x" * 100_000
        assert not launched.called
    await launched
    assert (await late.over())[:2] == (0, None)
    assert late.printed == b"through\n"


@pytest_twisted.ensureDeferred
async def test_recalled(tmp_path: Path, shim: Provider) -> None:
    """
    Launches behind one that hangs come back from the shim, and whether they are still wanted is asked again.
    """
    asked: list[str] = []
    first = Heard()
    others = {name: Heard() for name in ("second", "third", "fourth")}

    def wanted(name: str) -> Callable[[], None]:
        def check() -> None:
            asked.append(name)
            if name == "third" and asked.count(name) > 1:
                raise WorkerStopping

        return check

    with exec_that_waits(tmp_path, "true") as (program, tried):
        launched = ensureDeferred(launch(shim, tmp_path, JobSpec(str(program)), first, "first"))
        behind = {
            name: ensureDeferred(launch(shim, tmp_path, JobSpec("true"), heard, name, check=wanted(name)))
            for name, heard in others.items()
        }
        assert asked == list(others)
        await until(tried.is_set)
        await deferLater(real, 2 * RECALL_SECONDS)  # a start that takes so long hangs: the recall is under way
    await launched
    await first.over()
    with pytest.raises(WorkerStopping):
        await behind.pop("third")
    for name, launching in behind.items():
        await launching
        assert (await others[name].over())[:2] == (0, None)
    assert asked == [*others, *others]


@pytest_twisted.ensureDeferred
async def test_steps_that_fail(tmp_path: Path, shim: Provider) -> None:
    """Whatever step of a prepared start fails is told by its name, and neither child nor descriptor is left."""
    too_many = SpawnOptions("id", (("limits.maxOpenFiles", resource.RLIMIT_NOFILE, 2**40, 2**40),))
    table: list[tuple[SpawnOptions, str, str, int, str]] = [
        (too_many, "true", "/", errno.EINVAL, "limits.maxOpenFiles"),
        (SpawnOptions("id", nice=1), "no-such-program", "/", errno.ENOENT, "no-such-program"),
        (SpawnOptions("id", nice=1), "true", "/no/such/dir", errno.ENOENT, "/no/such/dir"),
        (SpawnOptions("id", nice=1), str(tmp_path), "/", errno.EACCES, str(tmp_path)),
        (SpawnOptions("id", cgroup="/no/such/cgroup"), "true", "/", errno.ENOENT, "/no/such/cgroup"),
    ]
    before = await held_by_shim(shim)
    for options, program, directory, number, name in table:
        transport = shim.spawner.spawnProcess(
            ProcessProtocol(), program, [program], ENVIRONMENT, directory, options=options
        )
        with pytest.raises(OSError) as caught:  # noqa: PT011 the errno is looked at
            await transport.started
        assert (caught.value.errno, caught.value.filename) == (number, name)
    assert await held_by_shim(shim) == before


@pytest_twisted.ensureDeferred
async def test_cgroup_that_takes_nothing(tmp_path: Path, shim: Provider) -> None:
    """Where a child cannot be made inside its cgroup (no clone3, no such cgroup) it is started all the same."""
    ended: Deferred[object] = Deferred()

    class Ending(ProcessProtocol):
        output = Heard()

        def processEnded(self, reason: Failure) -> None:
            ended.callback(reason.value)

    options = SpawnOptions("id", cgroup=f"{tmp_path}/job")
    transport = shim.spawner.spawnProcess(Ending(), "true", ["true"], ENVIRONMENT, "/", options=options)
    await transport.started
    assert isinstance(await ended.addTimeout(LIMIT, real), ProcessDone)
    transport.release(False)
    assert (tmp_path / "job").is_dir()


@pytest_twisted.ensureDeferred
async def test_close_with_a_launch_that_hangs(tmp_path: Path, nothing_left: None) -> None:
    """By the reactor: what has not come to its exec when the worker ends never does."""
    with exec_that_waits(tmp_path, f"touch {tmp_path}/ran") as (program, tried):
        with by_reactor() as provider:
            launched = ensureDeferred(launch(provider, tmp_path, JobSpec(str(program)), Heard()))
            await until(tried.is_set)
        with pytest.raises(TxWorkerError):
            await launched.addTimeout(LIMIT, real)
    assert not (tmp_path / "ran").exists()


async def until(true: Callable[[], Any]) -> None:
    """The reactor goes on meanwhile."""
    end = real.seconds() + LIMIT
    while not true():
        assert real.seconds() < end
        await deferLater(real, 0.005)


@pytest_twisted.ensureDeferred
async def test_recording_that_fails(tmp_path: Path, shim: Provider) -> None:
    """A mistake of ours in what records output costs output, and neither the job's end nor anybody's time."""
    heard = Heard()
    tries: list[int] = []

    def fail(child_fd: int, pipe: int, max_bytes: int) -> int:
        tries.append(max_bytes)
        raise RuntimeError("a mistake")

    heard.copy_pipe = fail  # type: ignore[method-assign]
    with capturedLogs() as events:
        await launch(shim, tmp_path, JobSpec("head", args=("-c", "300000", "/dev/zero")), heard)
        assert (await heard.over())[:2] == (0, None)
    assert len(events) >= len(tries) > 0
    assert len(tries) < 100
