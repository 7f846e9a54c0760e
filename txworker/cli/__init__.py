"""The command line `txworker`, a gRPC client of the worker's public service."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it when it is imported; we print errors ourselves

from txworker.cli.main import main

__all__ = ["main"]
