"""Completion in a real bash, with the ids of a real worker."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.test_cli import PROGRAM
from tests.support.daemon import LIMIT, Daemon

pytest.importorskip("shtab")


def completed(daemon: Daemon, place: Path, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    program = place / "txworker"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    typed = shlex.join(["txworker", *words])
    script = (
        "source <(txworker completion bash) || exit; f=$(complete -p txworker); f=${f##*-F }; f=${f%% *}; "
        f'COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "$f"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    env = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "TXWORKER_ADDR": daemon.addr}
    done = subprocess.run(
        ["bash", "-c", script],
        env={**env, "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), env.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash(daemon: Daemon, tmp_path: Path) -> None:
    """Commands, options, and the ids of jobs are completed."""
    assert {"stop", "start", "stream"} == set(completed(daemon, tmp_path, "st"))
    assert completed(daemon, tmp_path, "stop", "--gr") == ["--grace"]
    job_id = daemon.start("true")
    assert completed(daemon, tmp_path, "query", job_id[:6]) == [job_id]


def test_other_shells() -> None:
    """zsh and fish have scripts of their own."""
    for shell, word in (("zsh", "#compdef txworker"), ("fish", "complete")):
        done = subprocess.run(
            [sys.executable, "-m", "txworker", "completion", shell], capture_output=True, text=True, check=True
        )
        assert word in done.stdout
