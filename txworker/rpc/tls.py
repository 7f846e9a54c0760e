"""The server's certificates, which are reloaded when their files change, so that a renewal needs no restart."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc

from txworker.base.logs import Logger
from txworker.rpc.pems import CertificateFiles, Pems, UnfitCertificate, check, expiry, read

RECHECK_SECONDS = 30.0
"""After that unfit files are checked again, though unchanged: the certificate may not have been valid yet."""


class ReloadingCertificate:
    """
    gRPC calls it before each handshake, in threads of its own. Changed files are used once they are fit to serve; until
    then the old certificate is used, and the problem is logged once. files() tells in any thread which files these are;
    either always or never with a client CA. monotonic() counts seconds.
    """

    _log = Logger()

    def __init__(self, files: Callable[[], CertificateFiles], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._monotonic = monotonic
        self._served = read(files())
        self._unfit: Pems | None = None
        self._recheck_at = 0.0
        self._logged = ""
        self.initial = _configuration(self._served)
        self._expiry: tuple[Pems | None, float | None] = (None, None)

    @property
    def expires_at(self) -> float | None:
        """When the served certificate expires, in seconds since the epoch; None: unknown. Any thread."""
        served, (known, at) = self._served, self._expiry
        if served is not known:
            at = expiry(self._files(), served)
            self._expiry = served, at
        return at

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration; None: the present one stays in use."""
        files = self._files()
        try:
            pems = read(files)
        except OSError as error:
            self._warn(f"{error.filename}: {error.strerror}")
            return None
        if pems == self._served:
            self._logged = ""
            return None
        return self._checked(files, pems)

    def _checked(self, files: CertificateFiles, pems: Pems) -> grpc.ServerCertificateConfiguration | None:
        if pems == self._unfit and self._monotonic() < self._recheck_at:
            return None
        try:
            check(files, pems)
        except UnfitCertificate as error:
            self._unfit, self._recheck_at = pems, self._monotonic() + RECHECK_SECONDS
            self._warn(str(error))
            return None
        self._served, self._unfit, self._logged = pems, None, ""
        self._log.info("Serving the certificate that is now in {path}.", path=files.crt)
        return _configuration(pems)

    def _warn(self, problem: str) -> None:
        if problem != self._logged:
            self._logged = problem
            self._log.warn("The old certificate goes on serving, the new cannot: {problem}.", problem=problem)


class ServerCertificate:
    """The certificate that a server presents, once credentials() was called. files(): see ReloadingCertificate."""

    def __init__(self, files: Callable[[], CertificateFiles]) -> None:
        self._files = files
        self._reloading: ReloadingCertificate | None = None

    @property
    def expires_at(self) -> float | None:
        """When it expires, in seconds since the epoch; None: unknown. Any thread."""
        return None if self._reloading is None else self._reloading.expires_at

    def credentials(self) -> grpc.ServerCredentials:
        """
        Credentials that are reloaded when their files change, or when files() names others. Open connections keep their
        certificate.

        Raises:
            OSError: a file cannot be read.
        """
        self._reloading = reloading = ReloadingCertificate(self._files)
        return grpc.dynamic_ssl_server_credentials(
            reloading.initial,
            reloading,  # type: ignore[arg-type]  # None is documented as "nothing changed", the stubs do not know
            require_client_authentication=self._files().client_ca is not None,
        )


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.crt)], root_certificates=pems.client_ca)
