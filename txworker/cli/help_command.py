"""`txworker help`: what --help prints."""

from __future__ import annotations

import argparse

from txworker.cli.parser import commands_of, program


def show_help(options: argparse.Namespace) -> int:
    """Print the help of the program, or of the command that is named. Raises Failed: it cannot be written."""
    parser = program()
    (commands_of(parser)[options.topic] if options.topic else parser).print_help()
    return 0
