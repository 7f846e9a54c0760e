"""The command line `txworker`: a plain gRPC client over the same wire as everybody else's."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core reads it once, when it is imported; we say what is wrong

from txworker.cli.main import main

__all__ = ["main"]
