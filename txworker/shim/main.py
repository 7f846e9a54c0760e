"""
The shim as a program: `python -I -S main.py VERSION`, with the bound socket as descriptor 3, and the
state directory, where its name is, as descriptor 4.

It is run by its path, because an isolated Python finds no packages. All that it needs is imported at the start,
because an upgrade may replace the files while the shim runs.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from txworker.linux.clone import NEVER_SWITCH_SECONDS
from txworker.linux.rlimits import raise_descriptor_limit
from txworker.linux.signals import default_internal_signals
from txworker.linux.threads import become_subreaper, set_name
from txworker.shim.loop import Loop
from txworker.shim.reachability import Reachability
from txworker.shim.spawn_thread import SpawnThread

_LISTENER = 3
_STATE_DIRECTORY = 4
_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def main() -> None:
    """Run until there are neither jobs nor a worker."""
    for number in _IGNORED:  # a terminal or a service manager that signals the worker must not end its jobs
        signal.signal(number, signal.SIG_IGN)
    default_internal_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.getpid() != os.getsid(0):
        os.setsid()
    os.chdir("/")
    set_name("txworker-shim")
    sys.setswitchinterval(NEVER_SWITCH_SECONDS)  # both threads release Python's lock at system calls
    raise_descriptor_limit()
    become_subreaper()
    listener = socket.socket(fileno=_LISTENER)
    listener.set_inheritable(False)
    os.set_inheritable(_STATE_DIRECTORY, False)
    thread = SpawnThread()
    thread.start()
    gc.freeze()
    Loop(listener, Reachability(_STATE_DIRECTORY), thread, sys.argv[1]).run()


if __name__ == "__main__":
    main()
