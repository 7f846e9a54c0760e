"""The program: options to command to exit status; every failure is one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import grpc

from txworker.cli import commands, many, output
from txworker.cli.connect import channel, with_tls
from txworker.cli.draining import drain, hand_over
from txworker.cli.failures import INTERRUPTED, REFUSED, Failed, failure
from txworker.cli.output import CannotWrite
from txworker.cli.parser import parse
from txworker.cli.running import run
from txworker.cli.starting import start
from txworker.pb.control_pb2_grpc import ControlStub
from txworker.pb.worker_pb2_grpc import WorkerStub

COMMANDS: dict[str, Callable[[Any, argparse.Namespace], int]] = {
    "start": start,
    "stop": commands.stop,
    "query": commands.query,
    "stream": commands.stream,
    "run": run,
    "ps": many.ps,
    "wait": many.wait,
    "watch": many.watch,
    "drain": drain,
    "handover": hand_over,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status. Never raises for anything a user or a worker can do."""
    output.prepare()
    options = parse(sys.argv[1:] if argv is None else argv)
    stub: type = ControlStub if options.command_name in ("drain", "handover") else WorkerStub
    try:
        with channel(options) as open_channel:
            return COMMANDS[options.command_name](stub(open_channel), options)
    except grpc.RpcError as error:
        return _sentence(failure(error, options.addr, with_tls=with_tls(options)))
    except Failed as failed:
        return 0 if isinstance(failed, CannotWrite) and failed.reader_gone else _sentence(failed)
    except UnicodeEncodeError as error:  # an argument that is no text; the wire's strings are UTF-8
        return _sentence(Failed(f"{error.object!r} is not valid UTF-8, and cannot be sent", REFUSED))
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        return _sentence(Failed(f"{named}{error.strerror or error}", REFUSED))
    except KeyboardInterrupt:
        return INTERRUPTED


def _sentence(failed: Failed) -> int:
    output.complain(str(failed))
    return failed.status
