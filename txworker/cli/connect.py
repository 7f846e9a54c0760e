"""Makes the client, or for the operator's commands the gRPC channel, that the options describe."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import grpc

from txworker.cli import console
from txworker.cli.tls_files import CheckedTLS
from txworker.client import Client
from txworker.client.connection import OPTIONS, target

FIRST_PATIENCE_SECONDS = 2.0
"""Without --patience, a worker that has not answered yet is waited for only as long as a restart takes."""


def connect(
    options: argparse.Namespace, tell: Callable[[str], None] = console.print_error, reached: bool = False
) -> Client:
    """
    A client of the worker; it connects with the first call. reached: the worker has answered another client by then,
    so this one waits for it with all patience from the beginning.

    Raises:
        OSError: a TLS file cannot be read.
        Failed: a TLS file cannot be used.
    """
    return Client(
        options.addr,
        tls=tls_of(options),
        patience=60.0 if options.patience is None else options.patience,
        first_patience=FIRST_PATIENCE_SECONDS if options.patience is None and not reached else None,
        deadline=options.deadline,
        tell=tell,
    )


def channel(options: argparse.Namespace) -> grpc.Channel:
    """A channel to the worker's control socket; gRPC connects when the first call is made. Raises as connect()."""
    tls = tls_of(options)
    if tls is None:
        return grpc.insecure_channel(target(options.addr), OPTIONS)
    return grpc.secure_channel(options.addr, tls.credentials(), OPTIONS)


def with_tls(options: argparse.Namespace) -> bool:
    """TLS is used if a TLS file is named, but not over a Unix socket."""
    return not options.addr.startswith("unix:") and bool(options.tls_ca or options.tls_cert)


def tls_of(options: argparse.Namespace) -> CheckedTLS | None:
    """
    The TLS files that the options name; None: no TLS.

    Raises:
        OSError: one cannot be read.
        Failed: one cannot be used.
    """
    return CheckedTLS(options.tls_ca, options.tls_cert, options.tls_key) if with_tls(options) else None
