"""Real children through the real spawner: own session, exact errors, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
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
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.task import deferLater
from zope.interface.verify import verifyClass, verifyObject

from tests.support.apart import thread_apart
from tests.support.daemon import wait_until
from txworker.jobs import EndReason, JobSpec, Limits, Usage
from txworker.jobs.errors import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    OutOfResources,
    TxWorkerError,
)
from txworker.process import child, native, transport
from txworker.process.census import Census
from txworker.process.child import Starts, quickest_start
from txworker.process.descriptors import DescriptorLimit
from txworker.process.launcher import Launcher, Places
from txworker.process.place import Here, Place
from txworker.process.prepared import Preparation, PreparedStart
from txworker.process.procfs import read_process
from txworker.process.spawner import Spawner
from txworker.process.transport import ChildTransport

LIMIT = 20
NO_INPUT = os.open(os.devnull, os.O_RDONLY)


@dataclass
class Heard:
    """What became of one child."""

    printed: bytes = b""
    errors: bytes = b""
    pourings: int = 0
    leftovers_ended: int = 0
    overdue_for: list[EndReason] = field(default_factory=list)
    end: Deferred[tuple[int | None, int | None, Usage]] = field(default_factory=Deferred)

    def ready(self, child_fd: int) -> bool:
        return True

    def wrote(self, child_fd: int, data: bytes) -> None:
        if child_fd == 2:
            self.errors += data
        else:
            self.printed += data

    def pour(self, child_fd: int, fd: int, most: int) -> int:
        data = os.read(fd, most)
        self.wrote(child_fd, data)
        return len(data)

    def poured(self, child_fd: int) -> None:
        self.pourings += 1

    def overdue(self, reason: EndReason) -> None:
        self.overdue_for.append(reason)

    def ended(self, exit_code: int | None, signal: int | None, usage: Usage, leftovers_ended: int) -> None:
        self.leftovers_ended = leftovers_ended
        self.end.callback((exit_code, signal, usage))

    async def over(self) -> tuple[int | None, int | None, Usage]:
        return await self.end.addTimeout(LIMIT, reactor)


@pytest.fixture(params=["here", "apart"])
def place(request: pytest.FixtureRequest, nothing_left: None) -> Iterator[Place]:
    """Both of them, one after the other."""
    if request.param == "here":
        yield Here(0o022)
    else:
        with thread_apart() as apart:
            yield apart


def a_launcher(directory: Path, place: Place, prepared: PreparedStart | None = None) -> Launcher:
    real: Any = reactor
    places = Places(dict(os.environ), str(directory), NO_INPUT)
    spawner = a_spawner(place, prepared)
    return Launcher(spawner, real, Census(real), None, places, grace_seconds=5, drain_seconds=0.2)


def a_spawner(place: Place, prepared: PreparedStart | None = None) -> Spawner:
    real: Any = reactor
    limit = DescriptorLimit()
    prepared = prepared or PreparedStart(lambda pid: None, descriptors=limit.original)
    return Spawner(real, Starts(quickest_start(), prepared, limit), limit, place)


def held() -> list[str]:
    """The pipes, pidfds and memory files of this process; sockets are gRPC's, which comes and goes as it likes."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(link for link in links if link.startswith(("pipe:", "anon_inode:[pidfd]", "/memfd:")))


def alive_in_session(session: int) -> list[int]:
    """Zombies are not: who was not ours is waited for by init, when it likes."""
    everybody = [read_process(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return [one.pid for one in everybody if one is not None and one.session == session and not one.zombie]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test gives back the descriptors and children it had."""
    real: Any = reactor
    pytest_twisted.blockon(deferLater(real, 0))  # the reactor has its own descriptors by now
    before = held()
    yield
    assert held() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_interfaces() -> None:
    """The spawner is an IReactorProcess and what it makes is an IProcessTransport."""
    assert verifyObject(IReactorProcess, a_spawner(Here(0o022)))
    assert verifyClass(IProcessTransport, ChildTransport)


@pytest_twisted.ensureDeferred
async def test_session_and_usage(tmp_path: Path, place: Place) -> None:
    """A child leads its own session and group, and the kernel's account of it arrives."""
    heard = Heard()
    code = "import os; print(os.getsid(0) == os.getpgrp() == os.getpid(), os.getcwd())"
    await a_launcher(tmp_path, place).launch("id", JobSpec(sys.executable, "-c", (code,)), heard)
    exit_code, signal, usage = await heard.over()
    assert (exit_code, signal, heard.printed.decode()) == (0, None, f"True {tmp_path}\n")
    assert usage.max_rss_bytes > 1_000_000
    assert usage.user_cpu_seconds + usage.system_cpu_seconds > 0


@pytest_twisted.ensureDeferred
async def test_descriptors_of_a_child(tmp_path: Path, place: Place) -> None:
    """A child has 0, 1 and 2 and nothing of ours, the preparer's socket least of all."""
    prepared = PreparedStart(lambda pid: None)
    launcher = a_launcher(tmp_path, place, prepared)
    for limits in (Limits(), Limits(max_open_files=50)):
        heard = Heard()
        await launcher.launch("id", JobSpec("ls", "/proc/self/fd", limits=limits), heard)
        await heard.over()
        assert heard.printed.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls reading the directory
    place.close(prepared.close)


@pytest_twisted.ensureDeferred
async def test_state_of_a_child(tmp_path: Path, place: Place) -> None:
    """A child is an ordinary process, to which every signal means what it means by default."""
    heard = Heard()
    script = "cat /proc/self/status; chrt -p $$; nice"
    await a_launcher(tmp_path, place).launch("id", JobSpec("sh", "-c", (script,)), heard)
    await heard.over()
    lines = heard.printed.decode().splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    assert [int(found[name], 16) & 2**31 - 1 for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]  # beyond: libc's
    assert any(line.endswith("scheduling policy: SCHED_OTHER") for line in lines)
    assert lines[-1] == "0"


@pytest_twisted.ensureDeferred
async def test_stdin(tmp_path: Path, place: Place) -> None:
    """Stdin is what was given, to the last byte, then ends; nothing given is an empty one."""
    for data in (b"", b"x", os.urandom(3_000_000)):
        heard = Heard()
        await a_launcher(tmp_path, place).launch("id", JobSpec("cat", stdin=data), heard)
        await heard.over()
        assert heard.printed == data


@pytest_twisted.ensureDeferred
async def test_stderr_apart(tmp_path: Path, place: Place) -> None:
    """With separate stderr the two do not mix."""
    heard = Heard()
    spec = JobSpec("bash", "-c", ("echo out; echo err >&2",), separate_stderr=True)
    await a_launcher(tmp_path, place).launch("id", spec, heard)
    await heard.over()
    assert (heard.printed, heard.errors) == (b"out\n", b"err\n")


@pytest_twisted.ensureDeferred
async def test_environment(tmp_path: Path, place: Place) -> None:
    """What the order adds stands beside what the worker has, and the mark is set."""
    heard = Heard()
    await a_launcher(tmp_path, place).launch("the-id", JobSpec("env", env={"ADDED": "a b", "HOME": "/changed"}), heard)
    await heard.over()
    lines = heard.printed.decode().splitlines()
    assert {"ADDED=a b", "HOME=/changed", "TXWORKER_JOB_ID=the-id", f"PATH={os.environ['PATH']}"} <= set(lines)


@pytest_twisted.ensureDeferred
async def test_stop_reaches_the_group(tmp_path: Path, place: Place) -> None:
    """A stop ends the job's children, too, also one that ignores TERM."""
    heard = Heard()
    script = "trap '' TERM; sleep 100 & echo ready; wait; wait"
    running = await a_launcher(tmp_path, place).launch("id", JobSpec("bash", "-c", (script,)), heard)
    running.stop(0.3)
    assert (await heard.over())[1] in (9, 15)
    wait_until(lambda: not alive_in_session(running.pid))  # whoever closed the pipe last may still be on its way out


@pytest_twisted.ensureDeferred
async def test_pipe_held_by_a_daemon(tmp_path: Path, place: Place) -> None:
    """A child that left its session with our pipe in hand does not keep the job from ending."""
    heard = Heard()
    await a_launcher(tmp_path, place).launch("id", JobSpec("bash", "-c", ("setsid sleep 3 & echo out",)), heard)
    await heard.over()
    assert heard.printed == b"out\n"


@pytest_twisted.ensureDeferred
async def test_timeouts(tmp_path: Path, place: Place) -> None:
    """Too long, or too quiet, ends a job, and it is told which."""
    for spec, reason in [
        (JobSpec("sleep", "100", timeout_seconds=0.1), EndReason.TIMEOUT),
        (JobSpec("sleep", "100", quiet_timeout_seconds=0.1), EndReason.QUIET),
    ]:
        heard = Heard()
        await a_launcher(tmp_path, place).launch("id", spec, heard)
        assert (await heard.over())[1] == 15
        assert heard.overdue_for == [reason]


@pytest_twisted.ensureDeferred
async def test_without_pidfds(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the platform has no pidfds, plain Twisted's SIGCHLD tells of the end."""
    monkeypatch.delattr(os, "pidfd_open")
    heard = Heard()
    await a_launcher(tmp_path, place).launch("id", JobSpec("sh", "-c", ("echo out; exit 3",)), heard)
    assert (await heard.over())[:2] == (3, None)
    assert heard.printed == b"out\n"


@pytest_twisted.ensureDeferred
async def test_exact_errors(tmp_path: Path, place: Place) -> None:
    """What cannot be started says why, by the field's name, and leaves no child and no descriptor."""
    for name, mode, text in [
        ("plain", 0o644, "x"),
        ("garbage", 0o755, "\x01\x02garbage"),
        ("orphan", 0o755, "#!/no/such/interpreter\n"),
        ("windows", 0o755, "#!/bin/sh\r\ntrue\r\n"),
    ]:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode | stat.S_IRUSR)
    launcher = a_launcher(tmp_path, place)
    table: list[tuple[JobSpec, type[TxWorkerError], str]] = [
        (JobSpec("no-such-program"), NoSuchExecutable, "command: 'no-such-program'"),
        (JobSpec("", "./no-such-script"), NoSuchExecutable, "command: './no-such-script'"),
        (JobSpec("", "./orphan"), NoSuchExecutable, "interpreter"),
        (JobSpec("", "./windows"), NoSuchExecutable, "CR LF"),
        (JobSpec("", "./plain/below"), NoSuchExecutable, "command: './plain/below'"),
        (JobSpec("", "./plain"), NotPermitted, "command: './plain': is not executable"),
        (JobSpec("", str(tmp_path)), NotPermitted, f"command: {str(tmp_path)!r}: is a directory"),
        (JobSpec("", "./garbage"), InvalidRequest, "#! line"),
        (JobSpec("ls", directory="/no/such/dir"), NoSuchDirectory, "directory: '/no/such/dir'"),
        (JobSpec("ls", directory="plain"), NoSuchDirectory, "plain': is not a directory"),
        (JobSpec("/" + "x" * 5000), InvalidRequest, "too long"),
        (JobSpec("ls", args=("x" * 100_000,) * 40), InvalidRequest, "too long"),
    ]
    for spec, error_class, words in table:
        with pytest.raises(error_class) as caught:
            await launcher.launch("id", spec, Heard())
        assert words in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_no_descriptors_left(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever on the way the descriptors or processes run out, the order is refused whole."""

    def refuse(number: int) -> Callable[..., Any]:
        def refused(*args: object, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        return refused

    for module, name, number in [
        (os, "pipe", 24),
        (child.os, "memfd_create", 24),  # type: ignore[attr-defined]
        (native.NativeStart, "_run", 11),
        (transport.os, "pidfd_open", 24),  # type: ignore[attr-defined]
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, refuse(number))
            with pytest.raises(OutOfResources):
                await a_launcher(tmp_path, place).launch("id", JobSpec("sleep", "100", stdin=b"x"), Heard())


@pytest_twisted.ensureDeferred
async def test_preparer_dies(tmp_path: Path, place: Place) -> None:
    """A preparer that was killed is started anew for the next child; the children it made go on, and hold up nobody."""
    preparers: list[int] = []
    prepared = PreparedStart(preparers.append)
    launcher = a_launcher(tmp_path, place, prepared)
    limited = JobSpec("sleep", "1000", limits=Limits(max_open_files=50))
    first, second = Heard(), Heard()
    running = [await launcher.launch("first", limited, first)]
    os.kill(preparers[0], 9)
    os.waitid(os.P_PID, preparers[0], os.WEXITED | os.WNOWAIT)
    running.append(await launcher.launch("second", limited, second))
    for one, heard in zip(running, (first, second), strict=True):
        one.stop(0.2)
        assert (await heard.over())[:2] == (None, signal.SIGTERM)
    assert len(preparers) == 2
    place.close(prepared.close)


def test_prepared_errors(tmp_path: Path) -> None:
    """Whatever step of the preparation fails is told by its name, and neither child nor descriptor is left."""
    prepared = PreparedStart(lambda pid: None)
    too_many = Preparation((("limits.maxOpenFiles", resource.RLIMIT_NOFILE, 2**40, 2**40),))
    table: list[tuple[Preparation, str, str, int, str]] = [
        (too_many, "true", "/", errno.EINVAL, "limits.maxOpenFiles"),
        (Preparation(nice=1), "no-such-program", "/", errno.ENOENT, "no-such-program"),
        (Preparation(nice=1), "true", "/no/such/dir", errno.ENOENT, "/no/such/dir"),
        (Preparation(nice=1), str(tmp_path), "/", errno.EACCES, str(tmp_path)),
    ]
    for preparation, program, directory, number, name in table:
        with pytest.raises(OSError) as caught:  # noqa: PT011 the errno is looked at
            prepared([program], {"PATH": os.environ["PATH"]}, directory, {0: 0, 1: 1, 2: 2}, preparation)
        assert (caught.value.errno, caught.value.filename) == (number, name)
    prepared.close()


def test_cgroup_that_takes_nobody(tmp_path: Path) -> None:
    """Where a child cannot be made inside its cgroup (no clone3, no such cgroup) it is started and moved as before."""
    starts = Starts(quickest_start(), PreparedStart(lambda pid: None), DescriptorLimit())
    pid = starts.start(["true"], dict(os.environ), "/", {0: 0, 1: 1, 2: 2}, Preparation(cgroup=f"{tmp_path}/job"))
    assert os.waitpid(pid, 0) == (pid, 0)
    assert (tmp_path / "job").is_dir()
    starts.prepared.close()
