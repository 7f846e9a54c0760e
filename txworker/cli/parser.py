"""The words of the command line; what they do is in commands.py, many.py and draining.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from txworker.base.printable import printable
from txworker.cli import common
from txworker.cli.values import SOCKET_NAME, Pairs, count, pair, seconds, size, socket_in, some_seconds, states

_EPILOG = """\
examples:
  txworker run bash scripts/count.sh          start, follow the output, exit as the job does
  txworker start --label night=1 --max-memory 2G python3 -u report.py --all
  txworker stream --tail 20 JOB               the last 20 lines, then what comes
  txworker stop --grace 2 JOB                 TERM now, KILL in 2 seconds
  txworker ps --state running,failed --label night=1
  txworker wait JOB JOB && echo both are well
  txworker --json watch | jq .                every change of every job
  txworker drain --state-directory /var/lib/txworker/state --wait

exit status: 0 fine, 1 the worker refused (the sentence says why), 2 wrong usage, 69 no worker answers, or it went
away, or takes no new jobs; `run` and `wait` for one job exit with the job's exit code, or 128 + the number of the
signal that ended it; `wait --timeout` with 124 when the time is over; `run` with 141 when nobody reads its output any
more, which stops the job as Ctrl-C and the loss of the terminal do.
`txworker COMMAND --help` says what a command takes.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Says what is wrong. The text may repeat arguments, such as names of files, so it is made printable."""
        super().error(printable(message))


_Adds = Callable[[argparse.ArgumentParser], None]


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments, as the commands want them. Wrong ones end the program with status 2 and a sentence."""
    parser = _Parser(
        prog="txworker",
        description="Start, stop, query and follow jobs on a txworker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common.add_to_program(parser)
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    table: tuple[tuple[str, str, _Adds], ...] = (
        ("start", "start a job and print its id", _add_start),
        ("run", "start a job, follow its output, exit as it does; Ctrl-C stops it", _add_start),
        ("stop", "end jobs: TERM, and KILL after the grace period", _add_stop),
        ("query", "how a job stands", _add_job),
        ("stream", "a job's output, from its beginning until it is done", _add_stream),
        ("ps", "list jobs, newest first", _add_ps),
        ("wait", "wait until jobs are done", _add_wait),
        ("watch", "the jobs as they stand, then a line for every change", _add_watch),
        ("drain", "have the worker take no new jobs, and end when those it has have ended", _add_drain),
        ("handover", "have the worker end now, and leave its jobs to the next worker", _add_drain),
    )
    for name, text, add in table:
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add(command)
        common.add_to_command(command, name)
    return _checked(parser, parser.parse_args(argv))


def _add_start(parser: argparse.ArgumentParser) -> None:
    _add_pairs(parser, "--env", "in its environment")
    _add_pairs(parser, "--label", "to find it again by")
    parser.add_argument("--directory", default="", metavar="DIR", help="working directory, on the worker's machine")
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="end it when it has run so long")
    parser.add_argument("--quiet-timeout", type=seconds, metavar="SECONDS", help="end it when it is silent so long")
    parser.add_argument("--stdin", metavar="FILE", help="what it reads; '-' is our own standard input")
    parser.add_argument("--request-id", default="", metavar="ID", help="the same id again brings the same job back")
    parser.add_argument("--separate-stderr", action="store_true", help="keep stderr in a file of its own")
    parser.add_argument(
        "--leftovers",
        choices=("end", "keep"),
        default="",
        help="what becomes of processes that it leaves behind (default: as the worker has it)",
    )
    limits = parser.add_argument_group("limits", "0 or absent: the worker's default; BYTES may end in K, M, G or T")
    limits.add_argument("--max-output", type=size, default=0, metavar="BYTES", help="what it prints beyond is dropped")
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


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id")


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="a job's id")
    parser.add_argument("--grace", type=seconds, metavar="SECONDS", help="between TERM and KILL; 0: KILL at once")


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id, or a path: the newest job started with it")
    parser.add_argument("--offset", type=size, default=0, metavar="BYTES", help="begin there")
    parser.add_argument(
        "--tail", type=count, metavar="LINES", help="begin so many lines before the end; 0: only what comes from now on"
    )
    parser.add_argument("--no-follow", action="store_true", help="end at what is there now")
    parser.add_argument("--stderr", action="store_true", help="the separate stderr instead")
    parser.add_argument("--text", action="store_true", help="valid UTF-8 instead of the exact bytes")


def _add_ps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=states, action="append", default=[], metavar="STATE,...", help="such as running,failed"
    )
    _add_pairs(parser, "--label", "only jobs with it; all of several")
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="so many at most (50); 0: all")
    parser.add_argument("--quiet", "-q", action="store_true", help="only their ids")


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="a job's id")
    parser.add_argument("--timeout", type=some_seconds, metavar="SECONDS", help="give up then, with status 124")
    parser.add_argument("--quiet", "-q", action="store_true", help="print nothing")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="a job's id; ends when all are done (default: all jobs)")
    _add_pairs(parser, "--label", "only jobs with it; all of several")
    parser.add_argument("--no-finished", action="store_true", help="begin without the jobs that are done already")


def _add_drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-directory",
        type=socket_in,
        dest="addr",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help=f"the worker's: its socket {SOCKET_NAME} is there (or name that by --addr unix:PATH)",
    )
    parser.add_argument("--wait", action="store_true", help="until the worker has ended")


def _add_pairs(parser: argparse.ArgumentParser, option: str, text: str) -> None:
    parser.add_argument(option, type=pair, action=Pairs, default={}, metavar="NAME=VALUE", help=text)


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    if options.command_name in ("start", "run"):
        if options.argv[:1] == ["--"]:
            del options.argv[0]
        if not options.argv:
            parser.error("there is nothing to run: name an executable")
    common.check(parser, options)
    return options
