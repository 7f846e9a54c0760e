"""
The program that the reactor starts where there is no shim: it prepares its own process, then executes the job.

Twisted starts a process in the worker's own session, and forks when it is given a directory. So it starts this program,
by its path (`python -I -S bootstrap.py`), and this program does both. It imports the standard library and
txworker.linux only. It reads the request as JSON from descriptor 4, and writes to descriptor 3, which closes at the
exec: STARTING right before the exec, then what failed, if anything does.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import struct
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from txworker.linux.executables import execute
from txworker.linux.rlimit_tag import as_limits
from txworker.linux.signals import default_dispositions, default_internal_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPORT, REQUEST = 3, 4
STARTING, FAILED = b".", b"!"
NUMBER = struct.Struct("i")
"""The errno after FAILED; then comes the step, in UTF-8."""


def main() -> None:
    """Read the request and execute the job, or report what failed."""
    os.set_inheritable(REPORT, False)
    with open(REQUEST, encoding="ascii") as file:
        request = json.load(file)
    step = ["session"]
    try:
        _become(request, step)
    except Exception as error:  # whatever it is, the worker must be told that there is no job
        number = error.errno if isinstance(error, OSError) else None
        os.write(REPORT, FAILED + NUMBER.pack(number or errno.EINVAL) + step[0].encode())
    os._exit(127)


def _become(request: dict[str, Any], step: list[str]) -> None:
    """Do every step, then execute the job; step[0] is the name of the current step."""
    os.setsid()
    step[0] = "limits"
    for _, number, soft, hard in as_limits(request["tag"]):
        resource.setrlimit(number, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["descriptor_limit"]))
    step[0] = "oom_score_adj"
    if request["oom_score_adj"]:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(request["oom_score_adj"]))
    step[0] = "descriptors"
    if not request["separate_stderr"]:
        os.dup2(1, 2)
    os.umask(request["umask"])
    step[0] = "directory"
    if request["directory"] is not None:
        os.chdir(request["directory"])
    step[0] = "command"
    default_dispositions()
    default_internal_signals()
    os.write(REPORT, STARTING)
    execute(request["argv"], request["env"])


if __name__ == "__main__":
    main()
