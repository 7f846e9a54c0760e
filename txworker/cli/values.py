"""Parses option values; an error is one sentence for the user."""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from txworker.base import quantities
from txworker.base.addresses import HIGHEST_PORT, split_address
from txworker.pb import worker_pb2 as pb

SOCKET_NAME = "control.sock"
"""In a worker's state directory."""

_STATES = {name.removeprefix("JOB_STATE_").lower(): number for name, number in pb.JobState.items() if number}
_MAX_SOCKET_PATH_BYTES = 107  # sun_path without its NUL (unix(7))
_HIGHEST_SIGNAL = 64
_REAL_TIME = re.compile(r"(?P<base>RTMIN|RTMAX)(?P<offset>[+-][0-9]{1,2})?")
_MOST_SECONDS = 1_000_000_000  # 31 years; so a deadline in nanoseconds since 1970 fits into 64 bits


def address(text: str) -> str:
    """HOST:PORT, or unix:PATH with an unescaped path."""
    if text.startswith("unix:") and text != "unix:":
        if len(os.fsencode(text.removeprefix("unix:"))) > _MAX_SOCKET_PATH_BYTES:
            raise argparse.ArgumentTypeError(
                f"{text!r} is longer than a socket's path may be ({_MAX_SOCKET_PATH_BYTES} bytes)"
            )
        return text
    _host_and_port(text, "HOST:PORT (or unix:PATH)", lowest_port=1)
    return text


def listen_address(text: str) -> tuple[str, int]:
    """HOST:PORT to listen on, as a host without brackets and a port, which may be 0."""
    return _host_and_port(text, "HOST:PORT", lowest_port=0)


def socket_in(text: str) -> str:
    """The address of the worker with this state directory."""
    return address(f"unix:{Path(text).absolute() / SOCKET_NAME}")


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def pair_or_name(text: str) -> tuple[str, str | None]:
    """NAME=VALUE, or NAME for any value."""
    return pair(text) if "=" in text or not text else (text, None)


def time_or_ago(text: str) -> datetime:
    """A duration before now, or a time as in RFC 3339; a time without a zone is local. As a time in UTC."""
    try:
        return datetime.now(timezone.utc) - timedelta(seconds=quantities.seconds(text))
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1:] in "zZ" else text)
        return at.astimezone(timezone.utc)
    except (ValueError, OverflowError):  # also of a time that is not one of the years 1 to 9999 in UTC
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time such as 2026-01-31T12:00:00Z nor a duration before now such as 1h30m"
        ) from None


class Pairs(argparse.Action):
    """Collects pairs in a dict; one name with two values is an error."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        name, value = values
        before = getattr(namespace, self.dest)
        if before.get(name, value) != value:
            raise argparse.ArgumentError(self, f"{name!r} is given twice, as {before[name]!r} and as {value!r}")
        setattr(namespace, self.dest, {**before, name: value})


def seconds(text: str) -> float:
    """0 or more seconds, or a duration such as 1h30m."""
    try:
        number = quantities.seconds(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of seconds from 0 to {_MOST_SECONDS} nor a duration such as 90s or 1h30m"
        )
    return number


def patience(text: str) -> float:
    """0 or more; "inf" is for ever."""
    return math.inf if text == "inf" else seconds(text)


def positive_seconds(text: str) -> float:
    """More than 0."""
    number = seconds(text)
    if not number:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return number


def names(text: str) -> list[str]:
    """Names, separated by commas; each once."""
    found = list(dict.fromkeys(text.split(",")))
    if "" in found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name or a list of names separated by commas")
    return found


def count(text: str) -> int:
    """0 or more, up to what an int32 field can hold."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {2**31 - 1}")
    return int(text)


def size(text: str) -> int:
    """A number of bytes; the suffixes K, M, G, T are powers of 1024."""
    try:
        number = quantities.size(text)
    except ValueError:
        number = 2**63
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes such as 4096, 64K, 2G or 512MiB")
    return number


def signal_number(text: str) -> int:
    """1 to 64, or a name as kill(1) takes it: TERM, SIGTERM, RTMIN+2; lower case is allowed."""
    number = int(text) if text.isascii() and text.isdigit() else _signal_named(text.upper().removeprefix("SIG"))
    if not 1 <= number <= _HIGHEST_SIGNAL:
        raise argparse.ArgumentTypeError(f"{text!r} is not a signal such as TERM, SIGTERM or 15")
    return number


def _signal_named(name: str) -> int:
    """0: there is none."""
    if found := _REAL_TIME.fullmatch(name):
        number = int(signal.Signals[f"SIG{found['base']}"]) + int(found["offset"] or 0)
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else 0
    numbers = {one.name: int(one) for one in signal.Signals}
    return numbers.get(f"SIG{name}", 0)


def states(text: str) -> list[int]:
    """State names, separated by commas."""
    words = text.split(",")
    for word in words:
        if word not in _STATES:
            raise argparse.ArgumentTypeError(f"{word!r} is not a state of a job; the states are {', '.join(_STATES)}")
    return [_STATES[word] for word in words]


def _host_and_port(text: str, wanted: str, lowest_port: int) -> tuple[str, int]:
    try:
        host, port = split_address(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}") from None
    if not lowest_port <= port <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"port must be from {lowest_port} to {HIGHEST_PORT} in {text!r}")
    return host, port
