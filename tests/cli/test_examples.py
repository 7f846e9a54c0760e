"""The examples of --help and of the README; tests/live/test_cli_examples.py runs them."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.support.cli_examples import all_examples, arguments, readme_examples
from txworker.cli.common import LOCAL
from txworker.cli.examples import EXAMPLES
from txworker.cli.main import CHANNEL_COMMANDS, COMMANDS, CONTROL_COMMANDS, LOCAL_COMMANDS, OWN_CLIENTS
from txworker.cli.parser import commands_of, parse, program

TWINS = (("start", "run"), ("stop", "kill"), ("stream", "logs"), ("drain", "handover", "check", "reload"))
"""Commands whose options are added and read by the same functions: an option of all is shown with one of them."""

SHARED = "the worker, and how it is asked"
"""The group of the options that every command has."""


def help_of(*words: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
        parse([*words, "--help"])
    return out.getvalue()


def shown() -> Iterator[tuple[str, set[str]]]:
    """The command of each example, and the options in it; what follows an executable is no option of ours."""
    for line in all_examples():
        words = arguments(line)
        if words == ["--version"]:
            yield "", set(words)
            continue
        options = parse(words)
        words = words[: len(words) - len(getattr(options, "argv", []))]
        yield options.command_name, {word.partition("=")[0] for word in words if word.startswith("-")}


def own_options(command: argparse.ArgumentParser) -> set[str]:
    """Every spelling of every option that is not shared, and not hidden: those are for our own scripts."""
    shared = {action for group in command._action_groups if group.title == SHARED for action in group._group_actions}
    actions = (action for action in command._actions if action not in shared and action.help != argparse.SUPPRESS)
    return {option for action in actions for option in action.option_strings}


class ExamplesTests(SynchronousTestCase):
    def setUp(self) -> None:
        home = Path(self.mktemp()).absolute()
        (home / "txworker").mkdir(parents=True)
        workers = "".join(f'[workers.{name}]\naddr = "{name}:1"\n' for name in ("build", "test"))
        (home / "txworker" / "client.toml").write_text(workers)
        patch = mock.patch.dict("os.environ", {"XDG_CONFIG_HOME": str(home)})
        patch.start()
        self.addCleanup(patch.stop)

    def test_every_command(self) -> None:
        """Every command of the parser does something, and has examples in its --help."""
        commands = set(commands_of(program()))
        self.assertEqual({*COMMANDS, *CHANNEL_COMMANDS, *CONTROL_COMMANDS, *LOCAL_COMMANDS, *OWN_CLIENTS}, commands)
        self.assertEqual(commands, set(EXAMPLES))
        self.assertEqual(set(LOCAL), set(LOCAL_COMMANDS))
        for name, examples in EXAMPLES.items():
            for line, _ in examples:
                self.assertEqual(name, parse(arguments(line)).command_name, line)

    def test_every_option(self) -> None:
        """Every option of every command, in every spelling, is in an example."""
        used: dict[str, set[str]] = {}
        for name, options in shown():
            used.setdefault(name, set()).update(options)
        for name, command in commands_of(program()).items():
            twins = next((twins for twins in TWINS if name in twins), (name,))
            found = set().union(*(used.get(twin, set()) for twin in twins))
            self.assertEqual(set(), own_options(command) - {"-h", "--help"} - found, name)

    def test_every_shared_option(self) -> None:
        """So is every option that all commands have, and every one of the program itself."""
        used = set().union(*(options for _, options in shown()))
        wanted = {option for action in program()._actions for option in action.option_strings}
        self.assertEqual(set(), wanted - {"-h", "--help"} - used)

    def test_readme(self) -> None:
        """The README's lines are ones that the program understands; it shows every command but completion's script."""
        found = {parse(arguments(line)).command_name for line in readme_examples()}
        self.assertEqual(set(), set(EXAMPLES) - found - {"completion"})

    def test_shown(self) -> None:
        """--help of a command shows its examples, and that of the program one of each."""
        whole = help_of()
        for name, examples in EXAMPLES.items():
            self.assertIn(examples[0][0], whole)
            for line, _ in examples:
                self.assertIn(line, help_of(name))
