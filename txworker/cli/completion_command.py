"""`txworker completion`: makes shells complete commands, options, and in bash the ids of jobs."""

from __future__ import annotations

import argparse
from importlib import import_module

from txworker.cli import console
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.parser import program

_FUNCTION = "_txworker_jobs"

_BASH = f"""\
{_FUNCTION}() {{
  compgen -W "$(${{COMP_WORDS[0]}} ps --quiet --patience 0 --deadline 2 2>/dev/null)" -- "$1"
}}
"""
"""The newest jobs of the worker that the environment names, which has two seconds to answer."""


def completion(options: argparse.Namespace) -> int:
    """
    Print the script for this shell.

    Raises:
        Failed: shtab is not installed.
    """
    console.check_open()
    try:
        shtab = import_module("shtab")  # an extra: only this command needs it
    except ImportError as error:
        raise Failed("completion needs shtab: pip install 'txworker[completion]'", REFUSED) from error
    parser = program()
    for action in _actions_with_jobs(parser):
        action.complete = {"bash": _FUNCTION}  # type: ignore[attr-defined]  # shtab looks for it
    script: str = shtab.complete(parser, options.shell, preamble=_BASH if options.shell == "bash" else "")
    print(script, flush=True)
    return 0


def _actions_with_jobs(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    commands = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    return [action for command in commands.values() for action in command._actions if action.dest == "jobs"]
