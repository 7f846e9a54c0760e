"""
Writes docs/txworker.1, the man page, from the parser and the examples of the command line: `tox -e man`.

Writes to the file given as first argument, by default to the project's own.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from argparse_manpage.manpage import Manpage

from txworker.cli import common
from txworker.cli.examples import EXAMPLES, GENERAL
from txworker.cli.parser import program

PAGE = Path(__file__).resolve().parent.parent / "docs" / "txworker.1"

DESCRIPTION = """\
txworker asks a worker, which runs jobs on its machine: any executable, or a script with its interpreter.
Job ids may be shortened to their beginning (4 characters or more) wherever they are unambiguous.
Options of the worker may stand before or after the command.
A worker that restarts or cannot be reached is waited for, and what was under way goes on where it was.
The worker itself is started by \u201ctwistd worker\u201d.
"""

ENVIRONMENT = (
    (common.ENVIRONMENT_VARIABLE, "The worker's address, unless --addr or --worker names one."),
    *zip(
        common.TLS_VARIABLES.values(),
        (
            "PEM of the CA of the worker's certificate, unless --tls-ca names one.",
            "PEM of the user's own certificate, unless --tls-cert names one.",
            "PEM of its key, unless --tls-key names one.",
        ),
        strict=True,
    ),
    ("NO_COLOR", "Set to anything but the empty string: no colours, unless --color asks for them."),
    ("XDG_CONFIG_HOME", "Where txworker/client.toml is; ~/.config if it is not set."),
)

FILES = (
    (
        "~/.config/txworker/client.toml",
        "Names workers for --worker: a table [workers.NAME] for each, with addr, and tls_ca, tls_cert and tls_key if "
        "the worker speaks TLS. File names are relative to the directory of client.toml.",
    ),
    (
        "control.sock",
        "In the state directory of a worker on this machine: what drain, handover, reload and check talk to.",
    ),
)

EXIT_STATUS = (
    ("0", "Success."),
    ("1", "The worker refused, and an error says why; or one of several jobs failed."),
    ("2", "Wrong usage."),
    ("69", "No worker answers, or the worker takes no new jobs."),
    ("124", "wait --timeout: that time is over."),
    ("125", "run: the worker refused the job, or could not be reached."),
    ("126", "run: the worker may not, or cannot, execute the executable."),
    ("127", "run: there is no such executable."),
    ("130", "The command was interrupted."),
    ("141", "The reader of the output has gone."),
    ("other", "run, and wait for one job: the job's exit code, or 128 and the number of the signal that ended it."),
)

_COMMANDS, _OPTIONS, _WORKER = "commands", "options", "the worker, and how it is asked"
_MACRO = re.compile(r"\.(TH|SH|SS|TP|PP|RS|RE|EX|EE|B|BR)\b")
_TYPED = {"'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
"""Characters that a typesetter makes others of."""


def page() -> str:
    """The page, in man's roff."""
    os.environ["COLUMNS"] = "80"  # argparse breaks lines to the width of the terminal
    parser = _prepared(program())
    made = Manpage(parser, _data={"version": importlib.metadata.version("txworker")}, format="single-commands-section")
    made.description = "start, stop, query and follow jobs on a worker"
    made.manual = "User Commands"
    made.date = " "  # a date would make the page another one each day; empty, the library would put today's
    made.add_section("synopsis", "=", ".B txworker\n[OPTION ...] COMMAND [OPTION ...] [ARGUMENT ...]")
    made.add_section("description", "=", DESCRIPTION.rstrip())
    for heading, rows in (("environment", ENVIRONMENT), ("files", FILES), ("exit status", EXIT_STATUS)):
        made.add_section(heading, "=", "\n".join(_table(rows)))
    made.add_section("examples", "=", "\n".join(_examples()))
    made.add_section("see also", "=", ".BR twistd (1)")
    return "\n".join(map(_typed, str(made).splitlines())) + "\n"


def _prepared(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with its groups as the sections of a man page, and the worker's options once and not per command."""
    parser.description = parser.epilog = None
    positionals, options, worker = parser._action_groups
    positionals.title, options._group_actions = _COMMANDS, [*worker._group_actions, *options._group_actions]
    parser._action_groups[:] = [options, positionals]
    (commands,) = positionals._group_actions
    assert isinstance(commands, argparse._SubParsersAction)
    for action in commands._choices_actions:
        action.help = _escaped(f"{action.help[0].upper()}{action.help[1:]}." if action.help else "")
    for name, command in commands.choices.items():
        _prepare_command(name, command)
    return parser


def _prepare_command(name: str, command: argparse.ArgumentParser) -> None:
    command.description = command.epilog = None
    command._action_groups[:] = [group for group in command._action_groups if group.title != _WORKER]
    for group in command._action_groups:
        if group.description:
            group.title = f"{group.title}:"
    arguments = [_arguments(command, action) for action in command._get_positional_actions()]
    command.usage = " ".join(["txworker", name, "[OPTION ...]", *arguments])  # the same with every Python's argparse


def _arguments(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    if action.nargs == argparse.REMAINDER:
        return str(action.metavar)
    return command._get_formatter()._format_args(action, action.dest)


def _table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", rf"\fB{_escaped(name)}\fR", _escaped(text))


def _examples() -> Iterator[str]:
    """What an example does stands above it, because a line that is too long for the terminal looks bad."""
    for examples in (*EXAMPLES.values(), GENERAL):
        yield from (".PP", ".EX")
        for line, words in examples:
            yield from (_escaped(text) for text in (f"# {words}" if words else "", line) if text)
        yield ".EE"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def _typed(line: str) -> str:
    """The line with quotes and tildes as they are typed; text that looks like a macro is none."""
    if _MACRO.match(line):
        return line
    line = re.sub(r"^usage: (txworker \S+)", r"\\fB\1\\fR", line)
    text = "".join(_TYPED.get(char, char) for char in line)
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    out.write_text(page(), encoding="utf-8")
