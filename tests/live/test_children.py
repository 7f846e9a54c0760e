"""
What both ways of starting jobs' processes promise, through a real shim and by Twisted's reactor alone.

What differs between the two is said in the test, and in docs/architecture.md.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.logger import capturedLogs
from zope.interface.verify import verifyClass, verifyObject

from tests.support.children import Heard, held, held_by_shim, job_id, launch, opened_since, run, until
from tests.support.daemon import wait_until
from tests.support.providers import (
    DESCRIPTOR_LIMIT,
    ENVIRONMENT,
    UMASK,
    Provider,
)
from txworker.jobs import EndReason, JobSpec, Limits, Usage
from txworker.jobs.errors import (
    NotSupported,
)
from txworker.linux.procfs import ProcessTable
from txworker.process.reactor_spawner import ReactorTransport
from txworker.process.transport import ChildTransport
from txworker.shim.spawner import children_of, move_descendants

real: Any = reactor

READ_BY_ASYNCIO = """
import asyncio, sys
async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print(len(await reader.read()))
asyncio.run(main())
"""


@pytest.fixture
def odd_signals() -> Iterator[None]:
    """Signals that are ignored or blocked where the worker is started."""
    ignored = (signal.SIGUSR2, signal.SIGALRM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGXCPU, signal.SIGPIPE)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH, signal.SIGQUIT})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def alive_in_session(session: int) -> list[int]:
    """The processes of the session, without zombies, which init may take a while to reap."""
    everybody = [ProcessTable().read(int(name)) for name in os.listdir("/proc") if name.isdecimal()]
    return [one.pid for one in everybody if one is not None and one.session == session and not one.zombie]


def test_interfaces(provider: Provider) -> None:
    """A spawner is an IReactorProcess, and a transport an IProcessTransport."""
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
    """The exit code, or the signal that ended it, is reported."""
    for script, expected in [("exit 0", (0, None)), ("exit 7", (7, None)), ("kill -USR1 $$", (None, signal.SIGUSR1))]:
        heard = Heard()
        await launch(provider, tmp_path, JobSpec("sh", "-c", (script,)), heard)
        assert (await heard.over())[:2] == expected


@pytest_twisted.ensureDeferred
async def test_descriptors_of_a_child(tmp_path: Path, provider: Provider) -> None:
    """A process has descriptors 0, 1 and 2 only, with stdin and with a separate stderr too."""
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
    assert [int(found[name], 16) for name in ("SigBlk", "SigIgn")] == [0, 0]
    assert int(found["SigCgt"], 16) & 2**31 - 1 == 0  # beyond: libc's
    umask, soft, hard, nice = lines[-4:]
    assert int(umask, 8) == UMASK
    assert int(soft) == DESCRIPTOR_LIMIT[0]
    assert int(hard) >= DESCRIPTOR_LIMIT[1]
    assert nice == str(os.nice(0))


@pytest_twisted.ensureDeferred
async def test_stdin(tmp_path: Path, provider: Provider) -> None:
    """Stdin is the given bytes and then ends; without any it is empty."""
    for data in (b"", b"x", os.urandom(3_000_000)):
        assert (await run(provider, tmp_path, JobSpec("cat", stdin=data))).printed == data


@pytest_twisted.ensureDeferred
async def test_stdin_is_a_pipe(tmp_path: Path, provider: Provider) -> None:
    """asyncio and epoll, which refuse files, take it; it can be opened by name."""
    heard = await run(provider, tmp_path, JobSpec(sys.executable, args=("-c", READ_BY_ASYNCIO), stdin=b"x" * 200_000))
    assert (heard.printed, heard.exit.exit_code) == (b"200000\n", 0)
    heard = await run(provider, tmp_path, JobSpec("cat", "/dev/stdin", stdin=b"by name"))
    assert heard.printed == b"by name"


@pytest_twisted.ensureDeferred
async def test_stdin_that_is_not_read(tmp_path: Path, provider: Provider) -> None:
    """A job that does not read its stdin, or closes it, holds up nothing, can be stopped, and leaves nothing open."""
    before, of_shim = held(), await held_by_shim(provider)
    sleeper, closer = Heard(), Heard()
    stdin = bytes(4_000_000)
    running = await launch(provider, tmp_path, JobSpec("sleep", "1000", stdin=stdin), sleeper, "sleeper")
    await launch(provider, tmp_path, JobSpec("bash", "-c", ("exec <&-; echo closed",), stdin=stdin), closer, "closer")
    assert (await run(provider, tmp_path, JobSpec("cat", stdin=b"x"))).printed == b"x"
    assert (await closer.over())[0] == 0
    assert closer.printed == b"closed\n"
    running.stop(5.0)
    assert (await sleeper.over())[1] == signal.SIGTERM
    assert (opened_since(before), await held_by_shim(provider)) == ([], of_shim)


@pytest_twisted.ensureDeferred
async def test_stdin_of_kept_leftovers(tmp_path: Path, provider: Provider) -> None:
    """What is kept of a job can read its stdin to the end after the job."""
    script = "{ until [ -e go ]; do sleep 0.05; done; sha256sum >new; mv new sum; } >log 2>&1 <&0 &"
    data = os.urandom(1_000_000)
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,), stdin=data, leftovers="keep"))
    assert heard.exit.exit_code == 0
    assert heard.running is not None
    session = heard.running.pid
    (tmp_path / "go").touch()
    await until(lambda: not alive_in_session(session))
    assert (tmp_path / "sum").read_text().split()[0] == hashlib.sha256(data).hexdigest()


@pytest_twisted.ensureDeferred
async def test_feed(tmp_path: Path, provider: Provider) -> None:
    """Bytes that are fed come after those of the request, and are counted when they are in the pipe; then the end."""
    heard = Heard()
    first, later = os.urandom(300_000), [os.urandom(200_000), b"x", os.urandom(70_000)]
    running = await launch(provider, tmp_path, JobSpec("cat", stdin=first, feed=True), heard)
    assert running.stdin is not None
    for data in later:
        assert await running.stdin.feed(data, False) == len(data)
    assert await running.stdin.feed(b"the end", True) == 7
    await running.stdin.closed()
    assert (running.stdin.taken, await running.stdin.feed(b"too late", False)) == (270_008, 0)
    assert (await heard.over())[0] == 0
    assert heard.printed == first + b"".join(later) + b"the end"


@pytest_twisted.ensureDeferred
async def test_feed_that_is_not_read(tmp_path: Path, provider: Provider) -> None:
    """
    Feeding waits for room. Who stops waiting leaves what was handed over; the next one waits behind it. When the job
    closes its stdin, or ends, it is told how much the job was given.
    """
    before, of_shim = held(), await held_by_shim(provider)
    heard = Heard()
    running = await launch(provider, tmp_path, JobSpec("sleep", "1000", feed=True), heard, "fed")
    assert running.stdin is not None
    assert await running.stdin.feed(b"x", False) == 1
    waiting = running.stdin.feed(bytes(1_000_000), False)
    behind = running.stdin.feed(b"behind", False)
    await run(provider, tmp_path, JobSpec("true"))
    assert not waiting.called
    assert not behind.called
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    assert running.stdin.taken == 1_000_001
    running.stop(5.0)
    assert await behind == 0
    assert running.stdin.taken < 100_000
    await heard.over()
    assert (opened_since(before), await held_by_shim(provider)) == ([], of_shim)


@pytest_twisted.ensureDeferred
async def test_stdin_closed_by_the_job(tmp_path: Path, provider: Provider) -> None:
    """When a job closes its stdin while nothing is fed, that is told at once."""
    heard = Heard()
    script = "read line; exec <&-; exec sleep 1000"
    running = await launch(provider, tmp_path, JobSpec("bash", "-c", (script,), feed=True), heard)
    assert running.stdin is not None
    await running.stdin.feed(b"go\n", False)
    await running.stdin.closed()
    assert running.stdin.taken == 3
    running.stop(5.0)
    await heard.over()


@pytest_twisted.ensureDeferred
async def test_stderr(tmp_path: Path, provider: Provider) -> None:
    """A separate stderr does not mix with stdout; otherwise they share a pipe, in the order of the writes."""
    script = "for n in 1 2 3; do echo out; echo err >&2; done"
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,), separate_stderr=True))
    assert (heard.printed, heard.errors) == (3 * b"out\n", 3 * b"err\n")
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,)))
    assert (heard.printed, heard.errors) == (3 * b"out\nerr\n", b"")


@pytest_twisted.ensureDeferred
async def test_environment(tmp_path: Path, provider: Provider) -> None:
    """The environment is the worker's, the spec's variables and the tag, to the byte, and nothing else."""
    odd = os.fsdecode(b"\xff\xfe=")
    spec = JobSpec("env", args=("-0",), env={"ADDED": "a\nb", "HOME": "/changed", "ODD": odd})
    expected = {**ENVIRONMENT, "ADDED": "a\nb", "HOME": "/changed", "ODD": odd, "TXWORKER_JOB_ID": job_id("env")}
    entries = (await run(provider, tmp_path, spec, "env")).printed.split(b"\0")
    assert sorted(entries) == sorted([b"", *(os.fsencode(f"{name}={value}") for name, value in expected.items())])


@pytest_twisted.ensureDeferred
async def test_large_order(tmp_path: Path, provider: Provider) -> None:
    """Arguments and environment that are longer than a datagram arrive complete."""
    words = tuple(f"{number:04}" + "x" * 996 for number in range(500))
    script = 'printf %s "$@" "$BIG" | sha256sum'
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script, "name", *words), env={"BIG": "y" * 100_000}))
    expected = hashlib.sha256(("".join(words) + "y" * 100_000).encode()).hexdigest()
    assert heard.printed.split()[0].decode() == expected


@pytest_twisted.ensureDeferred
async def test_path_of_the_job(tmp_path: Path, provider: Provider) -> None:
    """A command without a slash is found in the job's own PATH, relative to its directory, if it is executable."""
    for place, mode in [("first", 0o644), ("second", 0o755)]:
        (tmp_path / place).mkdir()
        (tmp_path / place / "program").write_text(f"#!/bin/sh\necho {place}\n")
        (tmp_path / place / "program").chmod(mode)
    heard = await run(provider, tmp_path, JobSpec("program", env={"PATH": f"first:second:{os.environ['PATH']}"}))
    assert heard.printed == b"second\n"


@pytest_twisted.ensureDeferred
async def test_pouring(tmp_path: Path, provider: Provider) -> None:
    """Large output arrives complete."""
    script = "yes $(seq 1 2000) | head -c 20000000 | tee sums | sha256sum > sum; exec cat sums"
    heard = await run(provider, tmp_path, JobSpec("bash", "-c", (script,)))
    assert len(heard.printed) == 20_000_000
    assert hashlib.sha256(heard.printed).hexdigest() == (tmp_path / "sum").read_text().split()[0]


@pytest_twisted.ensureDeferred
async def test_short_jobs(tmp_path: Path, provider: Provider) -> None:
    """Many jobs that end at once are each reported completely, once."""
    jobs = {f"job-{number}": Heard() for number in range(20)}
    launches = [
        ensureDeferred(launch(provider, tmp_path, JobSpec("echo", name), heard, name)) for name, heard in jobs.items()
    ]
    for launched in launches:
        await launched
    for name, heard in jobs.items():
        assert (await heard.over())[:2] == (0, None)
        assert heard.printed.decode() == f"{name}\n"


@pytest_twisted.ensureDeferred
async def test_stop_reaches_the_group(tmp_path: Path, provider: Provider) -> None:
    """A stop ends the job's process group, with a process that ignores TERM."""
    heard = Heard()
    script = "trap '' TERM; sleep 100 & echo ready; wait; wait"
    running = await launch(provider, tmp_path, JobSpec("bash", "-c", (script,)), heard)
    await until(lambda: b"ready" in heard.printed)
    running.stop(0.3)
    assert (await heard.over())[1] == signal.SIGKILL
    wait_until(lambda: not alive_in_session(running.pid))  # whoever closed the pipe last may still be on its way out


@pytest_twisted.ensureDeferred
async def test_stop_of_a_job_that_is_over(tmp_path: Path, provider: Provider) -> None:
    """A stop of a job that is done signals nothing and changes nothing."""
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
    """timeout, quietTimeout and a lease end a job, with the reason."""
    for spec, reason in [
        (JobSpec("sleep", "100", timeout_seconds=0.1), EndReason.TIMEOUT),
        (JobSpec("sleep", "100", quiet_timeout_seconds=0.1), EndReason.QUIET),
        (JobSpec.unchecked(command="sleep", path="100", lease_seconds=0.1), EndReason.LEASE),  # too short for a client
    ]:
        heard = Heard()
        await launch(provider, tmp_path, spec, heard)
        assert (await heard.over())[1] == 15
        assert heard.overdue_for == [reason]


@pytest_twisted.ensureDeferred
async def test_limits(tmp_path: Path, provider: Provider) -> None:
    """Limits of the kernel need the shim; without it they are refused by name."""
    spec = JobSpec("sh", "-c", ("ulimit -n",), limits=Limits(max_open_files=50))
    if provider.shim is None:
        with pytest.raises(NotSupported, match=r"limits\.maxOpenFiles: 50 needs the shim"):
            await run(provider, tmp_path, spec)
    else:
        assert (await run(provider, tmp_path, spec)).printed == b"50\n"


@pytest_twisted.ensureDeferred
async def test_recording_that_fails(tmp_path: Path, shim: Provider) -> None:
    """A bug in the output loses output, but delays neither the job's end nor other jobs."""
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


def test_moved_with_its_descendants(tmp_path: Path) -> None:
    """What a process started before it could be moved into its cgroup is moved after it, whole generations."""
    tree = ["bash", "-c", "(sleep 1000 & sleep 1000 & wait) & wait"]
    with open(tmp_path / "members", "wb", buffering=0) as members, subprocess.Popen(tree) as leader:
        try:
            wait_until(lambda: [len(children_of(child)) for child in children_of(leader.pid)] == [2])
            (child,) = children_of(leader.pid)
            move_descendants(members.fileno(), leader.pid)
            move_descendants(-1, leader.pid)  # without a cgroup
            assert (tmp_path / "members").read_text() == "".join(map(str, [child, *children_of(child)]))
        finally:
            for pid in [leader.pid, child, *children_of(child)]:  # those that wait first: they exit with their children
                os.kill(pid, signal.SIGKILL)
    assert children_of(leader.pid) == []
