"""
The tests. Every runner imports this module first, so here signals get the dispositions that a terminal gives.

What a shell runs in its background has SIGINT and SIGQUIT ignored, and what nohup runs SIGHUP; so would have every
command that a test interrupts.

gRPC is told to leave forks alone: in a child that is to execute another program it starts threads again, which abort
when the child's descriptors are set.
"""

from __future__ import annotations

import os
import signal

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # before gRPC is imported
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
