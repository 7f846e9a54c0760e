"""Certificates for the server: read anew when their files change, so that renewing one needs no restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from txworker.logs import Logger


@dataclass(frozen=True)
class CertificateFiles:
    """PEM files; with client_ca clients must present a certificate of that authority."""

    crt: Path
    key: Path
    client_ca: Path | None = None


class _Reloading:
    _log = Logger()

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._read = _read(files)
        self.initial = _configuration(self._read)
        self._told = ""

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """gRPC, for each handshake: the new configuration, or None when nothing changed."""
        try:
            read = _read(self._files)
        except OSError as error:
            self._warn(str(error))
            return None
        self._told = ""
        if read == self._read:
            return None
        self._read = read
        self._log.info("Serving the certificate that is now in {path}.", path=self._files.crt)
        return _configuration(read)

    def _warn(self, why: str) -> None:
        """Once, not for each handshake: anybody who can connect may make as many as he likes."""
        if why != self._told:
            self._told = why
            self._log.warn("The old certificate goes on serving, the new cannot be read: {error}.", error=why)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """
    Credentials that follow their files. Open connections keep what they were made with.

    Raises:
        OSError: a file cannot be read.
    """
    reloading = _Reloading(files)
    return grpc.dynamic_ssl_server_credentials(
        reloading.initial,
        reloading,  # type: ignore[arg-type]  # None is documented as "nothing changed", the stubs do not know
        require_client_authentication=files.client_ca is not None,
    )


def _read(files: CertificateFiles) -> tuple[bytes, bytes, bytes | None]:
    client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
    return files.crt.read_bytes(), files.key.read_bytes(), client_ca


def _configuration(read: tuple[bytes, bytes, bytes | None]) -> grpc.ServerCertificateConfiguration:
    crt, key, client_ca = read
    return grpc.ssl_server_certificate_configuration([(key, crt)], root_certificates=client_ca)
