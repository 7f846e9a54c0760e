"""Checks TLS files before gRPC gets them, because gRPC reports bad ones as network errors."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import grpc

from txworker.base.memory_path import memory_path
from txworker.cli.failures import REFUSED, Failed
from txworker.client import TLS


class CheckedTLS(TLS):
    """Names the first TLS file that is wrong."""

    def credentials(self) -> grpc.ChannelCredentials:
        """As credentials() below."""
        return credentials(*(None if name is None else os.fspath(name) for name in (self.ca, self.cert, self.key)))


def credentials(ca: str | None, cert: str | None, key: str | None) -> grpc.ChannelCredentials:
    """
    Credentials of the named files. Each file is read once, because it may be a pipe.

    Raises:
        OSError: a file cannot be read.
        Failed: a file has no certificate or key, or key and certificate do not match.
    """
    ca_pem, key_pem, cert_pem = (Path(name).read_bytes() if name else None for name in (ca, key, cert))
    if ca_pem is not None:
        _check_certificate("--tls-ca", ca, ca_pem)
    if cert_pem is not None and key_pem is not None:
        _check_certificate("--tls-cert", cert, cert_pem)
        _check_key(f"{key}", key_pem, f"{cert}", cert_pem)
    return grpc.ssl_channel_credentials(ca_pem, key_pem, cert_pem)


def _check_certificate(option: str, name: str | None, pem: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise Failed(f"{option}: no certificate (PEM) in {name}", REFUSED) from error


def _check_key(name: str, pem: bytes, cert: str, cert_pem: bytes) -> None:
    if b"ENCRYPTED" in pem:  # OpenSSL would prompt for a password, gRPC cannot
        raise Failed(f"--tls-key: the key in {name} is encrypted, and gRPC cannot decrypt it", REFUSED)
    try:
        with memory_path(cert_pem) as cert_file, memory_path(pem) as key_file:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert_file, key_file)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Failed(f"--tls-key: {name} is not the key of the certificate in {cert}", REFUSED) from error
        raise Failed(f"--tls-key: no private key (PEM) in {name}", REFUSED) from error
