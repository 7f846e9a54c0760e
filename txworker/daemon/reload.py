"""
Reading the configuration again: what a new file changes in a running worker, and what of it needs a restart.

Comparing is pure; applying is a callable that is handed in (live_settings.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.python.failure import Failure

from txworker.base.logs import Logger
from txworker.base.quantities import counted
from txworker.config import Config, ConfigError
from txworker.config.checks import only_with_shim
from txworker.config.quoting import quoted, shown
from txworker.jobs.errors import ReloadRefused

_LIVE_JOBS = (
    "keep_days",
    "keep_jobs",
    "keep_output_bytes",
    "stop_grace_seconds",
    "max_running",
    "at_stop",
    "limits",
    "ceilings",
)
_LIVE_LOG = ("level",)
_WITH_ADDRESS = ("grpc_server", "web")
"""Sections that have host and port, which are addr in the file."""

_SECRET = "jobs.environment."
_CERTIFICATES = ("crt_file", "key_file", "client_ca_file")


@dataclass(frozen=True)
class Change:
    """
    A key that has another value in the file than the one in force. before, after: as TOML has them, "(hidden)" where
    the value may be a secret, empty where there is none. live: a reload applies it; otherwise it needs a restart.
    """

    key: str
    before: str
    after: str
    live: bool


class RunningConfig:
    """The configuration in force. Changed by reloads only, in the reactor thread; to be read in any thread."""

    def __init__(self, config: Config) -> None:
        self.config = config


class Reload:
    """
    read() reads the file and checks it, in a thread; apply(config) puts a configuration in force that differs from the
    running one in live keys only. before(), after() are called around each reload, told(whether it succeeded) at its
    end. Reactor thread.

    runs_shim: jobs run through the shim; without it, keys that need it are refused as they are at the start.
    """

    _log = Logger()

    def __init__(
        self,
        running: RunningConfig,
        read: Callable[[], Deferred[Config]],
        apply: Callable[[Config], None],
        runs_shim: bool,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
        told: Callable[[bool], None] = lambda succeeded: None,
    ) -> None:
        self._running = running
        self._read = read
        self._apply = apply
        self._runs_shim = runs_shim
        self._before = before
        self._after = after
        self._told = told
        self._lock: DeferredLock = DeferredLock()

    def begin(self) -> Deferred[list[Change]]:
        """
        Read the file again and apply what can change live. Fires with all differences to what was in force; those that
        need a restart change nothing, and are there again the next time. Reloads come one after another.

        Raises (through the Deferred):
            ReloadRefused: the file is wrong; nothing has changed, and the log says why.
        """
        reloaded: Deferred[list[Change]] = self._lock.run(lambda: Deferred.fromCoroutine(self._reload()))
        return reloaded.addErrback(self._log_unexpected)

    def check(self) -> Deferred[list[Change]]:
        """As begin(), but nothing is applied or logged."""
        return Deferred.fromCoroutine(self._compare()).addCallback(lambda compared: compared[1])

    def request(self, check_only: bool) -> Deferred[list[Change]]:
        """check() or begin()."""
        return self.check() if check_only else self.begin()

    async def _reload(self) -> list[Change]:
        self._before()
        try:
            merged, found = await self._compare()
            self._apply(merged)
            self._running.config = merged
            self._told(True)
        except ReloadRefused as error:
            self._told(False)
            self._log.error("The configuration stays as it is: {error}.", error=error)
            raise
        except CancelledError:
            raise
        except Exception:  # any class: a mistake of ours, which begin() logs
            self._told(False)
            raise
        finally:
            self._after()
        self._log_changes(found)
        return found

    async def _compare(self) -> tuple[Config, list[Change]]:
        try:
            new = await self._read()
        except ConfigError as error:
            raise ReloadRefused(str(error)) from error
        merged = with_live(self._running.config, new)
        if not self._runs_shim and (key := only_with_shim(merged.jobs)):
            raise ReloadRefused(f"{key} needs the shim, and this worker runs without it")
        return merged, changes(self._running.config, new)

    def _log_unexpected(self, failure: Failure) -> Failure:
        if not failure.check(ReloadRefused, CancelledError):
            self._log.failure("reloading the configuration", failure)
        return failure

    def _log_changes(self, found: list[Change]) -> None:
        for change in found:
            values = {"key": change.key, "before": change.before or "not set", "after": change.after or "not set"}
            if change.live:
                self._log.info("{key} is {after} from now on; it was {before}.", **values)
            else:
                self._log.warn("{key} stays {before}: only a restart can make it {after}.", **values)
        live = sum(change.live for change in found)
        later = len(found) - live
        self._log.info(
            "The configuration {source} was read again: {applied}, {left} a restart.",
            source=self._running.config.source or "by default",
            applied=counted(live, "change applies", "changes apply"),
            left=counted(later, "needs", "need"),
            live=live,
            later=later,
        )


def with_live(running: Config, new: Config) -> Config:
    """The running configuration with those values of the new one that can change live; and its source."""
    server = running.grpc_server
    if _certificates_can_change(running, new):
        server = replace(server, **{key: getattr(new.grpc_server, key) for key in _CERTIFICATES})
    jobs = replace(running.jobs, **{key: getattr(new.jobs, key) for key in _LIVE_JOBS})
    log = replace(running.log, **{key: getattr(new.log, key) for key in _LIVE_LOG})
    return replace(running, grpc_server=server, jobs=jobs, log=log, source=new.source)


def changes(running: Config, new: Config) -> list[Change]:
    """What is different in the new configuration, in the order of the file's sections."""
    before, after, live = _flat(running), _flat(new), _flat(with_live(running, new))
    return [
        Change(key, _shown(key, before), _shown(key, after), live.get(key) == after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]


def _certificates_can_change(running: Config, new: Config) -> bool:
    """Other files can be served, but whether clients need a certificate is fixed when the port is opened."""
    ours, theirs = running.grpc_server, new.grpc_server
    return ours.use_tls and theirs.use_tls and (ours.client_ca_file is None) == (theirs.client_ca_file is None)


def _flat(config: Config) -> dict[str, Any]:
    """Every value by its dotted key, as the file has them."""
    flat: dict[str, Any] = {}
    for section in fields(config):
        value = getattr(config, section.name)
        if section.name in _WITH_ADDRESS:
            flat[f"{section.name}.addr"] = value.addr or None
        if section.name != "source":
            flat |= _values(section.name, value)
    parts = {f"{name}.{part}" for name in _WITH_ADDRESS for part in ("host", "port")}
    return {key: value for key, value in flat.items() if key not in parts}


def _values(key: str, value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        inside = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, Mapping):
        inside = {quoted(name): text for name, text in value.items()}
    else:
        return {key: value}
    return {below: found for name, one in inside.items() for below, found in _values(f"{key}.{name}", one).items()}


def _shown(key: str, values: Mapping[str, Any]) -> str:
    value = values.get(key)
    if value is None:
        return ""
    if key.startswith(_SECRET):
        return "(hidden)"
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return shown(str(value) if isinstance(value, Path) else value)
