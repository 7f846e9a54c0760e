"""Reading worker.toml: from the file to values, by each key's reader."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli

from txworker.config.checks import check_jobs, check_scheduler, check_server
from txworker.config.readers import READERS, Wrong, host_and_port
from txworker.config.values import Config, ConfigError, GrpcServer, Jobs, Scheduler
from txworker.config.words import quoted, shown

_FILE_NAME = "worker.toml"


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
        check_server(config.grpc_server)
        check_scheduler(config.scheduler)
        check_jobs(config.jobs)
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
    server, scheduler, jobs = (_section(name, document.get(name, {}), base) for name in READERS)
    if "addr" in server:
        server["host"], server["port"] = host_and_port(server.pop("addr"))
    jobs = {"directory": here, "output_directory": base / "output"} | jobs
    jobs = {"state_directory": jobs["output_directory"].parent / "state"} | jobs
    return Config(GrpcServer(**server), Scheduler(**scheduler), Jobs(**jobs), source)


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError("jobs.directory", f"the current directory is gone: {error.strerror}") from error


def _section(name: str, given: Any, base: Path) -> dict[str, Any]:
    """What the section's keys say; one that says nothing, such as an empty file name, is left to the default."""
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
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(READERS)}"
        raise ConfigError(quoted(name), f"unknown section; {hint}")


def _hint(section: str, key: str) -> str:
    """The known key nearest to this one, by its last part; the section's own come before those of others."""

    def nearness(known: tuple[str, str]) -> tuple[float, bool]:
        return difflib.SequenceMatcher(None, key, known[1]).ratio(), known[0] == section

    nearest = max(((name, known) for name in READERS for known in READERS[name]), key=nearness)
    if nearness(nearest)[0] >= 0.6:
        return f"did you mean {'.'.join(nearest)}?"
    return f"known are {', '.join(READERS.get(section, READERS))}"
