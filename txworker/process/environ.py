"""
The environment of a job's process: the one that the worker was started with, changed where it would be wrong in a job.

Variables about the worker's own process (its directory, its service manager's socket) would be wrong in a job. Where
jobs run as another user, so would variables about the user that started the worker.
"""

from __future__ import annotations

import os
import pwd
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from txworker.jobs import JOB_ID_VARIABLE, JobSpec

OF_THE_SERVICE_MANAGER = frozenset(
    {
        "CACHE_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "FDSTORE",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LISTEN_FDNAMES",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LOGS_DIRECTORY",
        "MAINPID",
        "MANAGERPID",
        "MANAGERPIDFDID",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "NOTIFY_SOCKET",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "SYSTEMD_EXEC_PID",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    }
)
"""What systemd says to the process that it starts (sd_notify(3), sd_listen_fds(3), systemd.exec(5))."""

_OF_THE_WORKER = frozenset({"OLDPWD", "PWD", "_"}) | OF_THE_SERVICE_MANAGER

_OF_A_USER = frozenset(
    {
        "CREDENTIALS_DIRECTORY",
        "DISPLAY",
        "DOAS_USER",
        "GNOME_KEYRING_CONTROL",
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
        "SESSION_MANAGER",
        "SHELL",
        "USER",
        "USERNAME",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
    }
)
_BY_DEFAULT = {"PYTHONUNBUFFERED": "1"}
TERMINAL_TYPE = "xterm"
"""TERM of a job with a pseudo-terminal, unless its request says more: the worker's own is of another terminal."""

_OF_A_USERS_SESSION = ("DBUS_", "GPG_", "PULSE_", "SSH_", "SUDO_", "XDG_")


def environment_as_started(path: str = "/proc/self/environ") -> dict[str, str]:
    """
    The environment that this process was started with, without what Python has added (LC_CTYPE: PEP 538).

    Where /proc does not show it: the environment as it is now.
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


def _is_of_a_user(name: str) -> bool:
    """It is about the user who started the worker, or is a secret of that user: a key for the collector of traces."""
    if name.startswith("OTEL_EXPORTER_"):
        return name.endswith(("_HEADERS", "_CLIENT_KEY"))
    return name in _OF_A_USER or name.startswith(_OF_A_USERS_SESSION)


def base_environment(
    started: Mapping[str, str], directory: str, account: pwd.struct_passwd | None = None
) -> dict[str, str]:
    """
    What every job inherits: `started`, changed where it would be wrong in a job that runs in `directory`.

    account: the user that jobs run as, if the configuration names one. If it is not the worker's own user, variables
    about the worker's user are left out.
    """
    base = {name: value for name, value in started.items() if name not in _OF_THE_WORKER}
    if account is not None and account.pw_uid != os.getuid():
        base = {name: value for name, value in base.items() if not _is_of_a_user(name)}
    if account is not None:
        shell = account.pw_shell or "/bin/sh"
        base |= {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name, "SHELL": shell}
    path = _logical(directory)
    return base if path is None else base | {"PWD": path}


def with_configured(base: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """
    The base with the variables of jobs.environment, which replace inherited ones.

    PYTHONUNBUFFERED=1 is set unless one of the two has that variable: what a Python program has printed to a pipe would
    otherwise stay in its buffer, and is lost when the job is stopped. Python takes an empty value as unset.
    """
    return {**_BY_DEFAULT, **base, **configured}


def environment(base: Mapping[str, str], spec: JobSpec, job_id: str, directory: str) -> Mapping[str, str]:
    """
    The base, the spec's variables, its trace unless they have one, and the job's tag. directory: where the job runs.

    Returns a ChainMap with `base` itself as its last map, so that `base` can be encoded once for all jobs; or a
    dictionary where a variable of `base` must be left out.
    """
    added = {**spec.trace, **spec.env, JOB_ID_VARIABLE: job_id}
    if spec.tty:
        added.setdefault("TERM", TERMINAL_TYPE)
    path = _logical(directory) if spec.directory else base.get("PWD")
    if path is None and "PWD" in base and "PWD" not in added:
        return {**{name: value for name, value in base.items() if name != "PWD"}, **added}
    if path is not None and path != base.get("PWD"):
        added.setdefault("PWD", path)
    return ChainMap(added, base)  # type: ignore[arg-type]  # nothing writes to the last map


def _logical(directory: str) -> str | None:
    """The path as PWD has it; None if it has `..`, because only the disk can tell what is behind a symbolic link."""
    parts = [part for part in directory.split("/") if part not in ("", ".")]
    return None if ".." in parts or not directory.startswith("/") else "/" + "/".join(parts)
