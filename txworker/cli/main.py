"""The program: options to command to exit status; every failure is one sentence."""

from __future__ import annotations

import os
import sys

import grpc

from txworker.cli.commands import COMMANDS
from txworker.cli.connect import channel
from txworker.cli.parser import parse
from txworker.pb.worker_pb2_grpc import WorkerStub

REFUSED = 1
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status. Never raises for anything a user or a worker can do."""
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        with channel(options) as open_channel:
            return COMMANDS[options.command_name](WorkerStub(open_channel), options)
    except grpc.RpcError as error:
        return _refused(error, options.addr)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as error:
        return _sentence(f"{error.filename}: {error.strerror}", REFUSED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _refused(error: grpc.RpcError, addr: str) -> int:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE and "stopping" not in details:
        return _sentence(f"no worker answers at {addr}: {details}", UNREACHABLE)
    return _sentence(f"{details} ({code.name})", REFUSED)


def _sentence(text: str, status: int) -> int:
    print(f"txworker: {text}", file=sys.stderr)
    return status
