"""
Which requests are refused before they are routed, and the security headers of every response.

Another site may make the browser send requests here, or rebind its own name to this address. So the Host header must
name a host that is served, requests of other sites are refused, and a request that changes something must come from
the page itself. There are no cookies that another site's request could carry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from twisted.web.http import Request

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "txworker",
}
"""Headers of every response, errors included."""

CHANGE_HEADER = "X-Txworker"
"""A request that changes something must have it: a form on another site cannot set a header."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


class Refused(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """names: the host names that the page is served under; without ports, because a forwarded port differs."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def check(self, request: Request) -> None:
        """
        Check any request.

        Raises:
            Refused: its Host header names no host that is served, or another site has made the request.
        """
        host = request.getHeader("host") or ""
        found = _HOST.fullmatch(host)
        if found is None or found[1].lower().strip("[]") not in self._names:
            raise Refused(421, "the page is not served under this host name; --name adds one")
        if (request.getHeader("sec-fetch-site") or "none") not in ("none", "same-origin") and not _navigates(request):
            raise Refused(403, "another site has made this request")

    def check_change(self, request: Request) -> None:
        """
        Check a request that changes something.

        Raises:
            Refused: it does not come from the page itself.
        """
        scheme = "https" if request.isSecure() else "http"
        if request.getHeader("origin") != f"{scheme}://{request.getHeader('host')}":
            raise Refused(403, "a change must come from the page itself: Origin is not this page's")
        if not request.getHeader(CHANGE_HEADER):
            raise Refused(403, f"a change must come from the page itself: the {CHANGE_HEADER} header is missing")
        if (request.getHeader("content-type") or "").partition(";")[0].strip() != "application/json":
            raise Refused(415, "the body must be application/json")


def _navigates(request: Request) -> bool:
    """The user followed a link from another site to the page; that site cannot read the response."""
    return (
        request.method == b"GET"
        and request.getHeader("sec-fetch-mode") == "navigate"
        and request.getHeader("sec-fetch-dest") == "document"
    )


def protect(request: Request) -> None:
    """Set the headers of every response."""
    for name, value in HEADERS.items():
        request.setHeader(name, value)
