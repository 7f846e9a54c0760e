"""The command line `txworker`: a plain gRPC client over the same wire as everybody else's."""

from txworker.cli.main import main

__all__ = ["main"]
