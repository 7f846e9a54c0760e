"""Jobs with a pseudo-terminal, through a real shim."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.error import ProcessExitedAlready

from tests.support.children import Heard, held, held_by_shim, launch, opened_since, run, until
from tests.support.daemon import LIMIT, Daemon, wait_until
from tests.support.providers import Provider
from txworker.client import AsyncClient, Client, JobNotRunning, NoTerminal, NotFed
from txworker.client.tx import TwistedClient
from txworker.jobs import JobSpec
from txworker.jobs.errors import NotSupported
from txworker.pb import worker_pb2 as pb

real: Any = reactor

SIZES = (
    "for size in '5 6' '7 8' '9 10' '11 12'; do"
    '  until [ "$(stty size)" = "$size" ]; do sleep 0.02; done; echo $size;'
    "done; sleep 1000"
)
"""Prints each size once the terminal has it."""


def a_job(command: str, *args: str, **more: Any) -> JobSpec:
    return JobSpec(command, args=args, tty=True, **more)


@pytest_twisted.ensureDeferred
async def test_terminal(tmp_path: Path, shim: Provider) -> None:
    """0, 1 and 2 are one terminal of the size that was asked for, which controls the job's session."""
    code = (
        "import os, sys; print([os.isatty(fd) for fd in (0, 1, 2)], len({os.ttyname(fd) for fd in (0, 1, 2)}), "
        "os.get_terminal_size()[::-1], os.tcgetpgrp(0) == os.getpgrp() == os.getsid(0), os.environ['TERM']); "
        "open('/dev/tty', 'w').write('controls\\n'); print('err', file=sys.stderr)"
    )
    spec = a_job(sys.executable, "-c", code, tty_rows=30, tty_columns=100)
    heard = await run(shim, tmp_path, spec)
    assert heard.printed.decode() == "[True, True, True] 1 (30, 100) True xterm\r\ncontrols\r\nerr\r\n"
    assert (heard.exit.exit_code, heard.exit.leftovers_ended) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_defaults(tmp_path: Path, shim: Provider) -> None:
    """A terminal has 24 rows and 80 columns, and TERM is what the request says."""
    heard = await run(
        shim, tmp_path, a_job("sh", "-c", "stty size; echo $TERM; ls /proc/self/fd", env={"TERM": "vt100"})
    )
    assert heard.printed.split() == [b"24", b"80", b"vt100", b"0", b"1", b"2", b"3"]


@pytest_twisted.ensureDeferred
async def test_resize(tmp_path: Path, shim: Provider) -> None:
    """A change of the size is seen as SIGWINCH."""
    heard = Heard()
    script = "trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.02; done"
    running = await launch(shim, tmp_path, a_job("bash", "-c", script), heard)
    await until(lambda: b"ready" in heard.printed)
    running.resize(50, 132)
    assert (await heard.over())[0] == 3
    assert heard.printed == b"ready\r\n50 132\r\n"
    with pytest.raises(ProcessExitedAlready):
        running.resize(1, 1)


@pytest_twisted.ensureDeferred
async def test_stop(tmp_path: Path, shim: Provider) -> None:
    """An interactive shell, which ignores TERM, ends when it is stopped, as when its terminal hangs up."""
    heard = Heard()
    running = await launch(shim, tmp_path, a_job("bash", "--norc", "-i", env={"PS1": "ready "}), heard)
    await until(lambda: b"ready" in heard.printed)
    assert b"job control" not in heard.printed
    running.stop(20.0)
    assert (await heard.over())[1] == signal.SIGHUP


@pytest_twisted.ensureDeferred
async def test_much_output(tmp_path: Path, shim: Provider) -> None:
    """Output of any size arrives whole."""
    heard = await run(shim, tmp_path, a_job("seq", "1", "200000"))
    assert heard.printed == b"".join(b"%d\r\n" % number for number in range(1, 200001))


@pytest_twisted.ensureDeferred
async def test_terminal_closed_for_a_while(tmp_path: Path, shim: Provider) -> None:
    """A job that closes its terminal and opens it again goes on printing."""
    script = "tty=$(tty); exec 0<&- 1>&- 2>&-; sleep 0.1; echo again > $tty"
    assert (await run(shim, tmp_path, a_job("bash", "-c", script))).printed == b"again\r\n"


@pytest_twisted.ensureDeferred
async def test_leftovers(tmp_path: Path, shim: Provider) -> None:
    """What is left of the job and holds the terminal open is ended, and does not hold up the job's end."""
    heard = await run(shim, tmp_path, a_job("bash", "-c", "trap '' HUP; sleep 100 & echo out"))
    assert (heard.printed, heard.exit.exit_code, heard.exit.leftovers_ended) == (b"out\r\n", 0, 1)


@pytest_twisted.ensureDeferred
async def test_descriptors(tmp_path: Path, shim: Provider) -> None:
    """A terminal leaves no descriptor, whether its job ran or could not be started."""

    async def terminals() -> list[str]:
        await held_by_shim(shim)
        pids = (os.getpid(), shim.shim.pid) if shim.shim else ()
        fds = [f"/proc/{pid}/fd/{fd}" for pid in pids for fd in os.listdir(f"/proc/{pid}/fd")]
        return [os.readlink(fd) for fd in fds if os.path.islink(fd) and "pt" in os.readlink(fd)]

    before, ours, of_shim = await terminals(), held(), await held_by_shim(shim)
    await run(shim, tmp_path, a_job("true"))
    with pytest.raises(Exception, match="no such executable"):
        await run(shim, tmp_path, a_job("no-such-program"))
    assert await terminals() == before
    assert (opened_since(ours), await held_by_shim(shim)) == ([], of_shim)


@pytest_twisted.ensureDeferred
async def test_without_shim(tmp_path: Path, provider: Provider) -> None:
    """Without the shim a terminal is refused by name."""
    if provider.shim is None:
        with pytest.raises(NotSupported, match="tty: True needs the shim"):
            await run(provider, tmp_path, a_job("true"))


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value  # a Call, too
    return error.code(), error.details()


def resize(worker: Daemon, job_id: str, rows: int = 5, columns: int = 9) -> None:
    worker.stub.ResizeJob(pb.ResizeJobReq(jobID=job_id, rows=rows, columns=columns), timeout=LIMIT)


def test_refused(daemon: Daemon) -> None:
    """What makes no sense is refused with a sentence that names the field and the value."""
    job_id = daemon.start("true")
    tty = daemon.start("true", tty=True)
    assert daemon.end(tty).job.state == pb.JOB_STATE_SUCCEEDED
    table: list[tuple[Callable[[], Any], grpc.StatusCode, str]] = [
        (lambda: daemon.start("a", tty=True, ttyRows=65536), grpc.StatusCode.INVALID_ARGUMENT, "ttyRows: 65536 is no"),
        (lambda: daemon.start("a", tty=True, stdin=b"x"), grpc.StatusCode.INVALID_ARGUMENT, "stdin: '1 bytes'"),
        (lambda: daemon.start("a", ttyRows=5), grpc.StatusCode.INVALID_ARGUMENT, "ttyRows: 5 is the size"),
        (lambda: resize(daemon, job_id, 0), grpc.StatusCode.INVALID_ARGUMENT, "rows: 0 is not the size of a terminal"),
        (lambda: resize(daemon, ""), grpc.StatusCode.INVALID_ARGUMENT, "jobID: '' is no job's id"),
        (lambda: resize(daemon, "nobody"), grpc.StatusCode.NOT_FOUND, "there is no job 'nobody'"),
        (lambda: resize(daemon, job_id), grpc.StatusCode.FAILED_PRECONDITION, f"job '{job_id}' has no terminal"),
        (lambda: resize(daemon, tty), grpc.StatusCode.FAILED_PRECONDITION, f"job '{tty}' is done"),
    ]
    for call, code, sentence in table:
        found, said = refused(call)
        assert (found, said[: len(sentence)]) == (code, sentence)


def test_keys(daemon: Daemon) -> None:
    """Keys that are fed are typed: the terminal echoes them, Ctrl-C interrupts, and the end is Ctrl-D."""
    with Client(daemon.addr) as worker:
        cat = worker.start("cat", tty=(24, 80), feed=True)
        assert cat.feed("grüße\r".encode()) == 8
        assert "".join(cat.text()) == "grüße\r\ngrüße\r\n"
        assert cat.wait().ok
        sleeping = worker.start("bash", "-c", args=["echo up; exec sleep 1000"], tty=(24, 80), feed=True)
        assert next(sleeping.follow()) == b"up\r\n"
        assert sleeping.feed(b"\x03", end=False) == 1
        assert sleeping.wait().signal == signal.SIGINT
        with pytest.raises(NotFed):
            worker.feed(worker.start("cat", tty=(24, 80)).id, b"x")


@pytest.mark.parametrize("data", [b"", b"a line\n", b"half", b"line\n" * 20_000 + b"half"])
def test_end_of_input(daemon: Daemon, data: bytes) -> None:
    """What is fed ends for the job, whatever the last bytes are, and also if it begins to read late."""
    job_id = daemon.bash("sleep 0.2; echo; exec wc -c", tty=True, feed=True)
    daemon.stub.FeedJob(iter([pb.FeedJobReq(jobID=job_id, data=data, end=True)]), timeout=LIMIT)
    wait_until(lambda: daemon.query(job_id).done)
    counted = re.search(rb"(\d*)\r\n$", daemon.raw(job_id))  # behind the echo of the input
    assert counted
    assert int(counted[1]) == len(data)


def test_kept(daemon: Daemon) -> None:
    """Leftovers that are kept go on printing through the terminal."""
    script = "trap '' HUP; (until [ -e go-on ]; do sleep 0.02; done; echo late) & echo out"
    job_id = daemon.bash(script, tty=True, leftovers="keep")
    assert daemon.end(job_id).job.state == pb.JOB_STATE_SUCCEEDED
    (daemon.place / "go-on").touch()
    wait_until(lambda: (daemon.output / f"{job_id}.out").read_bytes() == b"out\r\nlate\r\n")


def test_taken_over(a_daemon: Callable[..., Daemon]) -> None:
    """After SIGKILL of the worker a terminal's output is complete, and the next worker resizes it."""
    worker = a_daemon()
    script = (
        "trap 'stty size; exit 3' WINCH; seq 1 1000; touch begun; until [ -e go ]; do sleep 0.02; done;"
        "seq 1001 50000; touch printed; while :; do sleep 0.02; done"
    )
    job_id = worker.bash(script, tty=True, ttyRows=40)
    wait_until((worker.place / "begun").exists)
    worker.stop(signal.SIGKILL)
    (worker.place / "go").touch()
    wait_until((worker.place / "printed").exists)
    after = Daemon(worker.place)
    try:
        resize(after, job_id, 41, 81)
        expected = b"".join(b"%d\r\n" % number for number in range(1, 50001)) + b"41 81\r\n"
        assert after.raw(job_id) == expected
        ended = after.query(job_id).job
        assert (ended.exitCode, ended.takeovers) == (3, 1)
    finally:
        after.close()


@pytest_twisted.ensureDeferred
async def test_clients(daemon: Daemon) -> None:
    """Each client resizes a terminal, and refuses to resize what is none."""
    with Client(daemon.addr) as worker:
        job = worker.start("bash", "-c", args=[SIZES], tty=(5, 6), timeout=LIMIT)
        lines = job.follow()
        assert next(lines) == b"5 6\r\n"
        job.resize(7, 8)
        assert next(lines) == b"7 8\r\n"
        asyncio.run(_resized(daemon.addr, job.id))
        assert next(lines) == b"9 10\r\n"
        twisted_client = TwistedClient(real, daemon.addr)
        await twisted_client.resize(job.id, 11, 12)
        await twisted_client.close()
        assert next(lines) == b"11 12\r\n"
        with pytest.raises(NoTerminal):
            worker.resize(worker.start("true").id, 1, 1)
        assert job.stop(wait=True).signal == signal.SIGHUP
        with pytest.raises(JobNotRunning):
            job.resize(1, 1)


async def _resized(addr: str, job_id: str) -> None:
    async with AsyncClient(addr) as worker:
        await worker.job(job_id).resize(9, 10)
