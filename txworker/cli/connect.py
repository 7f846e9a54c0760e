"""From the options to a channel."""

from __future__ import annotations

import argparse
import os
from urllib.parse import quote

import grpc

from txworker.cli.pems import credentials

_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),  # $http_proxy is for the web: a worker is dialled itself
)


def channel(options: argparse.Namespace) -> grpc.Channel:
    """
    A channel to the worker.

    Raises:
        OSError, Failed: a TLS file cannot be read, or used.
    """
    if not with_tls(options):
        return grpc.insecure_channel(_target(options.addr), _OPTIONS)
    files = credentials(options.tls_ca, options.tls_cert, options.tls_key)
    return grpc.secure_channel(options.addr, files, _OPTIONS)


def with_tls(options: argparse.Namespace) -> bool:
    """When any TLS file is named, but not over a Unix socket."""
    return not options.addr.startswith("unix:") and bool(options.tls_ca or options.tls_cert)


def _target(addr: str) -> str:
    """As gRPC wants it, to whom a path is a URI."""
    if not addr.startswith("unix:"):
        return addr
    return f"unix:{quote(os.fsencode(addr.removeprefix('unix:')))}"
