"""Several workers, which client.toml names, asked at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, Call
from tests.support.daemon import LIMIT, Daemon, running

ADaemon = Callable[..., Daemon]


@pytest.fixture
def config_home(tmp_path: Path) -> Path:
    """For $XDG_CONFIG_HOME."""
    (tmp_path / "txworker").mkdir()
    return tmp_path


def name_workers(config_home: Path, **addresses: str) -> dict[str, str]:
    """Write client.toml; the environment that finds it."""
    text = "".join(f'[workers.{name}]\naddr = "{addr}"\n' for name, addr in addresses.items())
    (config_home / "txworker" / "client.toml").write_text(text)
    return {**os.environ, "XDG_CONFIG_HOME": str(config_home)}


def test_ps(a_daemon: ADaemon, config_home: Path) -> None:
    """ps lists the jobs of each; one that does not answer is told of, and takes nothing from the others."""
    one, two = a_daemon(), a_daemon()
    ids = [worker.start("true") for worker in (one, two)]
    env = name_workers(config_home, one=one.addr, second=two.addr, gone="127.0.0.1:1")

    def list_jobs(*words: str) -> tuple[int, list[str], str]:
        status, out, err = Call("--patience", "0", "ps", *words, env=env).done()
        return status, out.decode().splitlines(), err

    status, (header, *lines), err = list_jobs("--worker", "one,second")
    assert (status, err, header.split()[:2]) == (0, "", ["WORKER", "JOB"])
    assert [line.split()[:2] for line in lines] == [["one", ids[0]], ["second", ids[1]]]
    status, lines, err = list_jobs("--all-workers", "--json")
    assert [(job["worker"], job["jobID"]) for job in map(json.loads, lines)] == [("one", ids[0]), ("second", ids[1])]
    assert (status, err.count("\n")) == (69, 1)
    assert err.startswith("txworker: gone: no worker answers at 127.0.0.1:1: ")
    assert list_jobs("--worker", "second", "-q")[:2] == (0, [ids[1]])


@pytest.mark.slow
def test_watch(a_daemon: ADaemon, config_home: Path) -> None:
    """watch tells of every change on any of them."""
    workers = {name: a_daemon() for name in ("one", "two")}
    env = name_workers(config_home, **{name: worker.addr for name, worker in workers.items()})
    before = {name: worker.start("sleep", "1000") for name, worker in workers.items()}
    with running([*PROGRAM, "watch", "--all-workers"], env=env, text=True) as watch:
        assert watch.stdout is not None
        first = {tuple(watch.stdout.readline().split()[:2]) for _ in workers}
        assert first == set(before.items())
        job_id = workers["two"].start("true")
        while (words := watch.stdout.readline().split())[2] != "succeeded":
            assert words[:2] == ["two", job_id]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(LIMIT) == 130


@pytest.mark.slow
def test_not_utf8(daemon: Daemon, config_home: Path) -> None:
    """An argument that cannot be sent is one sentence and an error, in whichever thread it is found."""
    env = name_workers(config_home, one=daemon.addr, two=daemon.addr)
    label = ("--label", "a=\udcff")
    table = [
        ("query", "\udcff"),
        ("top", "\udcff"),
        ("stop", *label),
        ("start", *label, "true"),
        ("logs", "x", "\udcff"),
    ]
    table += [(command, *label) for command in ("ps", "top", "watch")]
    for command, *words in table:
        for names in ("one", "one,two") if command in ("ps", "top", "watch") else ("one",):
            line = [*PROGRAM, command, "--worker", names, *words]
            done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
            said = [one for one in done.stderr.splitlines() if "no job" not in one]
            assert len(said) == names.count(",") + 1, done.stderr
            assert all(one.endswith("udcff' is not valid UTF-8, and cannot be sent") for one in said), said
            assert (done.returncode, done.stdout.count("\n") <= 1) == (1, True), line
