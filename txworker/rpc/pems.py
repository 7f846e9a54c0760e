"""Whether certificate, key and client CA, as they were read, can serve; what is wrong with them in a sentence."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files; with client_ca clients must present a certificate of that authority."""

    crt: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class Pems:
    """What was in them."""

    crt: bytes
    key: bytes
    client_ca: bytes | None = None


class Unfit(Exception):
    """They cannot serve; the sentence names the file."""


def read(files: CertificateFiles) -> Pems:
    """Raises OSError: one cannot be read."""
    client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
    return Pems(files.crt.read_bytes(), files.key.read_bytes(), client_ca)


def check(files: CertificateFiles, pems: Pems) -> None:
    """
    They belong together, and a client whose clock is right accepts the certificate now.

    A file that is only half written has no end, and a pair of which only one is renewed does not match.

    Raises:
        Unfit: they do not.
    """
    trusting = _trusting(files.crt, pems.crt)
    serving = _serving(files, pems)
    if files.client_ca is not None and pems.client_ca is not None:
        _trusting(files.client_ca, pems.client_ca)
    try:
        _shake_hands(serving, trusting)
    except ssl.SSLCertVerificationError as error:
        raise Unfit(f"the certificate in {files.crt} is not valid now: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise Unfit(f"the certificate in {files.crt} cannot serve: {error}") from error


def _trusting(path: Path, pem: bytes) -> ssl.SSLContext:
    """A client that trusts what is in this file, be it an authority or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if pem.count(b"-----BEGIN ") != pem.count(b"-----END "):
        raise Unfit(f"{path} is incomplete: a certificate (PEM) begins and does not end")
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise Unfit(f"no certificate (PEM) in {path}") from error
    return context


def _serving(files: CertificateFiles, pems: Pems) -> ssl.SSLContext:
    if b"ENCRYPTED" in pems.key:  # OpenSSL would ask for its password; gRPC cannot
        raise Unfit(f"the key in {files.key} is encrypted")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with ExitStack() as stack:
            context.load_cert_chain(*(stack.enter_context(_as_file(pem)) for pem in (pems.crt, pems.key)))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unfit(f"the key in {files.key} is not that of the certificate in {files.crt}") from error
        raise Unfit(f"no private key (PEM) in {files.key} usable with {files.crt}") from error
    return context


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A name for bytes that are in memory only; the ssl module takes keys by name alone."""
    with os.fdopen(os.memfd_create("pem"), "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _shake_hands(serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A handshake in memory, in which the client looks at the certificate."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(up, down, server_side=True)
    client = trusting.wrap_bio(down, up)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
