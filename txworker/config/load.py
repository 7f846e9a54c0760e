"""Reads worker.toml into a Config; readers.py has the reader of each key."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import tomli

from txworker.config.checks import (
    check_jobs,
    check_log,
    check_page,
    check_scheduler,
    check_server,
    check_tracing,
    check_web,
)
from txworker.config.quoting import quoted, shown
from txworker.config.readers import READERS, Wrong, host_and_port
from txworker.config.values import Config, ConfigError, GrpcServer, Jobs, Log, Scheduler, Tracing, Web, Worker

_FILE_NAME = "worker.toml"
_SAME_RIGHTS = nullcontext()


def load(
    path: Path | None = None,
    directory: Path | None = None,
    rights: AbstractContextManager[object] = _SAME_RIGHTS,
) -> Config:
    """
    The configuration in the file `path`. Without a path: that of worker.toml in `directory`, or the defaults when there
    is no such file. directory: where the worker was started; None: the current directory. The file is read with the
    present rights; what it names is checked within `rights`, which are those that the worker will have.

    Raises:
        ConfigError: the first mistake in the file.
    """
    if path is None and os.path.lexists(where := (directory or Path()) / _FILE_NAME):
        path = where
    try:
        config = _config(_document(path) if path else {}, path, directory)
        with rights:
            _check(config)
    except ConfigError as error:
        error.source = path
        raise
    return config


def _check(config: Config) -> None:
    check_server(config.grpc_server)
    check_scheduler(config.scheduler)
    check_jobs(config.jobs)
    check_log(config.log)
    check_web(config.web, config.grpc_server)
    check_tracing(config.tracing)
    check_page(config.web, config.jobs.state_directory)


def load_again(path: Path | None = None, directory: Path | None = None) -> Config:
    """
    As load(), for a worker that runs: a pipe, such as a shell's <(...), was read at the start and is empty now.

    Raises:
        ConfigError: the first mistake in the file, or that it is a pipe.
    """
    if path is not None and _is_pipe(path):
        raise ConfigError("", "is a pipe, which cannot be read again", path)
    return load(path, directory)


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:  # reading it says why
        return False


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))  # -sig: some editors write a BOM first
    except FileNotFoundError as error:
        raise ConfigError("", "no such file") from error
    except OSError as error:
        raise ConfigError("", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError("", f"not UTF-8 (at byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # not TOMLDecodeError only: 5,000 digits, deep nesting
        raise ConfigError("", f"not TOML: {error}") from error


def _config(document: dict[str, Any], path: Path | None, directory: Path | None) -> Config:
    source = path.absolute() if path else None
    current = directory or _current_directory()
    base = source.parent if source else current
    _refuse_unknown(document)
    sections = {name: _section(name, document.get(name, {}), base) for name in READERS}
    for section in (sections["grpc_server"], sections["web"]):
        if "addr" in section:
            section["host"], section["port"] = host_and_port(section.pop("addr"))
    jobs = {"directory": current, "output_directory": base / "output"} | sections["jobs"]
    jobs = {"state_directory": jobs["output_directory"].parent / "state"} | jobs
    return Config(
        GrpcServer(**sections["grpc_server"]),
        Scheduler(**sections["scheduler"]),
        Jobs(**jobs),
        source,
        Worker(**sections["worker"]),
        Log(**sections["log"]),
        Web(**sections["web"]),
        Tracing(**sections["tracing"]),
    )


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError("jobs.directory", f"the current directory is gone: {error.strerror}") from error


def _section(name: str, given: Any, base: Path) -> dict[str, Any]:
    """The section's keys and their values. A key that means the default, such as an empty file name, is left out."""
    if not isinstance(given, dict):
        raise ConfigError(name, f"must be a table, [{name}], not {shown(given)}")
    values = {}
    for key, value in given.items():
        if key not in READERS[name]:
            raise ConfigError(f"{name}.{quoted(key)}", f"unknown key; {_hint(name, key)}")
        try:
            values[key] = READERS[name][key](value, base)
        except Wrong as wrong:
            raise ConfigError(f"{name}.{key}{wrong.below}", str(wrong)) from wrong.__cause__
    return {key: value for key, value in values.items() if value is not None}


def _refuse_unknown(document: Mapping[str, Any]) -> None:
    for name, value in document.items():
        if name in READERS:
            continue
        if not isinstance(value, dict):
            raise ConfigError(quoted(name), f"unknown key; {_hint('', name)}")
        near = difflib.get_close_matches(name, READERS, 1)
        hint = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(READERS)}"
        raise ConfigError(quoted(name), f"unknown section; {hint}")


def _hint(section: str, key: str) -> str:
    """Suggests the known key that is most similar by its last part; the section's own keys are preferred."""

    def similarity(known: tuple[str, str]) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, key, known[1]).ratio(), known[0] == section

    nearest = max(((name, known) for name in READERS for known in READERS[name]), key=similarity)
    if similarity(nearest)[0] >= 0.6:
        return f"did you mean {'.'.join(nearest)}?"
    return f"the keys are {', '.join(READERS[section])}" if section else f"the sections are {', '.join(READERS)}"
