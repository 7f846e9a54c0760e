"""A user's type checker: what the library's types allow, and what they find."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("typed_user.py")
WRONG = 'from txworker.client import Client\n\nClient().start("x", lables={})\n'


def check(program: Path) -> tuple[int, str]:
    """What mypy says of it, strict and without a configuration of this project's."""
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
def test_types(tmp_path: Path) -> None:
    """A program that uses all of it has no errors; a misspelled keyword is one."""
    (right := tmp_path / "right.py").write_text(PROGRAM.read_text())
    assert check(right) == (0, "Success: no issues found in 1 source file\n")
    (wrong := tmp_path / "wrong.py").write_text(WRONG)
    status, said = check(wrong)
    assert status == 1
    assert re.search(r'^\S*wrong.py:3: error: Unexpected keyword argument "lables".*\[call-arg\]$', said, re.MULTILINE)
