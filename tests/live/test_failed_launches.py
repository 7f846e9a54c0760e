"""
Launches that fail, hang or are not wanted any more, through a real shim and by Twisted's reactor alone.

What differs between the two is said in the test, and in docs/architecture.md.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.support.children import Heard, held_by_shim, launch, run, until
from tests.support.hanging import exec_that_waits
from tests.support.providers import (
    ENVIRONMENT,
    LIMIT,
    Provider,
    by_reactor,
)
from txworker.jobs import JobSpec
from txworker.jobs.errors import (
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotPermitted,
    OutOfResources,
    TxWorkerError,
    WorkerStopping,
)
from txworker.process.spawn_options import SpawnOptions
from txworker.shim.fork_exec import fork_exec

real: Any = reactor


@pytest_twisted.ensureDeferred
async def test_exact_errors(tmp_path: Path, provider: Provider) -> None:
    """A failed launch names the field and the reason, and leaves no process and no descriptor."""
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
    """Wherever descriptors or processes run out, the launch fails cleanly, and the next one succeeds."""

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
    """When check() raises, nothing is started, and nothing is left."""

    def check() -> None:
        raise WorkerStopping

    with pytest.raises(WorkerStopping):
        await launch(provider, tmp_path, JobSpec("touch", "made"), Heard(), check=check)
    assert not (tmp_path / "made").exists()


@pytest_twisted.ensureDeferred
async def test_exec_that_hangs(tmp_path: Path, provider: Provider) -> None:
    """An exec that hangs delays no exit, no output and no stop; when it succeeds the job runs."""
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
        await until(lambda: asked.count("third") > 1)
    await launched
    await first.over()
    with pytest.raises(WorkerStopping):
        await behind.pop("third")
    for name, launching in behind.items():
        await launching
        assert (await others[name].over())[:2] == (0, None)
    assert asked[: len(others)] == list(others)
    assert min(map(asked.count, others)) > 1


@pytest_twisted.ensureDeferred
async def test_steps_that_fail(tmp_path: Path, shim: Provider) -> None:
    """A failed step is reported by its name, and no process and no descriptor is left."""
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
@pytest.mark.parametrize("more", [{}, {"nice": 1}], ids=["spawned", "forked"])
async def test_cgroup_that_takes_nothing(tmp_path: Path, shim: Provider, more: dict[str, Any]) -> None:
    """A process that cannot be cloned into its cgroup (no clone3, no such cgroup) is started all the same."""
    ended: Deferred[object] = Deferred()

    class Ending(ProcessProtocol):
        output = Heard()

        def processEnded(self, reason: Failure) -> None:
            ended.callback(reason.value)

    options = SpawnOptions("id", cgroup=f"{tmp_path}/job", **more)
    transport = shim.spawner.spawnProcess(Ending(), "true", ["true"], ENVIRONMENT, "/", options=options)
    await transport.started
    assert isinstance(await ended.addTimeout(LIMIT, real), ProcessDone)
    transport.release(False)
    assert transport.cgroup_removed  # the directory was made, and nothing was in it at the exit


def test_no_clone_into_cgroup(tmp_path: Path) -> None:
    """A process that is not cloned into its cgroup moves itself there before its exec. A file is the cgroup's."""
    (tmp_path / "cgroup.procs").touch()
    request: dict[str, Any] = {"cgroup": str(tmp_path), "argv": ["true"], "limits": [], "tag": 0, "terminal": None}
    request.update(oom_score_adj=0, nice=1, user=None, directory=None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    pid = fork_exec(request, ENVIRONMENT, {0: 0, 1: 1, 2: 2}, limits, clone=False)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "cgroup.procs").read_bytes() == b"0"


@pytest_twisted.ensureDeferred
async def test_close_with_a_launch_that_hangs(tmp_path: Path, nothing_left: None) -> None:
    """By the reactor: a process that has not executed its job when the worker ends never does."""
    with exec_that_waits(tmp_path, f"touch {tmp_path}/ran") as (program, tried):
        with by_reactor() as provider:
            launched = ensureDeferred(launch(provider, tmp_path, JobSpec(str(program)), Heard()))
            await until(tried.is_set)
        with pytest.raises(TxWorkerError):
            await launched.addTimeout(LIMIT, real)
    assert not (tmp_path / "ran").exists()
