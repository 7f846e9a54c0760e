"""
The environment that a job's process is given: the worker's, as its spawner gave it, made true for the job.

What speaks of the worker's own process (its directory, its service manager's socket) would be untrue in a job; where
jobs run as another user, so would what speaks of the user that started the worker.
"""

from __future__ import annotations

import os
import pwd
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from txworker.jobs import JOB_ID_VARIABLE, JobSpec

_OF_THE_WORKER = frozenset(
    {
        "OLDPWD",
        "PWD",
        "_",
        # systemd's, to the process that it started (sd_notify(3), sd_listen_fds(3), systemd.exec(5))
        "FDSTORE",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "MAINPID",
        "NOTIFY_SOCKET",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)

_OF_A_USER = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "DISPLAY",
        "DOAS_USER",
        "HISTFILE",
        "HOME",
        "HUSHLOGIN",
        "ICEAUTHORITY",
        "KRB5CCNAME",
        "LOGNAME",
        "MAIL",
        "MAILCHECK",
        "MAILPATH",
        "PKEXEC_UID",
        "SHELL",
        "USER",
        "USERNAME",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
    }
)
_BY_DEFAULT = {"PYTHONUNBUFFERED": "1"}
_OF_A_USERS_SESSION = ("DBUS_", "GPG_", "SSH_", "SUDO_", "XDG_")


def environment_as_started(path: str = "/proc/self/environ") -> dict[str, str]:
    """
    This process's environment as its spawner gave it, without what Python has added since (LC_CTYPE: PEP 538).

    Where /proc does not show it, as it is now.
    """
    try:
        entries = Path(path).read_bytes().split(b"\0")
    except OSError:
        entries = []
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if name and equals:
            found.setdefault(os.fsdecode(name), os.fsdecode(value))
    return found or dict(os.environ)


def base_environment(
    started: Mapping[str, str], directory: str, account: pwd.struct_passwd | None = None
) -> dict[str, str]:
    """
    What every job inherits that runs in `directory`: `started`, made true; account: the user that jobs run as, where
    one is named. What speaks of the worker's user is left out only where that is another one.
    """
    base = {name: value for name, value in started.items() if name not in _OF_THE_WORKER}
    if account is not None and account.pw_uid != os.getuid():
        base = {
            name: value
            for name, value in base.items()
            if name not in _OF_A_USER and not name.startswith(_OF_A_USERS_SESSION)
        }
    if account is not None:
        shell = account.pw_shell or "/bin/sh"
        base |= {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": shell}
    place = _logical(directory)
    return base if place is None else base | {"PWD": place}


def with_configured(base: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """
    The base with the variables of jobs.environment, which replace inherited ones.

    PYTHONUNBUFFERED=1 is set unless one of the two has that variable: what a Python program has printed to a pipe would
    otherwise stay in its buffer, and is lost when the job is stopped. Python takes an empty value as unset.
    """
    return {**_BY_DEFAULT, **base, **configured}


def environment(base: Mapping[str, str], spec: JobSpec, job_id: str, directory: str) -> Mapping[str, str]:
    """
    The base, what the order adds to it, and the mark by which the job can be told. directory: where the job runs.

    `base` is the last map of a ChainMap as it is, not a copy: so a form of it may be made once for all jobs. A plain
    dictionary comes back where something of it does not hold for the job.
    """
    added = {**spec.env, JOB_ID_VARIABLE: job_id}
    place = _logical(directory) if spec.directory else base.get("PWD")
    if place is None and "PWD" in base and "PWD" not in added:
        return {**{name: value for name, value in base.items() if name != "PWD"}, **added}
    if place is not None and place != base.get("PWD"):
        added.setdefault("PWD", place)
    return ChainMap(added, base)  # type: ignore[arg-type]  # nothing writes into the last map


def _logical(directory: str) -> str | None:
    """The path as PWD has it; None where `..` may lead through a link, which only the disk could tell."""
    parts = [part for part in directory.split("/") if part not in ("", ".")]
    return None if ".." in parts or not directory.startswith("/") else "/" + "/".join(parts)
