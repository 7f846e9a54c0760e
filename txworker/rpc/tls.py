"""Certificates for the server: read anew when their files change, so that renewing one needs no restart."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from txworker.base.logs import Logger
from txworker.rpc.pems import CertificateFiles, Pems, Unfit, check, read

LOOK_AGAIN_SECONDS = 30.0
"""What was unfit and has not changed is looked at again after that: a certificate may not have been valid yet."""


class Reloading:
    """
    What gRPC asks for each handshake, in threads of its own. Only what can serve replaces what serves; what cannot is
    told of once. monotonic() counts seconds.
    """

    _log = Logger()

    def __init__(self, files: CertificateFiles, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._monotonic = monotonic
        self._served = read(files)
        self._unfit: Pems | None = None
        self._look_again_at = 0.0
        self._told = ""
        self.initial = _configuration(self._served)

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration, or None when the old one goes on serving."""
        try:
            pems = read(self._files)
        except OSError as error:
            self._tell(f"{error.filename}: {error.strerror}")
            return None
        if pems == self._served:
            self._told = ""
            return None
        return self._taken(pems)

    def _taken(self, pems: Pems) -> grpc.ServerCertificateConfiguration | None:
        if pems == self._unfit and self._monotonic() < self._look_again_at:
            return None
        try:
            check(self._files, pems)
        except Unfit as error:
            self._unfit, self._look_again_at = pems, self._monotonic() + LOOK_AGAIN_SECONDS
            self._tell(str(error))
            return None
        self._served, self._unfit, self._told = pems, None, ""
        self._log.info("Serving the certificate that is now in {path}.", path=self._files.crt)
        return _configuration(pems)

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            self._told = problem
            self._log.warn("The old certificate goes on serving, the new cannot: {problem}.", problem=problem)


def server_credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """
    Credentials that follow their files. Open connections keep what they were made with.

    Raises:
        OSError: a file cannot be read.
    """
    reloading = Reloading(files)
    return grpc.dynamic_ssl_server_credentials(
        reloading.initial,
        reloading,  # type: ignore[arg-type]  # None is documented as "nothing changed", the stubs do not know
        require_client_authentication=files.client_ca is not None,
    )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.crt)], root_certificates=pems.client_ca)
