"""Completion in real shells, with the ids of a real worker."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM
from tests.support.daemon import LIMIT, Daemon, wait_until

pytest.importorskip("shtab")

Completed = Callable[..., list[str]]
"""What a shell offers for the last of these words."""

_BASH = """\
source <(txworker completion bash) || exit
f=$(complete -p txworker); f=${f##*-F }; f=${f%% *}
COMP_WORDS=(WORDS); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="${COMP_WORDS[*]}"; COMP_POINT=${#COMP_LINE}
"$f"; printf "%s\\n" "${COMPREPLY[@]}"
"""
_FISH = "txworker completion fish | source; complete -C LINE"


def installed(shell: str) -> str:
    """The shell, or the test is skipped."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    return shell


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Where `txworker` is the program to be tested, and client.toml a file of the test's."""
    program = tmp_path / "txworker"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TXWORKER_")}
    return {
        **environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")])),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }


@pytest.fixture(params=["bash", pytest.param("fish", marks=pytest.mark.slow)])
def completed(request: pytest.FixtureRequest, environ: dict[str, str]) -> Completed:
    """bash, by what it calls at the Tab key, and fish, by the command that it has for this."""
    shell: str = installed(request.param)

    def complete(*words: str) -> list[str]:
        if shell == "bash":
            script, options = _BASH.replace("(WORDS)", "(" + shlex.join(["txworker", *words]) + ")"), ["--norc"]
        else:
            script, options = _FISH.replace("LINE", shlex.quote(shlex.join(["txworker", *words]))), ["--no-config"]
        done = subprocess.run(
            [shell, *options, "-c", script], env=environ, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.stderr == ""
        return [line.split("\t")[0] for line in done.stdout.splitlines() if line]

    return complete


def offered(completed: Completed, *words: str) -> list[str]:
    """What a shell offers as soon as the worker answers in time, which on a busy machine it may not."""
    found: list[str] = wait_until(lambda: completed(*words))
    return found


def test_words(completed: Completed) -> None:
    """Commands and options are completed."""
    assert {"stop", "start", "stream"} <= set(completed("st"))
    assert completed("stop", "--gr") == ["--grace"]


def test_files(completed: Completed, tmp_path: Path) -> None:
    """Options that take a file are completed with files."""
    for words in (("start", "--stdin"), ("web", "--web-cert"), ("web", "--client-ca")):
        assert completed(*words, f"{tmp_path}/txwor") == [f"{tmp_path}/txworker"], words


def test_jobs(completed: Completed, daemon: Daemon) -> None:
    """The ids of jobs come from the worker that the line names, wherever it names it."""
    job_id = daemon.start("true")
    daemon.end(job_id)
    assert offered(completed, "--addr", daemon.addr, "query", job_id[:6]) == [job_id]
    assert offered(completed, f"--addr={daemon.addr}", "query", job_id, job_id[:6]) == [job_id]
    assert completed("query", job_id[:6]) == []


@pytest.mark.slow
def test_only_unfinished(completed: Completed, daemon: Daemon) -> None:
    """A job that is done is not offered to `stop`."""
    done, running = daemon.start("true"), daemon.start("sleep", "1000")
    daemon.end(done)
    jobs = offered(completed, "stop", "--addr", daemon.addr, "")
    assert running in jobs
    assert done not in jobs


@pytest.mark.slow
def test_workers(completed: Completed, daemon: Daemon, environ: dict[str, str]) -> None:
    """The names of workers come from client.toml, and so does the address of the one that the line names."""
    place = Path(environ["XDG_CONFIG_HOME"]) / "txworker"
    place.mkdir(parents=True)
    (place / "client.toml").write_text(f'[workers.build]\naddr = "{daemon.addr}"\n[workers.test]\naddr = "h:1"\n')
    job_id = daemon.start("true")
    assert completed("--worker", "bu") == ["build"]
    assert offered(completed, "--worker", "build", "query", job_id[:6]) == [job_id]


def test_unreachable(environ: dict[str, str]) -> None:
    """Where a worker accepts the connection and never answers, the user waits a moment, and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addr = f"127.0.0.1:{silent.getsockname()[1]}"
        line = f"txworker --addr {addr} --patience 100 --deadline 100 stop "  # which other commands would wait for
        words = ["completion", "bash", "--words=jobs", f"--line={line}"]
        done = subprocess.run([*PROGRAM, *words], env=environ, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"", b"")


class Terminal:
    """A zsh in a terminal of its own."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.printed = b""
        pid, self._master = pty.fork()
        if not pid:  # pragma: no cover - becomes zsh
            os.execvpe("zsh", ["zsh", "-f", "-i"], {**environ, "TERM": "dumb", "PS1": "% "})
        self._pid = pid

    def type(self, text: str) -> None:
        """As if by the keyboard."""
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        """Read until zsh has printed it."""
        end = time.monotonic() + LIMIT
        while text.encode() not in self.printed:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} is not in {self.printed!r}"
            self.printed += os.read(self._master, 65536)

    def close(self) -> None:
        """zsh ends when its terminal is gone."""
        os.close(self._master)
        os.waitpid(self._pid, 0)


@pytest.fixture
def zsh(environ: dict[str, str]) -> Iterator[Terminal]:
    """A zsh that knows the completion."""
    installed("zsh")
    terminal = Terminal(environ)
    terminal.type("unset zle_bracketed_paste; autoload -U compinit; compinit -u -D\r")
    terminal.type("eval \"$(txworker completion zsh)\"; print com''plete\r")
    terminal.until("complete\r\n")
    yield terminal
    terminal.close()


@pytest.mark.slow
def test_zsh(zsh: Terminal, daemon: Daemon) -> None:
    """zsh completes commands, and of several jobs each, from the worker that the line names."""
    first, second = daemon.start("true"), daemon.start("true")

    def completed() -> bool:
        """The worker may not answer in time on a busy machine, which completes nothing."""
        zsh.printed = b""
        zsh.type(f"\x15txworker --addr {daemon.addr} inspe\t{first[:8]}\t{second[:8]}\t\x01print -r -- ")
        zsh.type("\x05; print com''plete\r")
        zsh.until("complete\r\n")
        return f"\r\ntxworker --addr {daemon.addr} inspect {first} {second}\r\n".encode() in zsh.printed

    wait_until(completed)


def test_nothing_is_expanded(completed: Completed, environ: dict[str, str], tmp_path: Path) -> None:
    """A shell executes and expands nothing of the words that it is given, whatever they are."""
    program = tmp_path / "txworker"
    real, touched = tmp_path / "real", tmp_path / "touched"
    program.rename(real)
    hostile = [f"$(touch {touched})", f"`touch {touched}`", f"a;touch {touched}", "$HOME", "*", "a b"]
    script = f"printf '%s\\n' {shlex.join(hostile)}"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--words=*) {script};; *) exec {real} "$@";; esac\n')
    program.chmod(0o755)
    found = completed("query", "")
    assert len(found) == len(hostile)
    assert not touched.exists()
    assert str(Path.home()) not in found
    assert environ["HOME"] not in found


@pytest.mark.slow
def test_scripts() -> None:
    """Each script is one that the shell can read."""
    for shell in ("bash", "zsh", "fish"):
        script = subprocess.run(
            [sys.executable, "-m", "txworker", "completion", shell], capture_output=True, check=True
        ).stdout
        if shutil.which(shell):
            read = subprocess.run([shell, "-n"], input=script, capture_output=True, timeout=LIMIT, check=False)
            assert (read.returncode, read.stderr) == (0, b""), shell
