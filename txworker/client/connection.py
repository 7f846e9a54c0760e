"""How a worker is reached: address, TLS, keepalive, and gRPC's own retries."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any
from urllib.parse import quote

import grpc

from txworker.base.addresses import HIGHEST_PORT, split_address
from txworker.client.parameters import check_type, parameter

DEFAULT_ADDR = "127.0.0.1:30000"

_UNARY = ("StartJob", "StopJob", "QueryJob", "ListJobs", "RenewLeases")
"""Methods that gRPC may repeat. A stream that it repeats may hang when its worker is killed, and has no deadline."""

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "jobscheduler.Worker", "method": method} for method in _UNARY],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
"""Every one may be repeated, because a start carries its request id."""

OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),  # the loss of the worker's machine is noticed within half a minute
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),  # $http_proxy is for the web
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # how long an attempt to connect may take; the pauses are above
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
)


@dataclass(frozen=True)
class TLS:
    """
    PEM files: the CA of the worker's certificate (None: the CAs that gRPC trusts), and the client's own certificate and
    key, if the worker requires one.

    Raises:
        TypeError: one of them is not the name of a file.
        ValueError: a certificate without its key, or a key without its certificate.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name, file in vars(self).items():
            with parameter(name, "the name of a file", file):
                Path("" if file is None else file)
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """
        The credentials for gRPC. Each file is read once.

        Raises:
            OSError: a file cannot be read.
            ValueError: it is not a PEM file.
        """
        return grpc.ssl_channel_credentials(*map(_pem, (self.ca, self.key, self.cert)))


def _pem(name: str | os.PathLike[str] | None) -> bytes | None:
    """The content of a file. It is checked, because gRPC aborts the whole process on an empty key or certificate."""
    if name is None:
        return None
    content = Path(name).read_bytes()
    if b"-----BEGIN " not in content:
        raise ValueError(f"{os.fspath(name)} is not a PEM file")
    return content


def open_channel(library: Any, addr: str, tls: TLS | None) -> Any:
    """
    A channel of the library, which is grpc or grpc.aio.

    Raises:
        TypeError, ValueError, OSError: as target() and TLS.credentials(), or tls is something else.
    """
    check_type("tls", "a TLS", tls, TLS, NoneType)
    if tls is None:
        return library.insecure_channel(target(addr), OPTIONS)
    return library.secure_channel(target(addr), tls.credentials(), OPTIONS)


def target(addr: str) -> str:
    """
    HOST:PORT or unix:PATH as a gRPC target, which is a URI.

    Raises:
        TypeError: it is not a string.
        ValueError: it is neither. gRPC would take port 443 where there is none, or wait for what can never answer.
    """
    check_type("addr", "HOST:PORT or unix:PATH", addr, str)
    if addr.startswith("unix:") and addr != "unix:":
        return f"unix:{quote(os.fsencode(addr.removeprefix('unix:')))}"
    try:
        _, port = split_address(addr)
    except ValueError as error:
        raise ValueError(f"addr must be HOST:PORT or unix:PATH, not {addr!r}") from error
    if not 0 < port <= HIGHEST_PORT:
        raise ValueError(f"addr: the port of {addr!r} is not one of 1 to {HIGHEST_PORT}")
    return addr
