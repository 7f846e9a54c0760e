"""The ways of being started that the worker refuses, each in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from txworker.base.logs import Logger
from txworker.base.printable import printable
from txworker.linux.signals import pending_stop

_log = Logger()


class CannotStart(SystemExit, Exception):
    """
    The worker cannot start; one printable sentence says why.

    As a SystemExit it makes a foreground twistd print the sentence and exit with status 1, without a traceback. As an
    Exception it is passed from a starting daemon to the twistd that waits for it.
    """

    __module__ = "txworker"  # twistd passes on 100 bytes of a daemon's error, and the class's full name comes first

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))

    def __str__(self) -> str:
        return str(self.code)


class StoppedEarly(CannotStart):
    """A signal ends the worker before it serves: exit status 0. An earlier worker's jobs run on for the next one."""

    __module__ = CannotStart.__module__

    def __init__(self, name: str) -> None:
        self._sentence = f"{name}: ended before serving; all jobs are left to the next worker"
        super().__init__(self._sentence)
        self.code = 0

    def __str__(self) -> str:
        return self._sentence


_REFUSED_OPTIONS = {
    "euid": "the worker could not see and end all that its jobs leave behind: use --uid alone, or jobs.user",
    "chroot": "the worker needs /proc and Python's modules below it: use a container, or systemd's RootDirectory",
    "debug": "the worker would serve while the debugger holds its reactor",
}
"""Options of twistd with which the worker could not do its work, and why."""


def check_not_stopped() -> None:
    """
    Check that the worker is still wanted. Its signals are blocked while it starts, so that none interrupts it.

    Raises:
        StoppedEarly: a signal that ends it is pending.
    """
    name = pending_stop()
    if name:
        stopped = StoppedEarly(name)
        _log.info("{sentence}.", sentence=stopped)
        raise stopped


def check_twistd(options: Mapping[str, Any]) -> None:
    """
    Check the options of twistd itself.

    Raises:
        CannotStart: the worker cannot work with one of them; the sentence names it.
    """
    for option, why in _REFUSED_OPTIONS.items():
        if options.get(option):
            raise CannotStart(f"txworker: twistd --{option}: {why}")
    for option, own in (("uid", os.geteuid()), ("gid", os.getegid())):
        wanted = options.get(option)
        if wanted is not None and wanted != own and os.geteuid() != 0:
            raise CannotStart(
                f"txworker: twistd --{option}: only root can become {option} {wanted}, this is uid {os.geteuid()}"
            )
    if getattr(sys.modules.get("twisted.internet.reactor"), "__class__", object).__name__ == "SelectReactor":
        raise CannotStart(
            "txworker: twistd --reactor=select: it knows no more than 1024 descriptors: use epoll, the default"
        )


def check_identity() -> None:
    """
    Check that the process has a single user id and a single group id.

    Raises:
        CannotStart: the real, effective and saved ids differ (credentials(7)).
    """
    for what, ids in (("user", os.getresuid()), ("group", os.getresgid())):
        if len(set(ids)) > 1:
            numbers = ", ".join(map(str, ids))
            raise CannotStart(
                f"txworker: the {what} ids of the worker differ ({numbers}; real, effective, saved): start it as one"
            )
