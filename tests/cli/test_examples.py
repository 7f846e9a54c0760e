"""The examples of --help."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from twisted.trial.unittest import SynchronousTestCase

from txworker.cli.examples import EXAMPLES, GENERAL
from txworker.cli.main import COMMANDS, CONTROL_COMMANDS, LOCAL_COMMANDS, OWN_CLIENTS
from txworker.cli.parser import parse


def help_of(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        parse([*words, "--help"])
    return out.getvalue()


class ExamplesTests(SynchronousTestCase):
    def test_every_command_and_option(self) -> None:
        """Every command has examples, and each of its options is in one of them; those of every command are, too."""
        self.assertEqual({*COMMANDS, *CONTROL_COMMANDS, *LOCAL_COMMANDS, *OWN_CLIENTS}, set(EXAMPLES))
        shared = {option for line, _ in GENERAL for option in re.findall(r"--[\w-]+", line)} | {"--json", "--help"}
        started = " ".join(line for name in ("start", "run") for line, _ in EXAMPLES[name])
        stopped = " ".join(line for name in ("stop", "kill") for line, _ in EXAMPLES[name])
        streamed = " ".join(line for name in ("stream", "logs") for line, _ in EXAMPLES[name])
        twins = {"start": started, "run": started, "stop": stopped, "kill": stopped}
        twins |= {"stream": streamed, "logs": streamed, "handover": EXAMPLES["drain"][0][0]}
        short = {"--follow": "-f", "--quiet": "-q"}
        for name, examples in EXAMPLES.items():
            shown = twins.get(name) or " ".join(line for line, _ in examples)
            options = set(re.findall(r"^  (--[\w-]+)", help_of(name), re.MULTILINE)) - shared
            missing = {option for option in options if option not in shown and short.get(option, option) not in shown}
            self.assertEqual(set(), missing, name)

    def test_shown(self) -> None:
        """--help of a command shows its examples, and that of the program one of each."""
        whole = help_of()
        for name, examples in EXAMPLES.items():
            self.assertIn(examples[0][0], whole)
            for line, _ in examples:
                self.assertIn(line, help_of(name))
