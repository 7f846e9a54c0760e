"""/livez and /readyz: whether the worker works, and whether it takes new jobs; if not, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.web.http import NOT_ALLOWED, NOT_FOUND, OK, SERVICE_UNAVAILABLE
from twisted.web.resource import Resource
from twisted.web.server import Request

from txworker.base.http_limits import body_for


class TextPage(Resource):
    """
    A page of plain text that must not be cached, and has no pages below it. text() returns the status and the text.
    Reactor thread.
    """

    isLeaf = True

    def __init__(self, text: Callable[[], tuple[int, str]]) -> None:
        super().__init__()
        self._text = text

    def render(self, request: Request) -> bytes:
        """Twisted: the response."""
        status, text = (NOT_FOUND, "not found\n") if any(request.postpath or ()) else self._text()
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            status, text = NOT_ALLOWED, "GET or HEAD\n"
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        return body_for(request, text.encode("utf-8", "backslashreplace"))


def livez() -> TextPage:
    """Always 200, because the reactor answers it. A worker that hangs does not answer."""
    return TextPage(lambda: (OK, "ok\n"))


def readyz(reasons: Callable[[], Mapping[str, str]]) -> TextPage:
    """200 while the worker takes new jobs; otherwise 503, with a line for each reason: its cause and a sentence."""

    def status_and_text() -> tuple[int, str]:
        lines = [f"{cause}: {sentence}\n" for cause, sentence in reasons().items()]
        return (SERVICE_UNAVAILABLE, "".join(lines)) if lines else (OK, "ok\n")

    return TextPage(status_and_text)
