"""The program: parses the options and runs the command. Every failure is one sentence and an exit status."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable

import grpc

from txworker.base import standard_streams
from txworker.cli import console, list_commands, several_workers
from txworker.cli.completion_command import completion
from txworker.cli.connect import channel, connect, with_tls
from txworker.cli.console import CannotWrite
from txworker.cli.failures import INTERRUPTED, NOT_RUN, REFUSED, Failed, failure, unsendable
from txworker.cli.health_command import health
from txworker.cli.help_command import show_help
from txworker.cli.operator_commands import check, drain, hand_over, reload
from txworker.cli.parser import parse
from txworker.cli.query_command import inspect, query
from txworker.cli.renew_command import renew
from txworker.cli.run_command import run
from txworker.cli.start_command import start
from txworker.cli.stop_command import stop
from txworker.cli.stream_command import stream
from txworker.cli.top_command import top
from txworker.cli.web_command import web
from txworker.client import Client, WorkerError
from txworker.client.errors import error_of
from txworker.pb.control_pb2_grpc import ControlStub

_JOIN_SECONDS = 1.0
"""A thread that waits for the user's standard input ends later, or never."""

COMMANDS: dict[str, Callable[[Client, argparse.Namespace], int]] = {
    "start": start,
    "stop": stop,
    "kill": stop,
    "renew": renew,
    "query": query,
    "inspect": inspect,
    "stream": stream,
    "logs": stream,
    "run": run,
    "ps": list_commands.ps,
    "wait": list_commands.wait,
    "watch": list_commands.watch,
}
CONTROL_COMMANDS: dict[str, Callable[[ControlStub, argparse.Namespace], int]] = {
    "drain": drain,
    "handover": hand_over,
    "reload": reload,
    "check": check,
}
"""Commands for the worker that runs now; they do not wait for another one."""

CHANNEL_COMMANDS: dict[str, Callable[[grpc.Channel, argparse.Namespace], int]] = {"health": health}
"""The same, by services other than the worker's own."""

LOCAL_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"completion": completion, "help": show_help}
"""Commands that ask no worker."""

OWN_CLIENTS: dict[str, Callable[[argparse.Namespace], int]] = {"top": top, "web": web}
"""Commands that make a client for each worker themselves, even for one."""


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit status; errors of the user or of a worker are printed, not raised."""
    try:
        console.prepare()
        return _call(parse(sys.argv[1:] if argv is None else argv))
    except Failed as failed:  # of --help and --version
        return _end_failed(failed)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a further Ctrl-C ends the program that is ending, silently
        _join_threads()
        standard_streams.finish()


def _call(options: argparse.Namespace) -> int:
    refused = NOT_RUN if options.command_name == "run" else REFUSED  # status 1 of `run` would be the job's own
    try:
        return _command(options)
    except grpc.RpcError as error:
        return _print_failure(failure(error_of(error), options.addr, with_tls=with_tls(options)))
    except WorkerError as error:
        return _print_failure(failure(error, options.addr, with_tls=with_tls(options)))
    except Failed as failed:
        failed.status = refused if failed.status == REFUSED else failed.status
        return _end_failed(failed)
    except UnicodeEncodeError as error:
        return _print_failure(Failed(str(unsendable(error)), refused))
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _print_failure(Failed(f"{named}{error.strerror or error}", refused))


def _command(options: argparse.Namespace) -> int:
    if options.command_name in LOCAL_COMMANDS:
        return LOCAL_COMMANDS[options.command_name](options)
    if options.command_name in CHANNEL_COMMANDS:
        with channel(options) as open_channel:
            return CHANNEL_COMMANDS[options.command_name](open_channel, options)
    if options.command_name in CONTROL_COMMANDS:
        with channel(options) as open_channel:
            return CONTROL_COMMANDS[options.command_name](ControlStub(open_channel), options)
    if options.command_name in OWN_CLIENTS:
        return OWN_CLIENTS[options.command_name](options)
    if len(options.profiles) > 1:
        return several_workers.COMMANDS[options.command_name](options)
    with connect(options) as client:
        return COMMANDS[options.command_name](client, options)


def _join_threads() -> None:
    """
    Let the threads of closed clients end. Python kills daemon threads at its end wherever they are, and one that is
    killed while it holds a lock of gRPC's can keep the program from ending.
    """
    end = time.monotonic() + _JOIN_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(max(0.0, end - time.monotonic()))


def _end_failed(failed: Failed) -> int:
    """A reader that has gone, as `head` does, wants to hear no more."""
    return 0 if isinstance(failed, CannotWrite) and failed.reader_gone else _print_failure(failed)


def _print_failure(failed: Failed) -> int:
    console.print_error(str(failed))
    return failed.status
