"""What the command line shows on a real terminal only: colours, and what it waits for."""

from __future__ import annotations

import pytest

from tests.support.command_line import PROGRAM
from tests.support.daemon import Daemon
from tests.support.terminal import on_terminal, without_waiting


def test_colours(daemon: Daemon) -> None:
    """States have colours; with NO_COLOR and --color never they have none."""
    job_id = daemon.start("true", labels={"of": "colours"})
    daemon.end(job_id)
    words = [*PROGRAM, "--addr", daemon.addr, "ps", "--label", "of=colours"]
    with on_terminal(words) as terminal:
        assert "\x1b[32msucceeded\x1b[0m" in terminal.ended()[1]
    with on_terminal([*words, "--color", "never"]) as terminal:
        assert "\x1b" not in without_waiting(terminal.ended()[1])
    with on_terminal(["env", "NO_COLOR=1", *words]) as terminal:
        assert "\x1b" not in without_waiting(terminal.ended()[1])


@pytest.mark.slow
def test_no_worker() -> None:
    """A worker that does not answer is waited for, and the line that says so is erased before the error."""
    for words in (["run", "true"], ["ps"], ["query", "x"], ["wait", "abcd"], ["stop", "--all"], ["logs", "x"]):
        with on_terminal([*PROGRAM, "--addr", "127.0.0.1:1", *words]) as terminal:
            terminal.until("waiting for")
            status, text = terminal.ended()
        status_line = "txworker: waiting for the worker at 127.0.0.1:1 …\r\x1b[K"
        assert text.startswith(f"{status_line}txworker: no worker answers at 127.0.0.1:1: "), words
        assert (status, text.count("\n")) == (125 if words[0] == "run" else 69, 1)


def test_waiting_for_jobs(daemon: Daemon) -> None:
    """`wait` says for how many jobs it waits; below the lines about those that are done."""
    go = [daemon.place / f"go{number}" for number in range(2)]
    jobs = [daemon.bash(f"until [ -e {path} ]; do sleep 0.02; done") for path in go]
    with on_terminal([*PROGRAM, "--addr", daemon.addr, "wait", "--color", "never", *jobs]) as terminal:
        terminal.until("txworker: waiting for 2 of 2 jobs …")
        go[0].touch()
        shown = terminal.until("waiting for 1 of 2 jobs …")
        assert shown.startswith(f"\r\x1b[K{jobs[0]} succeeded\r\n"), shown
        go[1].touch()
        status, text = terminal.ended()
    assert (status, text.endswith(f"\r\x1b[K{jobs[1]} succeeded\r\n")) == (0, True), text


@pytest.mark.slow
def test_names_of_jobs(daemon: Daemon) -> None:
    """The names before the lines of several jobs have a colour each; lines are as the jobs printed them."""
    jobs = [daemon.bash(f"echo 'line {number}'") for number in range(2)]
    for job_id in jobs:
        daemon.end(job_id)
    with on_terminal([*PROGRAM, "--addr", daemon.addr, "logs", *jobs]) as terminal:
        status, text = terminal.ended()
    lines = sorted(without_waiting(text).splitlines(), key=lambda line: line[-1])
    names = [line.removesuffix(f"\x1b[0m line {number}") for number, line in enumerate(lines)]
    assert (status, [name[5:] for name in names]) == (0, [f"{job_id[:8]} |" for job_id in jobs])
    assert len({name[:5] for name in names}) == 2
