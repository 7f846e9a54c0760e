"""Where the page is served, and which users can reach it there."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from txworker.base.printable import printable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class WrongPlace(Exception):
    """The page cannot be served like that. The message is one sentence for the user."""


@dataclass(frozen=True)
class Place:
    """
    The address at which the page is served, and further host names of it. PEM files for TLS: the server's certificate
    chain and key, and the CA of the clients' certificates.
    """

    host: str
    port: int
    names: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None

    def check(self) -> None:
        """
        Beyond loopback only users with a certificate of the client CA may reach the page.

        Raises:
            WrongPlace: a file is missing that is needed beside another one, or beyond loopback.
        """
        if bool(self.cert) != bool(self.key):
            raise WrongPlace("--web-cert and --web-key go together")
        if self.client_ca and not self.cert:
            raise WrongPlace("--client-ca needs --web-cert and --web-key")
        if not self.loopback and not self.client_ca:
            raise WrongPlace(
                f"{printable(self.host)} is not a loopback address: beyond this machine the page is served only over "
                "TLS to clients with a certificate (--web-cert, --web-key and --client-ca)"
            )

    @property
    def loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> set[str]:
        """The host names that browsers may use for it."""
        own = set(LOOPBACK_NAMES) if self.loopback else {socket.gethostname(), socket.getfqdn()}
        return {*self.names, *own, self.host}
