"""Checks of values that depend on each other, and of the files that they name. Nothing is created, bound or dialled."""

from __future__ import annotations

import importlib.util
import os
import ssl
from dataclasses import fields
from pathlib import Path

from txworker.base.directory import permission_problem_of, refusal_for_root
from txworker.base.journal import JOURNAL_SOCKET
from txworker.base.small_file import read_small_file
from txworker.config.values import ConfigError, GrpcServer, Jobs, Log, Scheduler, Tracing, Web
from txworker.config.warnings import is_loopback
from txworker.jobs import Limits

_OPENTELEMETRY = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_MAX_SOCKET_PATH_BYTES = 107  # sun_path without its NUL (unix(7))


def check_server(server: GrpcServer) -> None:
    """
    Checks the section [grpc_server]. Raises ConfigError at the first mistake.

    Certificate files are checked only with TLS: existing configurations name files that do not exist.
    """
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


def check_scheduler(scheduler: Scheduler) -> None:
    """Checks the section [scheduler]. Raises ConfigError at the first mistake."""
    if scheduler.addr and scheduler.addrs:
        raise ConfigError("scheduler.addrs", "replaces scheduler.addr; give only one of them")
    if scheduler.when_lost != "keep" and not scheduler.all_addrs:
        raise ConfigError("scheduler.when_lost", "needs scheduler.addr or scheduler.addrs")
    if scheduler.when_lost != "keep" and not scheduler.lost_after_seconds:
        raise ConfigError("scheduler.lost_after_seconds", "must be more than 0: no scheduler answers at once")
    if not scheduler.ca_file:
        return
    if not scheduler.use_tls:
        raise ConfigError("scheduler.ca_file", "needs scheduler.use_tls = true")
    _check_certificates("scheduler.ca_file", scheduler.ca_file)


def check_log(log: Log, journal: str = JOURNAL_SOCKET) -> None:
    """Checks the section [log]; journal is the socket's path. Raises ConfigError at the first mistake."""
    if log.format == "journald" and not os.path.exists(journal):
        raise ConfigError("log.format", f"there is no journal on this machine ({journal})")


def check_jobs(jobs: Jobs) -> None:
    """Checks the section [jobs]. Raises ConfigError at the first mistake."""
    if not os.path.isdir(jobs.directory):  # Path.is_dir raises when the name is too long
        raise ConfigError("jobs.directory", f"{jobs.directory} is not a directory")
    if not os.access(jobs.directory, os.X_OK, effective_ids=True):
        raise ConfigError("jobs.directory", f"{jobs.directory} cannot be entered")
    if not jobs.shim and (key := only_with_shim(jobs)):
        raise ConfigError(key, "needs the shim, which jobs.shim = false leaves out")
    for key in ("user", "group"):
        if getattr(jobs, key) and os.geteuid() != 0:
            raise ConfigError(f"jobs.{key}", "only a worker that runs as root can run jobs as another user")
    for key in ("nice", "oom_score_adj"):
        if getattr(jobs, key) < 0 and os.geteuid() != 0:
            raise ConfigError(f"jobs.{key}", f"must be 0 or more, not {getattr(jobs, key)}: only root may go below 0")
    for field in fields(Limits):
        default, ceiling = getattr(jobs.limits, field.name), getattr(jobs.ceilings, field.name)
        if ceiling and default > ceiling:
            raise ConfigError(f"jobs.limits.{field.name}", f"{default} is more than jobs.ceilings.{field.name} allows")
    for key in ("output_directory", "state_directory"):
        directory: Path = getattr(jobs, key)
        nearest = next(path for path in (directory, *directory.parents) if os.path.lexists(path))
        if not os.path.isdir(nearest):
            raise ConfigError(f"jobs.{key}", f"{nearest} is not a directory")
        _check_safe(f"jobs.{key}", directory)


def check_web(web: Web, server: GrpcServer) -> None:
    """Checks the section [web]. Raises ConfigError at the first mistake."""
    if not web.host:
        return
    if web.port and web.port == server.port and web.host == server.host:
        raise ConfigError("web.addr", "is the same address as grpc_server.addr")
    if importlib.util.find_spec("prometheus_client") is None:
        raise ConfigError("web.addr", "needs prometheus-client, which is not installed: pip install 'txworker[web]'")


def check_tracing(tracing: Tracing) -> None:
    """Checks the section [tracing]; imports nothing of OpenTelemetry's. Raises ConfigError at the first mistake."""
    if not tracing.endpoint:
        return
    try:
        found = all(importlib.util.find_spec(name) for name in _OPENTELEMETRY)
    except ImportError:  # a package that has them is not there
        found = False
    if not found:
        raise ConfigError(
            "tracing.endpoint", "needs OpenTelemetry, which is not installed: pip install 'txworker[otel]'"
        )


def check_page(web: Web, state_directory: Path) -> None:
    """Checks web.page, which shows every job to any client that reaches it. Raises ConfigError at the first mistake."""
    if not web.page:
        return
    if not web.host:
        raise ConfigError("web.page", "needs web.addr, where it is served")
    if not is_loopback(web.host):
        raise ConfigError(
            "web.page",
            f"{web.addr} is not loopback, and here the page has no TLS; `txworker web` serves it with TLS",
        )
    if len(os.fsencode(state_directory / "control.sock")) > _MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            "web.page", f"needs the socket in the state directory, and the socket's path is too long: {state_directory}"
        )


def _check_safe(key: str, path: Path) -> None:
    """Raises ConfigError when other users control the path. The worker checks again when it opens the directory."""
    try:
        problem = refusal_for_root(permission_problem_of(path))
    except OSError:  # opening the directory reports it
        return
    if problem:
        raise ConfigError(key, f"{path}: {problem}")


def only_with_shim(jobs: Jobs) -> str:
    """The first key with a value that only the shim can act on, dotted; empty: there is none."""
    if jobs.at_stop == "leave":
        return "jobs.at_stop"
    for key in ("user", "group", "nice"):
        if getattr(jobs, key):
            return f"jobs.{key}"
    for section in ("limits", "ceilings"):
        for field in fields(Limits):
            if field.name != "max_output_bytes" and getattr(getattr(jobs, section), field.name):
                return f"jobs.{section}.{field.name}"
    return ""


def _check_certificates(key: str, path: Path) -> None:
    _check_readable(key, path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(key, f"no certificate (PEM) in {path}") from error
    if not context.cert_store_stats()["x509"]:  # a revocation list loads without an error, too
        raise ConfigError(key, f"no certificate (PEM) in {path}")


def _check_key(key: str, path: Path, crt_file: Path) -> None:
    def no_password() -> str:  # without this function OpenSSL asks on the terminal
        raise ConfigError(key, f"the key in {path} is encrypted, and the worker has no password for it")

    _check_readable(key, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(crt_file, path, no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # the second: the key is of another type
            raise ConfigError(key, f"the key in {path} is not that of the certificate in {crt_file}") from error
        reason = (error.reason or "not PEM").replace("_", " ").lower()
        raise ConfigError(key, f"no private key (PEM) in {path} usable with {crt_file}: {reason}") from error


def _check_readable(key: str, path: Path) -> None:
    try:
        read_small_file(path)
    except FileNotFoundError as error:
        raise ConfigError(key, f"no such file {path}") from error
    except OSError as error:
        raise ConfigError(key, f"cannot read {path}: {error.strerror}") from error
