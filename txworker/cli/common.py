"""The options of every command: the worker's address, TLS, deadline, JSON. Allowed before and after the command."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
from typing import Any

from txworker.cli import console
from txworker.cli.colours import WHEN
from txworker.cli.profiles import Profile, WrongProfiles, chosen, profiles_path
from txworker.cli.values import address, names, patience, positive_seconds

DEFAULT_ADDR = "127.0.0.1:30000"
ENVIRONMENT_VARIABLE = "TXWORKER_ADDR"
TLS_VARIABLES = {"tls_ca": "TXWORKER_TLS_CA", "tls_cert": "TXWORKER_TLS_CERT", "tls_key": "TXWORKER_TLS_KEY"}

FOR_SEVERAL = ("ps", "watch", "top", "web")
"""Commands that can ask several workers at once."""

LOCAL = ("completion", "help")
"""Commands that ask no worker: what the environment says of one does not matter to them."""

OPERATOR = ("drain", "handover", "reload", "check")
"""Commands that a worker takes only on the socket in its state directory."""

COPYING = ("run", "stream", "logs")
"""Commands that copy a job's output unchanged, so --json does not apply."""


class Version(argparse.Action):
    """Prints the version and exits."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        try:
            console.print_lines(f"txworker {importlib.metadata.version('txworker')}")
        except importlib.metadata.PackageNotFoundError:
            console.print_lines("txworker, version unknown: it is not installed")
        parser.exit()


def add_to_program(parser: argparse.ArgumentParser) -> None:
    """Add the options before the command, with their defaults."""
    add_to_line(parser)
    parser.add_argument("--version", action=Version, nargs=0, help="print the version of this program")


def add_to_line(parser: argparse.ArgumentParser) -> None:
    """Add the options that may stand anywhere in a line, for a parser that only finds out which worker is meant."""
    _add(parser, addr=None, deadline=10.0, json=False, file=None, wait=None, color="auto")


def add_to_command(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the options after the command, without defaults, so that they override only if given (argparse.SUPPRESS)."""
    none = argparse.SUPPRESS
    json_help = none if name in COPYING else None
    _add(parser, addr=none, deadline=none, json=none, file=none, wait=none, color=none, json_help=json_help)


def _add(
    parser: argparse.ArgumentParser,
    addr: Any,
    deadline: Any,
    json: Any,
    file: Any,
    wait: Any,
    color: Any,
    json_help: str | None = None,
) -> None:
    group = parser.add_argument_group("the worker, and how it is asked")
    _add_worker(group, addr, wait, file)
    _add_answers(group, deadline, wait, json, color, json_help)


def _add_worker(group: argparse._ArgumentGroup, addr: Any, worker: Any, file: Any) -> None:
    """Add the options that name the worker. The values are their defaults."""
    group.add_argument(
        "--addr",
        type=address,
        default=addr,
        metavar="HOST:PORT",
        help=f"the worker's address, or unix:PATH of its socket (default: ${ENVIRONMENT_VARIABLE} or {DEFAULT_ADDR})",
    )
    group.add_argument(
        "--worker",
        type=names,
        default=worker,
        metavar="NAME",
        help="a worker of $XDG_CONFIG_HOME/txworker/client.toml, with its address and TLS files; ps, top, watch and "
        "web take several: NAME,NAME",
    )
    group.add_argument(
        "--tls-ca",
        default=file,
        metavar="FILE",
        help="PEM of the CA of the worker's certificate; turns TLS on "
        f"(default: ${TLS_VARIABLES['tls_ca']}; for the next two, too: _CERT, _KEY)",
    )
    group.add_argument(
        "--tls-cert",
        default=file,
        metavar="FILE",
        help="PEM of the client's own certificate, if the worker requires one",
    )
    group.add_argument("--tls-key", default=file, metavar="FILE", help="PEM of its key")


def _add_answers(
    group: argparse._ArgumentGroup, deadline: Any, wait: Any, json: Any, color: Any, json_help: str | None
) -> None:
    """Add the options for waiting and for printing. The values are their defaults."""
    group.add_argument(
        "--deadline",
        type=positive_seconds,
        default=deadline,
        metavar="SECONDS",
        help="how long to wait for each answer (10)",
    )
    group.add_argument(
        "--patience",
        type=patience,
        default=wait,
        metavar="SECONDS",
        help="how long to wait for a worker that restarts or cannot be reached (60; 2 before its first answer); "
        "inf: for ever",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=json,
        help=json_help or "print JSON, one object on a line for each answer or job",
    )
    group.add_argument(
        "--color",
        choices=WHEN,
        default=color,
        metavar="WHEN",
        help="auto: colours on a terminal, unless $NO_COLOR is set (the default); always; never",
    )


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Check options that depend on each other, and fill in the address. Exits with status 2 when they are wrong."""
    if options.json and options.command_name in COPYING:
        parser.error(f"--json: `{options.command_name}` copies a job's output as it is")
    every = getattr(options, "all_workers", False)
    if every or options.worker:
        _choose_workers(parser, options, [] if every else options.worker)
        return
    options.profiles = []
    if options.command_name in LOCAL:
        return
    for name, variable in TLS_VARIABLES.items():
        if getattr(options, name) is None:
            setattr(options, name, os.environ.get(variable) or None)
    if bool(options.tls_cert) != bool(options.tls_key):
        parser.error("--tls-cert and --tls-key go together")
    if options.addr is None:
        options.addr = _from_environment(parser)
    if options.command_name in OPERATOR and not options.addr.startswith("unix:"):
        parser.error("the worker takes this only on its own socket: give --state-directory DIR, or --addr unix:PATH")


def _choose_workers(parser: argparse.ArgumentParser, options: argparse.Namespace, names: list[str]) -> None:
    """Fill in addresses and TLS files from client.toml; those of a single worker as if they were given by options."""
    if options.addr or options.tls_ca or options.tls_cert or options.tls_key:
        parser.error("--worker and --all-workers take the address and TLS files from client.toml")
    if len(names) > 1 and options.command_name not in FOR_SEVERAL:
        parser.error(f"--worker: `{options.command_name}` asks one worker, not {len(names)}")
    try:
        options.profiles = chosen(profiles_path(), names)
    except WrongProfiles as error:
        parser.error(str(error))
    use_profile(options, options.profiles[0])


def use_profile(options: argparse.Namespace, profile: Profile) -> argparse.Namespace:
    """A copy of the options that names this worker."""
    for name in ("addr", *TLS_VARIABLES):
        setattr(options, name, getattr(profile, name))
    return options


def _from_environment(parser: argparse.ArgumentParser) -> str:
    try:
        return address(os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ADDR)
    except argparse.ArgumentTypeError as error:
        parser.error(f"${ENVIRONMENT_VARIABLE}: {error}")
