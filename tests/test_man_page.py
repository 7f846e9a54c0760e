"""docs/txworker.1 is what the parser says now, and man shows it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from txworker.cli import failures
from txworker.cli.examples import EXAMPLES

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "txworker.1"
MAN = shutil.which("man") or ""


def shown() -> str:
    """The page as a terminal of 80 columns shows it; man warns of nothing."""
    environ = {**os.environ, "MANWIDTH": "80", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"}
    words = [MAN, "--warnings=all", "--no-hyphenation", "-l", str(PAGE)]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == "", done.stderr
    return re.sub(".\b", "", done.stdout)


class ManPageTests(SynchronousTestCase):
    def test_fresh(self) -> None:
        """Writing it anew changes nothing (`tox -e man` makes it so)."""
        out = Path(self.mktemp())
        words = [sys.executable, str(TOP / "scripts" / "man_page.py"), str(out)]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(TOP)})
        self.assertEqual(out.read_text(), PAGE.read_text())

    def test_exit_statuses(self) -> None:
        """Every exit status that the program has is in the page's table."""
        section = PAGE.read_text().partition(".SH EXIT STATUS")[2].partition(".SH")[0]
        told = set(map(int, re.findall(r"^\\fB(\d+)\\fR$", section, re.MULTILINE)))
        statuses = {value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int)}
        self.assertEqual({0, 2} | statuses, told)

    def test_environment(self) -> None:
        """Every variable that the command line reads is named."""
        section = PAGE.read_text().partition(".SH ENVIRONMENT")[2].partition(".SH")[0]
        nodes = (
            node for path in (TOP / "txworker" / "cli").glob("*.py") for node in ast.walk(ast.parse(path.read_text()))
        )
        texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        read = {text for text in texts if re.fullmatch(r"TXWORKER_[A-Z_]+|XDG_[A-Z_]+|NO_COLOR", text)}
        self.assertEqual([], sorted(name for name in read if name not in section))

    @unittest.skipUnless(MAN, "man is not installed")
    def test_man(self) -> None:
        """man shows every section and every command, without a warning."""
        text = shown()
        sections = re.findall(r"^([A-Z][A-Z ]+)$", text, re.MULTILINE)
        self.assertEqual(
            "NAME, SYNOPSIS, DESCRIPTION, OPTIONS, COMMANDS, ENVIRONMENT, FILES, EXIT STATUS, EXAMPLES, SEE ALSO",
            ", ".join(section.strip() for section in sections),
        )
        self.assertEqual(sorted(EXAMPLES), sorted(re.findall(r"^   txworker (\w+)$", text, re.MULTILINE)))
        self.assertIn("txworker run bash -c 'ls | wc -l'", text)
        self.assertIn("--max-memory BYTES", text)
