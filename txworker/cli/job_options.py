"""The options that describe a job: those of `txworker start` and `run`."""

from __future__ import annotations

import argparse

from txworker.cli.values import Pairs, count, pair, seconds, size


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add the options and arguments of `start`."""
    add_pairs(parser, "--env", "set a variable of the job's environment")
    add_pairs(parser, "--label", "label the job; ps and watch select by labels")
    parser.add_argument("--directory", default="", metavar="DIR", help="working directory, on the worker's machine")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="stop the job after this time")
    parser.add_argument(
        "--quiet-timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop the job when it has printed nothing for this time",
    )
    parser.add_argument(
        "--lease",
        type=seconds,
        metavar="SECONDS",
        help="stop the job when its lease was not renewed for this time: `run` renews it as long as it runs itself, "
        "`renew` once",
    )
    parser.add_argument("--stdin", metavar="FILE", help="the job's standard input; '-' is that of this program")
    parser.add_argument(
        "--request-id", default="", metavar="ID", help="a start with an id that was used before returns that job"
    )
    parser.add_argument("--separate-stderr", action="store_true", help="keep stderr in a file of its own")
    parser.add_argument(
        "--leftovers",
        choices=("end", "keep"),
        default="",
        help="end or keep processes that the job leaves behind (default: the worker's setting)",
    )
    limits = parser.add_argument_group("limits", "0 or absent: the worker's default; BYTES may end in K, M, G or T")
    limits.add_argument("--max-output", type=size, default=0, metavar="BYTES", help="output beyond it is dropped")
    limits.add_argument("--max-memory", type=size, default=0, metavar="BYTES", help="address space of each process")
    limits.add_argument("--max-cpu", type=seconds, metavar="SECONDS", help="CPU time of each process")
    limits.add_argument("--max-open-files", type=count, default=0, metavar="N", help="of each process")
    limits.add_argument("--max-processes", type=count, default=0, metavar="N", help="of the job's user; not for root")
    parser.add_argument(
        "argv",
        nargs=argparse.REMAINDER,
        metavar="EXECUTABLE [PATH [ARG ...]]",
        help="the worker splits EXECUTABLE into words; a relative PATH is relative to the job's directory there",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add those of `run`: its own, and then all of `start`."""
    parser.add_argument("--detach", "-d", action="store_true", help="print the job's id, and leave the job to itself")
    parser.add_argument(
        "--tty",
        "-t",
        action="store_true",
        help="give the job a terminal, and connect this one to it: the job gets every key, Ctrl-C and Ctrl-\\ too; ~. "
        "at the beginning of a line leaves the job to itself, and ~~ is one ~",
    )
    add_start(parser)


def add_pairs(parser: argparse.ArgumentParser, option: str, text: str) -> None:
    """Add an option NAME=VALUE, which may be repeated with other names; text: its help."""
    parser.add_argument(option, type=pair, action=Pairs, default={}, metavar="NAME=VALUE", help=text)
