"""The syntax of the command line. The commands themselves are in the modules *_command(s).py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from txworker.base.printable import printable
from txworker.cli import common, console
from txworker.cli.examples import EXAMPLES, lines_of, one_of_each
from txworker.cli.job_options import add_pairs, add_run, add_start
from txworker.cli.live_usage import SORT_KEYS
from txworker.cli.values import (
    SOCKET_NAME,
    Pairs,
    address,
    count,
    listen_address,
    names,
    pair_or_name,
    positive_seconds,
    seconds,
    signal_number,
    size,
    socket_in,
    states,
    time_or_ago,
)

_EPILOG = f"""\
examples:
{one_of_each()}

exit status: 0 success, 1 the worker refused (an error says why), 2 wrong usage, 69 no worker answers, or it takes no
new jobs; `wait` for one job exits with the job's exit code, or 128 + the number of the signal that ended it, and with
124 after --timeout.
`run` exits as its job does, too; with 125 when the worker refused the job or could not be reached, 126 when it may not
execute it, 127 when it has no such executable, 141 when the reader of its output is gone. Ctrl-C, Ctrl-\\, the loss of
the terminal and that of the reader stop its job. Standard input is the job's where it is a pipe or a file.
A worker that goes away is waited for (--patience), and what was under way goes on where it was.
`txworker help COMMAND` lists the options of a command.
"""


SHELLS = ("bash", "zsh", "fish")
"""The shells that `txworker completion` prints a script for."""

_JOB = "a job's id, or the beginning of it (4 characters or more)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the error in one line, escaped because it may repeat arguments, and exit with status 2."""
        console.print_on_stderr(f"{self.prog}: error: {printable(message)} ({self.prog} --help shows the usage)")
        self.exit(2)

    def print_help(self, file: object = None) -> None:
        """
        On stdout.

        Raises:
            Failed: it cannot be written. argparse would be silent about that.
        """
        console.print_text(self.format_help())


_AddOptions = Callable[[argparse.ArgumentParser], None]


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the arguments. Exits with status 2 and a sentence when they are wrong."""
    parser = program()
    options, unknown = parser.parse_known_args(argv)
    command = commands_of(parser)[options.command_name]
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    return _checked(command, options)


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands, by their names."""
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def program() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="txworker",
        description="Start, stop, query and follow jobs on a txworker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common.add_to_program(parser)
    commands = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    for name, text, add in _commands():
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"examples:\n{lines_of(EXAMPLES[name])}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(command)
        common.add_to_command(command, name)
    return parser


def _commands() -> tuple[tuple[str, str, _AddOptions], ...]:
    """Each command: its name, what --help says of it, and what adds its options."""
    return (
        ("start", "start a job and print its id", add_start),
        ("run", "start a job, follow its output, exit as it does; Ctrl-C stops it", add_run),
        ("stop", "end jobs: TERM, and KILL after the grace period", _add_stop),
        ("kill", "end jobs by KILL, at once; or send them another signal", _add_kill),
        ("renew", "renew the leases of jobs that were started with --lease", _add_jobs),
        ("query", "print the main fields of jobs' records", _add_jobs),
        ("inspect", "print all of jobs' records, with how they were started", _add_jobs),
        (
            "stream",
            "print a job's output from its beginning until it is done; of several jobs, line by line",
            _add_stream,
        ),
        ("logs", "print what jobs have printed until now; with -f, until they are done", _add_logs),
        ("ps", "list jobs, newest first", _add_ps),
        ("wait", "wait until jobs are done", _add_wait),
        ("watch", "print all jobs, then a line for every change", _add_watch),
        ("top", "show what running jobs use: CPU and memory, each with all of its processes", _add_top),
        ("drain", "make the worker refuse new jobs, and end after its last job", _add_drain),
        ("handover", "make the worker end now, and leave its jobs to the next worker", _add_drain),
        ("reload", "make the worker read its configuration again, and print what changes", _add_state_directory),
        ("check", "print what `txworker reload` would change; nothing is changed", _add_state_directory),
        ("health", "tell whether the worker takes new jobs, for probes", _add_health),
        ("web", "serve a page that shows jobs in a browser", _add_web),
        ("completion", "print the completion script of a shell", _add_completion),
        ("help", "print what --help prints: of the program, or of a command", _add_help),
    )


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help=_JOB)


def _add_stop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--grace", type=seconds, metavar="SECONDS", help="between TERM and KILL; 0: KILL at once")
    _add_to_be_ended(parser)
    parser.set_defaults(signal=None)


def _add_kill(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--signal",
        "-s",
        type=signal_number,
        metavar="SIGNAL",
        help="only send this signal to the job's process group: a name such as HUP or SIGHUP, or a number; a job that "
        "ends by it was not stopped",
    )
    _add_to_be_ended(parser)
    parser.set_defaults(grace=0.0)


def _add_to_be_ended(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=_JOB)
    add_pairs(parser, "--label", "instead of JOB: the unfinished jobs with this label; if repeated, with all of them")
    parser.add_argument("--all", action="store_true", help="instead of JOB: all unfinished jobs")
    parser.add_argument("--wait", action="store_true", help="return when the jobs are done")


def _add_stream(parser: argparse.ArgumentParser) -> None:
    _add_output(parser)
    parser.add_argument(
        "--no-follow", dest="follow", action="store_false", help="stop at the current end of the output"
    )


def _add_logs(parser: argparse.ArgumentParser) -> None:
    _add_output(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the jobs are done")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help=f"{_JOB}, or a path: the newest job started with it")
    parser.add_argument("--offset", type=size, default=0, metavar="BYTES", help="begin at this offset")
    parser.add_argument(
        "--tail", type=count, metavar="LINES", help="begin with the last LINES lines; 0: only new output"
    )
    parser.add_argument(
        "--since",
        type=time_or_ago,
        metavar="TIME",
        help="only of jobs that were not done at that time (1h30m before now, or a time): all that those have printed, "
        "because the worker does not record when a byte was printed",
    )
    parser.add_argument("--stderr", action="store_true", help="print the separate stderr instead")
    parser.add_argument("--text", action="store_true", help="print valid UTF-8 instead of the exact bytes")


def _add_ps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", type=states, action="append", default=[], metavar="STATE,...", help="such as running,failed"
    )
    parser.add_argument(
        "--label",
        type=pair_or_name,
        action=Pairs,
        default={},
        metavar="NAME[=VALUE]",
        help="only jobs with this label, with any value if none is given; if repeated, with all of them",
    )
    _add_label_column(parser)
    parser.add_argument(
        "--since", type=time_or_ago, metavar="TIME", help="only jobs created since: 1h30m before now, or a time"
    )
    parser.add_argument("--until", type=time_or_ago, metavar="TIME", help="only jobs created before this time")
    _add_no_trunc(parser)
    _add_all_workers(parser)
    parser.add_argument("--limit", type=count, default=50, metavar="N", help="at most N jobs (50); 0: all")
    parser.add_argument("--quiet", "-q", action="store_true", help="print only ids")


def _add_label_column(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label-column",
        "-L",
        type=names,
        action="append",
        default=[],
        metavar="NAME,...",
        help="a column with the value of this label; one for each of several",
    )


def _add_no_trunc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids on a terminal, too")


def _add_all_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all-workers", action="store_true", help="ask every worker of client.toml at once")


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="+", metavar="JOB", help=_JOB)
    parser.add_argument(
        "--timeout", type=positive_seconds, metavar="SECONDS", help="give up after this time, with status 124"
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print nothing")


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"{_JOB}; ends when all are done (default: all jobs)")
    _add_no_trunc(parser)
    _add_all_workers(parser)
    add_pairs(parser, "--label", "only jobs with this label; if repeated, with all of them")
    parser.add_argument("--no-finished", action="store_true", help="leave out jobs that are done already")


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"{_JOB}; ends when all are done (default: all jobs)")
    parser.add_argument(
        "--interval", type=positive_seconds, default=2.0, metavar="SECONDS", help="between two samples (2)"
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print one table and end; the default with --json, and if stdout is not a terminal",
    )
    parser.add_argument(
        "--sort",
        choices=tuple(SORT_KEYS),
        default="cpu",
        help="the column to sort by, largest first; a key on the screen changes it",
    )
    add_pairs(parser, "--label", "only jobs with this label; if repeated, with all of them")
    _add_label_column(parser)
    _add_no_trunc(parser)
    _add_all_workers(parser)


def _add_drain(parser: argparse.ArgumentParser) -> None:
    _add_state_directory(parser)
    parser.add_argument("--wait", action="store_true", help="wait until the worker has ended")


def _add_health(parser: argparse.ArgumentParser) -> None:
    _add_state_directory(parser)
    parser.add_argument(
        "--live", action="store_true", help="only whether it answers: 0 also when it drains, or its disk is full"
    )


def _add_state_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-directory",
        type=socket_in,
        dest="addr",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help=f"the worker's state directory, with its socket {SOCKET_NAME} (or use --addr unix:PATH)",
    )


def _add_web(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "workers", nargs="*", type=address, metavar="HOST:PORT", help="workers to show (default: that of --addr)"
    )
    _add_all_workers(parser)
    parser.add_argument(
        "--listen",
        type=listen_address,
        default=listen_address("127.0.0.1:30080"),
        metavar="HOST:PORT",
        help="the address to serve the page at (127.0.0.1:30080); port 0: any free one",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a further host name of the page, beside that of --listen; may be repeated",
    )
    parser.add_argument("--allow-stop", action="store_true", help="let the page stop jobs; otherwise it is read-only")
    tls = parser.add_argument_group("beyond this machine", "a --listen that is not loopback needs all three")
    tls.add_argument("--web-cert", metavar="FILE", help="PEM of the page's certificate, with its chain")
    tls.add_argument("--web-key", metavar="FILE", help="PEM of its key")
    tls.add_argument("--client-ca", metavar="FILE", help="PEM of the CA of the browsers' certificates")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)
    parser.add_argument("--words", choices=("jobs", "workers"), help=argparse.SUPPRESS)  # asked by the script itself
    parser.add_argument("--line", default="", help=argparse.SUPPRESS)


def _add_help(parser: argparse.ArgumentParser) -> None:
    names = [name for name, _, _ in _commands()]
    parser.add_argument("topic", nargs="?", choices=names, metavar="COMMAND", help="one of this program's commands")


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    if options.command_name in ("start", "run"):
        if options.argv[:1] == ["--"]:
            del options.argv[0]
        if not options.argv:
            parser.error("there is nothing to run: name an executable")
    if options.command_name == "web" and options.workers and (options.addr or options.worker or options.all_workers):
        parser.error("give addresses of workers, or --addr, --worker or --all-workers, not both")
    if options.command_name == "run" and options.tty and (options.stdin or options.separate_stderr):
        other = "--stdin" if options.stdin else "--separate-stderr"
        parser.error(f"--tty: the job's terminal is its input and output, so no {other}")
    if (
        options.command_name in ("stop", "kill")
        and [bool(options.jobs), bool(options.label), options.all].count(True) != 1
    ):
        parser.error("jobs are named by JOB, by --label or by --all, and by only one of these")
    common.check(parser, options)
    return options
