"""The words of the command line; what they do is in commands.py."""

from __future__ import annotations

import argparse
import os

DEFAULT_ADDR = "127.0.0.1:30000"

_EPILOG = """\
examples:
  txworker run bash scripts/count.sh          start, follow the output, exit as the job does
  txworker start --label night=1 python3 -u report.py --all
  txworker stream --tail 20 JOB               the last 20 lines, then what comes
  txworker stop --grace 2 JOB                 TERM now, KILL in 2 seconds
  txworker --json query JOB

exit status: 0 fine, 1 the worker refused (the sentence says why), 2 wrong usage, 69 no worker answers;
`run` exits with the job's exit code, or 128 + the number of the signal that ended it.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments, as commands.py wants them. Wrong ones end the program with status 2 and a sentence."""
    parser = argparse.ArgumentParser(
        prog="txworker",
        description="Start, stop, query and follow jobs on a txworker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_connection(parser)
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    _add_start(commands.add_parser("start", help="start a job and print its id"))
    _add_start(commands.add_parser("run", help="start a job, follow its output, exit as it does; Ctrl-C stops it"))
    stop = commands.add_parser("stop", help="end a job: TERM, and KILL after the grace period")
    stop.add_argument("job", metavar="JOB", help="a job's id")
    stop.add_argument("--grace", type=_seconds, metavar="SECONDS", help="between TERM and KILL; 0: KILL at once")
    query = commands.add_parser("query", help="how a job stands")
    query.add_argument("job", metavar="JOB", help="a job's id")
    _add_stream(commands.add_parser("stream", help="a job's output, from its beginning until it is done"))
    return _checked(parser, parser.parse_args(argv))


def _add_connection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--addr",
        default=os.environ.get("TXWORKER_ADDR", DEFAULT_ADDR),
        metavar="HOST:PORT",
        help=f"the worker's address (default: $TXWORKER_ADDR or {DEFAULT_ADDR})",
    )
    parser.add_argument("--tls-ca", metavar="FILE", help="PEM of the CA of the worker's certificate; turns TLS on")
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM of our own certificate, where the worker asks for one")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM of its key")
    parser.add_argument("--deadline", type=_seconds, default=10.0, metavar="SECONDS", help="for each answer (10)")
    parser.add_argument("--json", action="store_true", help="print JSON (start, stop, query)")


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--env", type=_pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--label", type=_pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--directory", default="", metavar="DIR", help="working directory, on the worker's machine")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end it when it has run so long")
    parser.add_argument("--quiet-timeout", type=_seconds, metavar="SECONDS", help="end it when it is silent so long")
    parser.add_argument("--stdin", metavar="FILE", help="what it reads; '-' is our own standard input")
    parser.add_argument("--request-id", default="", metavar="ID", help="the same id again brings the same job back")
    parser.add_argument("--separate-stderr", action="store_true", help="keep stderr in a file of its own")
    parser.add_argument(
        "argv",
        nargs=argparse.REMAINDER,
        metavar="EXECUTABLE [PATH [ARG ...]]",
        help="the worker splits EXECUTABLE into words; a relative PATH is relative to the job's directory there",
    )


def _add_stream(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help="a job's id, or a path: the newest job started with it")
    parser.add_argument("--offset", type=int, default=0, metavar="BYTES", help="begin there")
    parser.add_argument("--tail", type=int, default=0, metavar="LINES", help="begin so many lines before the end")
    parser.add_argument("--no-follow", action="store_true", help="end at what is there now")
    parser.add_argument("--stderr", action="store_true", help="the separate stderr instead")
    parser.add_argument("--text", action="store_true", help="valid UTF-8 instead of the exact bytes")


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    if options.command_name in ("start", "run"):
        if options.argv[:1] == ["--"]:
            del options.argv[0]
        if not options.argv:
            parser.error("there is nothing to run: name an executable")
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    return options


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 3e11:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
