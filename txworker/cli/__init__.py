"""The command line `txworker`, a gRPC client of the worker's public service."""

import os
import signal
import threading

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reads it when it is imported; we print errors ourselves

# A Ctrl-C while the modules are imported ends the program without a traceback.
_interruptible = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _interruptible:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from txworker.cli.main import main  # noqa: E402  # after what must come before it

if _interruptible:
    signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["main"]
