"""
What every request must be before it is looked at, and what every answer says to the browser.

A page on the web may send the browser's requests here, or rebind its own name to this address: so the Host must be a
name that is served, a request that another site makes is refused, and one that changes something must come from the
page itself. There are no cookies: nothing that a foreign request could carry along.
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
"""Of every answer, errors as well."""

CHANGE_HEADER = "X-Txworker"
"""A request that changes something has it: a form of another site cannot set a header."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


class Refused(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """`names`: the host names that the page is called by, without ports: a forwarded port is another one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def check(self, request: Request) -> None:
        """
        Of any request.

        Raises:
            Refused: its Host is none that is served, or another site has made it.
        """
        host = request.getHeader("host") or ""
        found = _HOST.fullmatch(host)
        if found is None or found[1].lower().strip("[]") not in self._names:
            raise Refused(421, "the page is not served under this host name; --name adds one")
        if (request.getHeader("sec-fetch-site") or "none") not in ("none", "same-origin") and not _navigates(request):
            raise Refused(403, "another site has made this request")

    def check_change(self, request: Request) -> None:
        """
        Of a request that changes something.

        Raises:
            Refused: it does not come from the page itself.
        """
        scheme = "https" if request.isSecure() else "http"
        if request.getHeader("origin") != f"{scheme}://{request.getHeader('host')}":
            raise Refused(403, "a change must come from the page itself: Origin is not this page's")
        if not request.getHeader(CHANGE_HEADER):
            raise Refused(403, f"a change must come from the page itself: there is no {CHANGE_HEADER} header")
        if (request.getHeader("content-type") or "").partition(";")[0].strip() != "application/json":
            raise Refused(415, "the body must be application/json")


def _navigates(request: Request) -> bool:
    """The user followed a link from elsewhere to the page; the other site does not get to see it."""
    return (
        request.method == b"GET"
        and request.getHeader("sec-fetch-mode") == "navigate"
        and request.getHeader("sec-fetch-dest") == "document"
    )


def protect(request: Request) -> None:
    """Set the headers of every answer."""
    for name, value in HEADERS.items():
        request.setHeader(name, value)
