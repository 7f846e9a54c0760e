"""
What the reactor executes where there is no shim: makes a job's process of itself, then executes the job.

Twisted starts a process in the worker's own session, and forks where it is given a directory. So it starts this program
by its path (`python -I -S bootstrap.py`), standard library and txworker.linux only: the order is JSON in descriptor 4;
through descriptor 3, which closes at the exec, goes STARTING right before it, and what failed, if anything does.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from txworker.linux.executables import execute
from txworker.linux.rlimit_tag import as_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPORT, ORDER = 3, 4
STARTING, FAILED = b".", b"!"
NUMBER = struct.Struct("i")
"""The errno after FAILED; then comes the step, in UTF-8."""


def main() -> None:
    """Become the job."""
    os.set_inheritable(REPORT, False)
    with open(ORDER, encoding="ascii") as file:
        order = json.load(file)
    step = ["session"]
    try:
        _become(order, step)
    except Exception as error:  # whatever it is, there is no job, and the worker must hear so
        number = error.errno if isinstance(error, OSError) else None
        os.write(REPORT, FAILED + NUMBER.pack(number or errno.EINVAL) + step[0].encode())
    os._exit(127)


def _become(order: dict[str, Any], step: list[str]) -> None:
    """Every step, then the job itself; step[0] is the name of the one that is under way."""
    os.setsid()
    step[0] = "limits"
    for _, number, soft, hard in as_limits(order["tag"]):
        resource.setrlimit(number, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(order["descriptor_limit"]))
    step[0] = "oom_score_adj"
    if order["oom_score_adj"]:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(order["oom_score_adj"]))
    step[0] = "descriptors"
    if not order["separate_stderr"]:
        os.dup2(1, 2)
    os.umask(order["umask"])
    step[0] = "directory"
    if order["directory"] is not None:
        os.chdir(order["directory"])
    step[0] = "command"
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.write(REPORT, STARTING)
    execute(order["argv"], order["env"])


if __name__ == "__main__":
    main()
