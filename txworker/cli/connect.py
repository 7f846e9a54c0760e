"""From the options to a channel."""

from __future__ import annotations

import argparse
from pathlib import Path

import grpc

_OPTIONS = (("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000))


def channel(options: argparse.Namespace) -> grpc.Channel:
    """
    A channel to the worker; with TLS when any TLS file is named, but not over a Unix socket.

    Raises:
        OSError: a file cannot be read.
    """
    if options.addr.startswith("unix:") or not (options.tls_ca or options.tls_cert):
        return grpc.insecure_channel(options.addr, _OPTIONS)
    credentials = grpc.ssl_channel_credentials(_read(options.tls_ca), _read(options.tls_key), _read(options.tls_cert))
    return grpc.secure_channel(options.addr, credentials, _OPTIONS)


def _read(name: str | None) -> bytes | None:
    return Path(name).read_bytes() if name else None
