"""What the worker's process was started with, which the rest of the worker is handed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from txworker.daemon.log_output import LogOutput
from txworker.daemon.notify import Notifier


@dataclass(frozen=True)
class StartContext:
    """
    environment, umask: what jobs inherit.
    directory: the current directory at the start; twistd's --rundir may have changed it since.
    log_output: where the log goes; of no effect where twistd made its own (--syslog).
    notifier: tells the service manager, if there is one.
    """

    environment: Mapping[str, str]
    umask: int
    directory: Path
    log_output: LogOutput
    notifier: Notifier
