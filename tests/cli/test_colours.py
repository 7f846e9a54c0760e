"""Colours, and when there are none."""

from __future__ import annotations

import argparse
import contextlib
import io
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.fakes import FakeClient
from txworker.cli.colours import Painted, has_colours, name_of_job
from txworker.cli.list_commands import ps, wait
from txworker.cli.parser import parse
from txworker.cli.query_command import query
from txworker.pb import worker_pb2 as pb

FAILED = "\x1b[31mfailed\x1b[0m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(*words: str, **environ: str) -> str:
    """What a command prints on a terminal, with these variables."""
    job = pb.Job(jobID="a" * 36, state=pb.JOB_STATE_FAILED, exitCode=7, command="failed", errorText="failed")
    commands = {"ps": ps, "wait": wait, "query": query}
    with (
        contextlib.redirect_stdout(Terminal()) as out,
        mock.patch.dict("os.environ", {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": "100", **environ}),
    ):
        options = parse(list(words))
        client: object = FakeClient([job])
        commands[options.command_name](client, options)  # type: ignore[arg-type]  # a fake
    return out.getvalue()


class ColoursTests(SynchronousTestCase):
    def test_states(self) -> None:
        """The state has a colour on a terminal, once, and nothing else has; columns stay where they are."""
        for words in (["ps"], ["ps", "--no-trunc"], ["wait", "a" * 36], ["query", "a" * 36]):
            coloured = on_terminal(*words)
            self.assertEqual((1, 2), (coloured.count(FAILED), coloured.count("\x1b")), coloured)
            self.assertEqual(on_terminal(*words, "--color", "never"), coloured.replace(FAILED, "failed"))

    def test_obeyed(self) -> None:
        """NO_COLOR of any value but an empty one, and a dumb terminal, have none; --color is stronger."""
        table: list[tuple[dict[str, str], tuple[str, ...], bool]] = [
            ({}, (), True),
            ({"NO_COLOR": "0"}, (), False),
            ({"NO_COLOR": ""}, (), True),
            ({"TERM": "dumb"}, (), False),
            ({"NO_COLOR": "1"}, ("--color", "always"), True),
            ({}, ("--color", "never"), False),
            ({}, ("--json",), False),
        ]
        for environ, words, expected in table:
            self.assertEqual(expected, "\x1b" in on_terminal(*words, "ps", **environ), (environ, words))

    def test_no_terminal(self) -> None:
        """A file or a pipe gets none, but with --color always."""
        for when, expected in (("auto", False), ("always", True), ("never", False)):
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(expected, has_colours(argparse.Namespace(color=when), {"TERM": "xterm"}))

    def test_hostile(self) -> None:
        """Codes in a job's texts are escaped, also in lines that have a colour, and in the coloured word itself."""
        line = Painted("\x1b[2J a\x1b[1m b\n", 5, 9, "\x1b[31m").after("\x07")
        self.assertEqual(2, line.shown().count("\x1b"))
        self.assertTrue(line.shown().replace("\x1b", "").isprintable())

    def test_cut(self) -> None:
        """A line that a narrow terminal cuts within the word has no codes behind its end."""
        self.assertEqual("ab\x1b[31mc\x1b[0m", Painted("abc", 2, 9, "\x1b[31m").shown())
        self.assertEqual("abc", Painted("abc", 5, 9, "\x1b[31m").shown())

    def test_names(self) -> None:
        """The names before the lines of several jobs differ in their colours."""
        always = argparse.Namespace(color="always")
        self.assertEqual(3, len({name_of_job("a |", number, always) for number in range(3)}))
        self.assertEqual("a |", name_of_job("a |", 1, argparse.Namespace(color="never")))
