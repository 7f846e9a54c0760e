"""
The reader of each key: a function that takes the value from TOML and the directory that relative file names start from,
and returns the value for Config. It raises Wrong.
"""

from __future__ import annotations

import difflib
import grp
import pwd
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from txworker.base import quantities
from txworker.base.addresses import HIGHEST_PORT, split_address
from txworker.config.quoting import quoted, shown
from txworker.jobs import Limits
from txworker.jobs.spec import MAX_ARGUMENT_BYTES

_HIGHEST_STREAMS = 10_000  # each stream needs a thread; a higher number is a typo
_HIGHEST_CONNECTIONS = 1_000_000  # more than a machine has descriptors; 0 lets the worker decide
_HIGHEST_RUNNING = 1_000_000  # more processes than a machine can have; 0 means no ceiling
_LONGEST_SECONDS = 365 * 86_400  # a year, which timers accept; a longer time is a typo
_HIGHEST_BYTES = 2**62
_LONGEST_DAYS = 36_500  # a century; 0 means for ever

_OWN_VARIABLES = "TXWORKER_"

_Reader = Callable[[object, Path], Any]


class Wrong(Exception):
    """A value is wrong; the caller adds the key. below: the key inside a table, with its dot before it."""

    def __init__(self, problem: str, below: str = "") -> None:
        super().__init__(problem)
        self.below = below


def _flag(value: object, base: Path) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {shown(value)}")
    return value


def _text(value: object, base: Path) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {shown(value)}")
    return value


def _path(value: object, base: Path) -> Path | None:
    """None when empty. `~` is not expanded."""
    name = _text(value, base)
    if "\0" in name:
        raise Wrong(f"must not contain a NUL, as {shown(name)} does")
    return base / name if name else None


def _whole(lowest: int, highest: int) -> _Reader:
    def read_integer(value: object, base: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Wrong(f"must be an integer, not {shown(value)}")
        if not lowest <= value <= highest:
            raise Wrong(f"must be from {lowest} to {highest}, not {shown(value)}")
        return value

    return read_integer


def _bytes(value: object, base: Path) -> int:
    """An integer, or a size such as "2G"."""
    if _has_unit(value):
        try:
            value = quantities.size(value)
        except ValueError:
            raise Wrong(f'must be an integer, or a size such as "2G" or "512MiB", not {shown(value)}') from None
    return int(_whole(0, _HIGHEST_BYTES)(value, base))


def _has_unit(value: object) -> TypeGuard[str]:
    """A string, but not one with only a number, because TOML has numbers without quotes."""
    return isinstance(value, str) and not value.replace(".", "").isdecimal()


def _duration(value: object, unit: str, unit_seconds: int) -> object:
    """A duration such as "1h30m" as a number of the unit; other values as they are."""
    if not _has_unit(value):
        return value
    try:
        return quantities.seconds(value) / unit_seconds
    except ValueError:
        raise Wrong(f'must be a number of {unit}, or a duration such as "1h30m", not {shown(value)}') from None


def _seconds(value: object, base: Path) -> float:
    value = _duration(value, "seconds", 1)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(f"must be a number of seconds, not {shown(value)}")
    if not 0 <= value <= _LONGEST_SECONDS:  # false for NaN, too
        raise Wrong(f"must be from 0 to {_LONGEST_SECONDS} seconds, not {shown(value)}")
    return float(value)


def _days(value: object, base: Path) -> float:
    value = _duration(value, "days", 86_400)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(f"must be a number of days, not {shown(value)}")
    if not 0 <= value <= _LONGEST_DAYS:
        raise Wrong(f"must be from 0 to {_LONGEST_DAYS} days, not {shown(value)}")
    return float(value)


def _ratio(value: object, base: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(f"must be a number from 0 to 1, not {shown(value)}")
    if not 0 <= value <= 1:  # false for NaN, too
        raise Wrong(f"must be from 0 to 1, not {shown(value)}")
    return float(value)


def _url(value: object, base: Path) -> str:
    """A URL of a server that speaks HTTP; or empty."""
    text = _text(value, base)
    if text and not _URL.fullmatch(text):
        raise Wrong(f"must be a URL such as http://collector:4318, not {shown(text)}")
    return text


def _one_of(*words: str) -> _Reader:
    def read_word(value: object, base: Path) -> str:
        text = _text(value, base)
        if text not in words:
            raise Wrong(f"must be {' or '.join(map(shown, words))}, not {shown(text)}")
        return text

    return read_word


def _user(value: object, base: Path) -> str:
    """A name, or a number in a string; empty: not set."""
    text = _text(value, base)
    try:
        if text:
            pwd.getpwnam(text) if not text.isdecimal() else pwd.getpwuid(int(text))
    except (KeyError, ValueError, OverflowError) as error:
        raise Wrong(f"no such user: {shown(text)}") from error
    return text


def _group(value: object, base: Path) -> str:
    """A name, or a number in a string; empty: not set."""
    text = _text(value, base)
    try:
        if text:
            grp.getgrnam(text) if not text.isdecimal() else grp.getgrgid(int(text))
    except (KeyError, ValueError, OverflowError) as error:
        raise Wrong(f"no such group: {shown(text)}") from error
    return text


def _limits(value: object, base: Path) -> Limits:
    """A table of limits; every limit is optional."""
    if not isinstance(value, dict):
        raise Wrong(f"must be a table of limits, not {shown(value)}")
    limits: dict[str, Any] = {}
    for key, limit in value.items():
        if key not in LIMITS:
            near = difflib.get_close_matches(key, LIMITS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(LIMITS)}"
            raise Wrong(f"unknown key; {hint}", f".{quoted(key)}")
        try:
            limits[key] = LIMITS[key](limit, base)
        except Wrong as wrong:
            raise Wrong(str(wrong), f".{key}") from wrong
    return Limits(**limits)


def _environment(value: object, base: Path) -> dict[str, str]:
    """A table of variables. A value may be a secret, so no message shows it."""
    if not isinstance(value, dict):
        raise Wrong(f"must be a table of names and values, not {shown(value)}")
    for name, text in value.items():
        if problem := _variable_problem(name, text):
            raise Wrong(problem, f".{quoted(name)}")
    return value


def _variable_problem(name: str, text: object) -> str:
    if not name or "=" in name or "\0" in name:
        return "is not a valid variable name"
    if name.startswith(_OWN_VARIABLES):
        return "is reserved for txworker"
    if name == "PWD":
        return "is set by the worker"
    if not isinstance(text, str):
        return f"must be a string, not {shown(text)}"
    if "\0" in text:
        return "must not contain a NUL"
    if len(f"{name}={text}".encode()) > MAX_ARGUMENT_BYTES:
        return f"is too long: {MAX_ARGUMENT_BYTES} bytes at most, with its name"
    return ""


def _listen_addr(value: object, base: Path) -> str:
    """An address without a host means every address of the machine, as in Go's net.Listen."""
    text = _text(value, base)
    text = f"0.0.0.0{text}" if text.startswith(":") and text.count(":") == 1 else text
    host_and_port(text)
    return text


def _optional_listen_addr(value: object, base: Path) -> str | None:
    """As _listen_addr; None when empty."""
    return _listen_addr(value, base) if value != "" else None


def _dial_addr(value: object, base: Path) -> str:
    """An address or empty. Port 0 cannot be dialled."""
    text = _text(value, base)
    if text and host_and_port(text)[1] == 0:
        raise Wrong(f"port must be from 1 to {HIGHEST_PORT} in {shown(text)}")
    return text


def _dial_addrs(value: object, base: Path) -> tuple[str, ...]:
    """A list of addresses, each once."""
    if not isinstance(value, list):
        raise Wrong(f'must be a list such as ["a:50000", "b:50000"], not {shown(value)}')
    addrs = []
    for addr in value:
        if not addr:
            raise Wrong("must not contain an empty address")
        addrs.append(_dial_addr(addr, base))
        if addrs.count(addr) > 1:
            raise Wrong(f"{shown(addr)} is listed twice")
    return tuple(addrs)


def _name(value: object, base: Path) -> str:
    """In ASCII, because it is sent as metadata; or empty."""
    text = _text(value, base)
    if not _NAME.fullmatch(text):
        raise Wrong(f"must be at most 128 of the characters A-Z, a-z, 0-9, '.', '_' and '-', not {shown(text)}")
    return text


_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_NAME = re.compile(r"[A-Za-z0-9._-]{0,128}")


def host_and_port(text: str) -> tuple[str, int]:
    """The host (IPv6 without brackets) and the port. Raises Wrong."""
    try:
        host, port = split_address(text)
    except ValueError:
        raise Wrong(f"must be host:port, such as 127.0.0.1:30000 or [::1]:30000, not {shown(text)}") from None
    if port > HIGHEST_PORT:
        raise Wrong(f"port must be from 0 to {HIGHEST_PORT} in {shown(text)}")
    return host, port


LIMITS: Mapping[str, _Reader] = {
    "max_output_bytes": _bytes,
    "max_memory_bytes": _bytes,
    "max_cpu_seconds": _seconds,
    "max_open_files": _whole(0, 2**30),
    "max_processes": _whole(0, 2**30),
}

# In the order of Config's fields.
READERS: Mapping[str, Mapping[str, _Reader]] = {
    "grpc_server": {
        "addr": _listen_addr,
        "use_tls": _flag,
        "crt_file": _path,
        "key_file": _path,
        "client_ca_file": _path,
        "max_streams": _whole(1, _HIGHEST_STREAMS),
        "max_connections": _whole(0, _HIGHEST_CONNECTIONS),
        "max_idle_seconds": _seconds,
    },
    "scheduler": {
        "addr": _dial_addr,
        "advertise_addr": _dial_addr,
        "use_tls": _flag,
        "ca_file": _path,
        "addrs": _dial_addrs,
        "when_lost": _one_of("keep", "drain", "stop"),
        "lost_after_seconds": _seconds,
    },
    "jobs": {
        "directory": _path,
        "output_directory": _path,
        "state_directory": _path,
        "durability": _one_of("process", "machine"),
        "keep_days": _days,
        "keep_jobs": _whole(0, 2**62),
        "keep_output_bytes": _bytes,
        "stop_grace_seconds": _seconds,
        "max_running": _whole(0, _HIGHEST_RUNNING),
        "at_stop": _one_of("end", "leave"),
        "unattended_seconds": _seconds,
        "shim": _flag,
        "leftovers": _one_of("end", "keep"),
        "pin_worker": _flag,
        "use_cgroups": _flag,
        "user": _user,
        "group": _group,
        "nice": _whole(-20, 19),
        "oom_score_adj": _whole(-1000, 1000),
        "limits": _limits,
        "ceilings": _limits,
        "environment": _environment,
    },
    "worker": {
        "name": _name,
    },
    "log": {
        "format": _one_of("text", "json", "journald"),
        "level": _one_of("debug", "info", "warn", "error", "critical"),
        "rotate_bytes": _bytes,
    },
    "web": {
        "addr": _optional_listen_addr,
        "page": _flag,
    },
    "tracing": {
        "endpoint": _url,
        "service_name": _text,
        "sample_ratio": _ratio,
    },
}
