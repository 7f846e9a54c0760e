"""TLS for the page, by pyOpenSSL, which is an extra: imported only if the page is served with a certificate."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory

from txworker.page.place import Place, WrongPlace

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def with_tls(place: Place, site: Any) -> Any:
    """
    The site wrapped in TLS; only for clients with a certificate of the client CA, if there is one.

    Raises:
        WrongPlace: a file cannot be read, or is not what it must be.
    """
    assert place.cert is not None
    assert place.key is not None
    _check_pair(place.cert, place.key)
    first, *chain = _certificates("--web-cert", place.cert)
    options: Any = CertificateOptions(  # it provides the interface that the factory wants, but does not declare it
        privateKey=KeyPair.load(_read("--web-key", place.key), 1).original,  # 1: PEM
        certificate=first.original,
        extraCertChain=[one.original for one in chain],
        trustRoot=trustRootFromCertificates(_certificates("--client-ca", place.client_ca)) if place.client_ca else None,
        acceptableProtocols=[b"http/1.1"],  # every browser offers some; the site's are hidden by what limits it
    )
    return TLSMemoryBIOFactory(options, False, site)


def _certificates(option: str, name: str) -> list[Certificate]:
    blocks = _BLOCK.findall(_read(option, name))
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=b"".join(blocks).decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise WrongPlace(f"{option}: no certificate (PEM) in {name}") from error
    return [Certificate.loadPEM(block) for block in blocks]


def _check_pair(cert: str, key: str) -> None:
    _certificates("--web-cert", cert)
    _read("--web-key", key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise WrongPlace(f"--web-key: {key} is not the key of the certificate in {cert}") from error
        raise WrongPlace(f"--web-key: no private key (PEM, without a password) in {key}") from error


def _read(option: str, name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise WrongPlace(f"{option}: {name}: {error.strerror}") from error
