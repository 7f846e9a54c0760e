"""The programs in docs/client.md, and in the README, run as they stand there and print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.client import Client

TOP = Path(__file__).resolve().parents[2]
ADDRESS = '"worker:30000"'
"""How the pages name a worker: here it is replaced by that of a real one."""

_PROGRAM = re.compile(r"^```python\n(.*?)^```\n(?:(?!^```).)*?^```text\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PAGES = ("README.md", "docs/client.md")
PROGRAMS = [(page, *found) for page in PAGES for found in _PROGRAM.findall((TOP / page).read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "program", "printed"), PROGRAMS)
def test_program(daemon: Daemon, page: str, program: str, printed: str) -> None:
    """A block of Python is a whole program; the block of text after it is what it prints."""
    assert ADDRESS in program, page
    words = [sys.executable, "-c", program.replace(ADDRESS, repr(daemon.addr))]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == (printed, "", 0)


def test_all_were_found() -> None:
    """No program stands there without what it prints; there is one of each kind of client."""
    for page in PAGES:
        text = (TOP / page).read_text(encoding="utf-8")
        assert text.count("```python\n") == sum(found[0] == page for found in PROGRAMS)
    programs = "".join(program for _, program, _ in PROGRAMS)
    assert all(name in programs for name in (" Client(", " AsyncClient(", " TwistedClient("))


@pytest.fixture(autouse=True)
def no_jobs(daemon: Daemon) -> None:
    """A program may list what runs, so nothing that another one has left does: what it has stopped ends by then."""
    with Client(daemon.addr) as client:
        wait_until(lambda: all(record.done for record in client.jobs()))
