"""The workers that a user has named in client.toml: their addresses and TLS files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from txworker.cli.values import address

_KEYS = ("addr", "tls_ca", "tls_cert", "tls_key")


class WrongProfiles(Exception):
    """client.toml is wrong, or has no worker with that name. The message is one sentence."""


@dataclass(frozen=True)
class Profile:
    """The address and TLS files of a worker; None: the file is not given."""

    name: str
    addr: str
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None


def profiles_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the file is. As the XDG specification says, a relative $XDG_CONFIG_HOME counts as unset."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "txworker" / "client.toml"


def read_profiles(path: Path) -> dict[str, Profile]:
    """
    The workers of a file, by name, in its order; none if there is no file.

    Raises:
        WrongProfiles: the file cannot be read, or something in it is wrong.
    """
    try:
        table = tomli.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WrongProfiles(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # tomli's error, and that of invalid UTF-8
        raise WrongProfiles(f"{path}: {error}") from error
    workers = table.pop("workers", {})
    if table or not isinstance(workers, dict):
        raise WrongProfiles(f"{path}: must contain only tables [workers.NAME]")
    return {name: _profile(path, name, worker) for name, worker in workers.items()}


def chosen(path: Path, names: list[str]) -> list[Profile]:
    """
    The workers with these names; all in the file if none is named.

    Raises:
        WrongProfiles: there is none, or the file is wrong.
    """
    known = read_profiles(path)
    if not known:
        raise WrongProfiles(f"{path} names no worker" if path.exists() else f"there is no {path}, which names workers")
    for name in names:
        if name not in known:
            raise WrongProfiles(f"{path} has no worker {name!r}; it has {', '.join(known)}")
    return [known[name] for name in names or known]


def _profile(path: Path, name: str, worker: Any) -> Profile:
    where = f"{path}: workers.{name}"
    if not isinstance(worker, dict) or not all(isinstance(value, str) for value in worker.values()):
        raise WrongProfiles(f"{where} must be a table of strings")
    if unknown := sorted(worker.keys() - set(_KEYS)):
        raise WrongProfiles(f"{where}.{unknown[0]}: unknown key; the keys are {', '.join(_KEYS)}")
    if bool(worker.get("tls_cert")) != bool(worker.get("tls_key")):
        raise WrongProfiles(f"{where}: tls_cert and tls_key go together")
    try:
        addr = address(worker.get("addr", ""))
    except argparse.ArgumentTypeError as error:
        raise WrongProfiles(f"{where}.addr: {error}") from error
    files = {key: str(path.parent / worker[key]) for key in _KEYS[1:] if worker.get(key)}
    return Profile(name, addr, **files)
