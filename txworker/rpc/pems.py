"""Checks whether certificate, key and client CA can serve, before they are given to gRPC."""

from __future__ import annotations

import ssl
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from txworker.base.memory_path import memory_path
from txworker.base.small_file import read_small_file

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name."""


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files. With client_ca, clients must have a certificate that this authority issued."""

    crt: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class Pems:
    """The contents of the files."""

    crt: bytes
    key: bytes
    client_ca: bytes | None = None


class UnfitCertificate(Exception):
    """The files cannot serve; the sentence names the file."""


def read(files: CertificateFiles) -> Pems:
    """The contents of the files. Never waits, because a handshake does. Raises OSError."""
    client_ca = None if files.client_ca is None else read_small_file(files.client_ca)
    return Pems(read_small_file(files.crt), read_small_file(files.key), client_ca)


def check(files: CertificateFiles, pems: Pems) -> None:
    """
    Check that key and certificate match, and that a client accepts the certificate now.

    Finds files that are only half written, and a pair of which only one file is renewed.

    Raises:
        UnfitCertificate: they cannot serve.
    """
    client = _client_context(files.crt, pems.crt)
    server = _server_context(files, pems)
    if files.client_ca is not None and pems.client_ca is not None:
        _client_context(files.client_ca, pems.client_ca)
    try:
        _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        raise UnfitCertificate(f"the certificate in {files.crt} is not valid now: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise UnfitCertificate(f"the certificate in {files.crt} cannot serve: {error}") from error


def expiry(files: CertificateFiles, pems: Pems) -> float | None:
    """When the certificate expires, in seconds since the epoch, even if it has; None: it cannot be told."""
    try:
        client = _client_context(files.crt, pems.crt)
        client.verify_flags = client.verify_flags | _NO_CHECK_TIME
        certificate = _handshake(_server_context(files, pems), client).getpeercert() or {}
        return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
    except (UnfitCertificate, ssl.SSLError, KeyError, ValueError, OSError):  # check() says what is wrong
        return None


def _client_context(path: Path, pem: bytes) -> ssl.SSLContext:
    """For a client that trusts the certificates in this file, even if they are not certificates of a CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if pem.count(b"-----BEGIN ") != pem.count(b"-----END "):
        raise UnfitCertificate(f"{path} is incomplete: a certificate (PEM) begins and does not end")
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise UnfitCertificate(f"no certificate (PEM) in {path}") from error
    return context


def _server_context(files: CertificateFiles, pems: Pems) -> ssl.SSLContext:
    if b"ENCRYPTED" in pems.key:  # OpenSSL would ask for the password; gRPC cannot
        raise UnfitCertificate(f"the key in {files.key} is encrypted")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with ExitStack() as stack:
            context.load_cert_chain(*(stack.enter_context(memory_path(pem)) for pem in (pems.crt, pems.key)))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnfitCertificate(f"the key in {files.key} is not that of the certificate in {files.crt}") from error
        raise UnfitCertificate(f"no private key (PEM) in {files.key} usable with {files.crt}") from error
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """A handshake in memory, in which the client verifies the certificate; the client's side."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_side = server.wrap_bio(up, down, server_side=True)
    client_side = client.wrap_bio(down, up)
    for side in (client_side, server_side, client_side):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client_side
