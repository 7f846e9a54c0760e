"""The program: options to command to exit status; every failure is one sentence."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

import grpc

from txworker.cli import commands, many
from txworker.cli.connect import channel, with_tls
from txworker.cli.draining import drain
from txworker.cli.failures import INTERRUPTED, REFUSED, Failed, failure
from txworker.cli.parser import parse
from txworker.pb.control_pb2_grpc import ControlStub
from txworker.pb.worker_pb2_grpc import WorkerStub

COMMANDS: dict[str, Callable[[Any, argparse.Namespace], int]] = {
    "start": commands.start,
    "stop": commands.stop,
    "query": commands.query,
    "stream": commands.stream,
    "run": commands.run,
    "ps": many.ps,
    "wait": many.wait,
    "watch": many.watch,
    "drain": drain,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status. Never raises for anything a user or a worker can do."""
    options = parse(sys.argv[1:] if argv is None else argv)
    stub: type = ControlStub if options.command_name == "drain" else WorkerStub
    try:
        with channel(options) as open_channel:
            status = COMMANDS[options.command_name](stub(open_channel), options)
            sys.stdout.flush()
            return status
    except grpc.RpcError as error:
        return _sentence(failure(error, options.addr, with_tls=with_tls(options)))
    except Failed as failed:
        return _sentence(failed)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except UnicodeEncodeError as error:  # an argument that is no text; the wire's strings are UTF-8
        return _sentence(Failed(f"{error.object!r} is not valid UTF-8, and cannot be sent", REFUSED))
    except OSError as error:
        return _sentence(Failed(f"{error.filename or 'no luck'}: {error.strerror or error}", REFUSED))
    except KeyboardInterrupt:
        return INTERRUPTED


def _sentence(failed: Failed) -> int:
    print(f"txworker: {failed}", file=sys.stderr)
    return failed.status
