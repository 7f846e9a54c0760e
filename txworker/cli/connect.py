"""Makes the gRPC channel that the options describe."""

from __future__ import annotations

import argparse
import os
from urllib.parse import quote

import grpc

from txworker.cli.tls_files import credentials

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),  # connect directly: $http_proxy is for web clients
)


def channel(options: argparse.Namespace) -> grpc.Channel:
    """
    A channel to the worker; gRPC connects when the first call is made.

    Raises:
        OSError: a TLS file cannot be read.
        Failed: a TLS file cannot be used.
    """
    if not with_tls(options):
        return grpc.insecure_channel(_target(options.addr), _OPTIONS)
    files = credentials(options.tls_ca, options.tls_cert, options.tls_key)
    return grpc.secure_channel(options.addr, files, _OPTIONS)


def with_tls(options: argparse.Namespace) -> bool:
    """TLS is used if a TLS file is named, but not over a Unix socket."""
    return not options.addr.startswith("unix:") and bool(options.tls_ca or options.tls_cert)


def _target(addr: str) -> str:
    """The address in gRPC's syntax, where a path is percent-encoded."""
    if not addr.startswith("unix:"):
        return addr
    return f"unix:{quote(os.fsencode(addr.removeprefix('unix:')))}"
