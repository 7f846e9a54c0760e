"""
The worker's configuration: worker.toml read once, at start, into frozen values.

Every mistake becomes one ConfigError that names its dotted key. Nothing is created, bound or dialled here.

To add a key: a field with its default in the section's dataclass, and a line in _READERS.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import ssl
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

__all__ = ["Config", "ConfigError", "GrpcServer", "Jobs", "Scheduler", "load"]

_FILE_NAME = "worker.toml"
_HIGHEST_PORT = 65535
_HIGHEST_STREAMS = 10_000  # each stream holds a thread; more than this is a slip of the finger
_HIGHEST_RUNNING = 1_000_000  # more processes than a machine has; 0 is the way to say no ceiling
_LONGEST_SECONDS = 365 * 86_400  # a year: timers take it, and nobody means more


@dataclass(frozen=True)
class GrpcServer:
    """The section [grpc_server]: where and how the worker serves."""

    host: str = "127.0.0.1"  # IPv6 without its brackets
    port: int = 30000  # 0: the kernel picks one
    use_tls: bool = False
    crt_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None  # given: clients must present a certificate of this CA
    max_streams: int = 256

    @property
    def addr(self) -> str:
        """host:port as it can be dialled."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Scheduler:
    """The section [scheduler]: who is told that the worker is there."""

    addr: str = ""  # empty: no scheduler
    advertise_addr: str = ""  # empty: the server's own address
    use_tls: bool = False
    ca_file: Path | None = None  # absent: the CAs that gRPC trusts by itself


@dataclass(frozen=True)
class Jobs:
    """The section [jobs]: what jobs are given, and how many there may be."""

    directory: Path
    output_directory: Path
    stop_grace_seconds: float = 10.0
    max_running: int = 0  # 0: no ceiling


@dataclass(frozen=True)
class Config:
    """All paths are absolute: twistd changes directory when it becomes a daemon."""

    grpc_server: GrpcServer
    scheduler: Scheduler
    jobs: Jobs
    source: Path | None  # the file that was read


class ConfigError(Exception):
    """One mistake, as one sentence. `key` is dotted, or empty when the file as a whole is at fault."""

    def __init__(self, key: str, problem: str, source: Path | None = None) -> None:
        super().__init__(key, problem, source)
        self.key = key
        self.problem = problem
        self.source = source

    def __str__(self) -> str:
        return ": ".join(str(part) for part in (self.source, self.key, self.problem) if part)


def load(path: Path | None = None) -> Config:
    """
    The configuration in that file; without one, of worker.toml in the current directory, if there, else the defaults.

    Raises:
        ConfigError: the first mistake found.
    """
    if path is None and os.path.lexists(_FILE_NAME):
        path = Path(_FILE_NAME)
    try:
        config = _config(_document(path) if path else {}, path)
        _check_server(config.grpc_server)
        _check_scheduler(config.scheduler)
        _check_jobs(config.jobs)
    except ConfigError as error:
        error.source = path
        raise
    return config


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))  # -sig: some editors begin a file with a BOM
    except FileNotFoundError as error:
        raise ConfigError("", "no such file") from error
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError("", f"not UTF-8 (at byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # not only TOMLDecodeError: a number of 5,000 digits, a deep nest
        raise ConfigError("", f"not TOML: {error}") from error


def _config(document: dict[str, Any], path: Path | None) -> Config:
    source = path.absolute() if path else None
    here = _current_directory()
    base = source.parent if source else here
    _refuse_unknown(document)
    server, scheduler, jobs = (_section(name, document.get(name, {}), base) for name in _READERS)
    if "addr" in server:
        server["host"], server["port"] = _host_and_port(server.pop("addr"))
    jobs = {"directory": here, "output_directory": base / "output"} | jobs
    return Config(GrpcServer(**server), Scheduler(**scheduler), Jobs(**jobs), source)


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError("jobs.directory", f"the current directory is gone: {error.strerror}") from error


def _section(name: str, given: Any, base: Path) -> dict[str, Any]:
    """What the section's keys say; one that says nothing, such as an empty file name, is left to the default."""
    if not isinstance(given, dict):
        raise ConfigError(name, f"must be a table, [{name}], not {_shown(given)}")
    values = {}
    for key, value in given.items():
        if key not in _READERS[name]:
            raise ConfigError(f"{name}.{_quoted(key)}", f"unknown key; {_hint(name, key)}")
        try:
            values[key] = _READERS[name][key](value, base)
        except _Wrong as wrong:
            raise ConfigError(f"{name}.{key}", str(wrong)) from wrong.__cause__
    return {key: value for key, value in values.items() if value is not None}


# Readers: a value as TOML gives it, and the directory that file names are relative to -> the value we keep.

_Reader = Callable[[object, Path], Any]


class _Wrong(Exception):
    """What is wrong with a value; the key is added where it is known."""


def _flag(value: object, base: Path) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"must be true or false, not {_shown(value)}")
    return value


def _text(value: object, base: Path) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"must be a string, not {_shown(value)}")
    return value


def _path(value: object, base: Path) -> Path | None:
    """Absent when empty. `~` is a name like any other."""
    name = _text(value, base)
    if "\0" in name:
        raise _Wrong(f"must not hold a NUL, as {_shown(name)} does")
    return base / name if name else None


def _whole(lowest: int, highest: int) -> _Reader:
    def read(value: object, base: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _Wrong(f"must be an integer, not {_shown(value)}")
        if not lowest <= value <= highest:
            raise _Wrong(f"must be from {lowest} to {highest}, not {_shown(value)}")
        return value

    return read


def _seconds(value: object, base: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Wrong(f"must be a number of seconds, not {_shown(value)}")
    if not 0 <= value <= _LONGEST_SECONDS:  # nan is not either
        raise _Wrong(f"must be from 0 to {_LONGEST_SECONDS} seconds, not {_shown(value)}")
    return float(value)


def _listen_addr(value: object, base: Path) -> str:
    """As Go's net.Listen has it, an address without a host means every one the machine has."""
    text = _text(value, base)
    text = f"0.0.0.0{text}" if text.startswith(":") and text.count(":") == 1 else text
    _host_and_port(text)
    return text


def _dial_addr(value: object, base: Path) -> str:
    """May be empty; port 0 cannot be dialled."""
    text = _text(value, base)
    if text and _host_and_port(text)[1] == 0:
        raise _Wrong(f"port must be from 1 to {_HIGHEST_PORT} in {_shown(text)}")
    return text


_ADDR = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]+)")


def _host_and_port(text: str) -> tuple[str, int]:
    found = _ADDR.fullmatch(text)
    if not found or (found["ipv6"] and not _is_ipv6(found["ipv6"])):
        raise _Wrong(f"must be host:port, such as 127.0.0.1:30000 or [::1]:30000, not {_shown(text)}")
    port = found["port"].lstrip("0") or "0"
    if len(port) > 5 or int(port) > _HIGHEST_PORT:
        raise _Wrong(f"port must be from 0 to {_HIGHEST_PORT} in {_shown(text)}")
    return found["ipv6"] or found["host"], int(port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


# In the order of Config's fields.
_READERS: Mapping[str, Mapping[str, _Reader]] = {
    "grpc_server": {
        "addr": _listen_addr,
        "use_tls": _flag,
        "crt_file": _path,
        "key_file": _path,
        "client_ca_file": _path,
        "max_streams": _whole(1, _HIGHEST_STREAMS),
    },
    "scheduler": {
        "addr": _dial_addr,
        "advertise_addr": _dial_addr,
        "use_tls": _flag,
        "ca_file": _path,
    },
    "jobs": {
        "directory": _path,
        "output_directory": _path,
        "stop_grace_seconds": _seconds,
        "max_running": _whole(0, _HIGHEST_RUNNING),
    },
}


# Checks of values that belong together, and of the files they name.


def _check_server(server: GrpcServer) -> None:
    """Files are looked at only with TLS: existing configurations name some that are not there."""
    if not server.use_tls:
        if server.client_ca_file:
            raise ConfigError("grpc_server.client_ca_file", "needs grpc_server.use_tls = true")
        return
    if not server.crt_file:
        raise ConfigError("grpc_server.crt_file", "must be given with grpc_server.use_tls = true")
    if not server.key_file:
        raise ConfigError("grpc_server.key_file", "must be given with grpc_server.use_tls = true")
    _check_certificates("grpc_server.crt_file", server.crt_file)
    _check_key("grpc_server.key_file", server.key_file, server.crt_file)
    if server.client_ca_file:
        _check_certificates("grpc_server.client_ca_file", server.client_ca_file)


def _check_scheduler(scheduler: Scheduler) -> None:
    if not scheduler.ca_file:
        return
    if not scheduler.use_tls:
        raise ConfigError("scheduler.ca_file", "needs scheduler.use_tls = true")
    _check_certificates("scheduler.ca_file", scheduler.ca_file)


def _check_jobs(jobs: Jobs) -> None:
    if not os.path.isdir(jobs.directory):  # Path.is_dir raises on a name too long
        raise ConfigError("jobs.directory", f"{jobs.directory} is not a directory")
    output = jobs.output_directory
    nearest = next(place for place in (output, *output.parents) if os.path.lexists(place))
    if not os.path.isdir(nearest):
        raise ConfigError("jobs.output_directory", f"{nearest} is not a directory")


def _check_certificates(key: str, path: Path) -> None:
    _check_readable(key, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(key, f"no certificate (PEM) in {path}") from error
    if not context.cert_store_stats()["x509"]:  # revocation lists load as well
        raise ConfigError(key, f"no certificate (PEM) in {path}")


def _check_key(key: str, path: Path, crt_file: Path) -> None:
    def no_password() -> str:  # without this, OpenSSL asks on the terminal
        raise ConfigError(key, f"the key in {path} needs a password, and the worker has none to give")

    _check_readable(key, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(crt_file, path, no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # the second: another kind of key
            raise ConfigError(key, f"the key in {path} is not that of the certificate in {crt_file}") from error
        reason = (error.reason or "not PEM").replace("_", " ").lower()
        raise ConfigError(key, f"no private key (PEM) in {path} usable with {crt_file}: {reason}") from error


def _check_readable(key: str, path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # asked first: opening a pipe would wait
            raise ConfigError(key, f"{path} is not a file")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise ConfigError(key, f"no such file {path}") from error
    except OSError as error:
        raise ConfigError(key, f"cannot read {path}: {error.strerror}") from error


# Words for the operator.


def _refuse_unknown(document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if name in _READERS:
            continue
        if not isinstance(value, dict):
            raise ConfigError(_quoted(name), f"unknown key; {_hint('', name)}")
        near = difflib.get_close_matches(name, _READERS, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(_READERS)}"
        raise ConfigError(_quoted(name), f"unknown section; {hint}")


def _hint(section: str, key: str) -> str:
    """The known key nearest to this one, by its last part; the section's own come before those of others."""

    def nearness(known: tuple[str, str]) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, key, known[1]).ratio(), known[0] == section

    nearest = max(((name, known) for name in _READERS for known in _READERS[name]), key=nearness)
    if nearness(nearest)[0] >= 0.6:
        return f"did you mean {'.'.join(nearest)}?"
    return f"known are {', '.join(_READERS.get(section, _READERS))}"


def _quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _shown(key)


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"  # printing it could itself fail
    if not isinstance(value, str | int | float):
        return "an array" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:76]}..."
