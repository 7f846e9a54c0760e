"""The page as a twisted.web resource: a table of paths, behind the guard. A response is JSON, a file or a stream."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from txworker.base.http_limits import body_for
from txworker.base.logs import Logger
from txworker.client import InvalidRequest, JobNotRunning, JobRemoved, NoSuchJob, NotPermitted, Unreachable, WorkerError
from txworker.page.access import Access, Action, Caller, Forbidden
from txworker.page.guard import Guard, Refused, protect
from txworker.page.selection import WrongQuery
from txworker.page.static_files import StaticFile
from txworker.page.worker_link import sentence_of

MOST_BODY = 4096
"""The most bytes of a request's body."""

HTML = {"": "index.html", "job": "job.html"}
"""The paths that a person opens."""

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (WrongQuery, 400),
    (Forbidden, 403),
    (JobRemoved, 410),
    (NoSuchJob, 404),
    (JobNotRunning, 409),
    (InvalidRequest, 400),
    (NotPermitted, 403),
    (Unreachable, 503),
    (WorkerError, 502),
)
"""The status of each error; the first class that fits counts."""

_MESSAGES = {421: b"Misdirected Request"}
"""Reason phrases that Twisted does not know."""


@dataclass(frozen=True)
class Call:
    """A request that has passed the guard."""

    request: Request
    query: Mapping[str, list[str]]
    caller: Caller
    body: Any = None

    def one(self, name: str) -> str:
        """
        A parameter that is required.

        Raises:
            WrongQuery: it is missing.
        """
        if not (value := self.maybe(name)):
            raise WrongQuery(f"{name} is missing")
        return value

    def maybe(self, name: str) -> str:
        """A parameter; "" if it is missing."""
        values = self.query.get(name, [])
        return values[-1] if values else ""

    def number(self, name: str, default: int, most: int) -> int:
        """
        A whole number that is not negative; a number above `most` counts as `most`.

        Raises:
            WrongQuery: it is not such a number.
        """
        text = self.maybe(name)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise WrongQuery(f"{name} must be a whole number, 0 or more")
        return min(int(text), most)


@dataclass(frozen=True)
class Bytes:
    """A response that is not JSON."""

    data: bytes


Route = Callable[[Call], Awaitable[Any]]
"""Returns Bytes, or a value for JSON; None if it writes the response itself."""


class PageResource(Resource):
    """seen: GET routes by their path; changes: POST routes. Before each of them `access` is asked."""

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        guard: Guard,
        access: Access,
        files: Mapping[str, StaticFile],
        seen: Mapping[str, Route],
        changes: Mapping[str, Route],
    ) -> None:
        super().__init__()
        self._guard = guard
        self._access = access
        self._files = files
        self._seen = seen
        self._changes = changes

    def render(self, request: Request) -> bytes | int:
        """Twisted: the response, or NOT_DONE_YET."""
        protect(request)
        try:
            self._guard.check(request)
            answer = self._render(request)
        except Refused as refused:
            answer = _error(request, refused.status, str(refused))
        except tuple(kind for kind, _ in _STATUSES) as error:
            answer = _error(request, _status(error), sentence_of(error))
        return body_for(request, answer) if isinstance(answer, bytes) else answer

    def _render(self, request: Request) -> bytes | int:
        if not request.postpath:  # below another resource, and without the slash that relative links need
            return _with_slash(request)
        path = b"/".join(request.postpath).decode("utf-8", "replace")
        if path in self._changes:
            if request.method != b"POST":
                request.setHeader("Allow", "POST")
                raise Refused(405, "this address accepts only POST")
            self._guard.check_change(request)
            call = _call(request, _body(request))
            self._access.check(call.caller, Action.STOP)
            return self._answer(call, self._changes[path])
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("Allow", "GET, HEAD")
            raise Refused(405, "this address accepts only GET and HEAD")
        call = _call(request)
        self._access.check(call.caller, Action.SEE)
        if path in self._seen:
            return self._answer(call, self._seen[path])
        file = self._files.get(HTML.get(path) or path.removeprefix("static/"))
        if file is None or (path not in HTML and not path.startswith("static/")):
            raise Refused(404, "there is nothing at this address")
        return _file(request, file)

    def _answer(self, call: Call, route: Route) -> int:
        async def call_route() -> Any:
            return await route(call)

        answering: Deferred[Any] = Deferred.fromCoroutine(call_route())
        gone: list[object] = []

        def cancel_answering(_: object) -> None:
            gone.append(_)
            answering.cancel()

        call.request.notifyFinish().addErrback(cancel_answering)
        answering.addCallbacks(
            lambda answer: None if gone else _finish(call.request, answer),
            lambda failure: None if gone else self._failed(call.request, failure),
        )
        return NOT_DONE_YET

    def _failed(self, request: Request, failure: Failure) -> None:
        if isinstance(failure.value, Refused):
            body = _error(request, failure.value.status, str(failure.value))
        elif status := _status(failure.value):
            body = _error(request, status, sentence_of(failure.value))
        else:
            self._log.failure("Answering {path} failed", failure=failure, path=request.path)
            body = _error(request, 500, "the page has failed; its log says how")
        request.write(body)
        request.finish()


def caller_of(request: Request) -> Caller:
    """Where a request comes from, with the common name of its certificate."""
    transport = getattr(getattr(request, "channel", None), "transport", None)
    certificate = getattr(transport, "getPeerCertificate", lambda: None)()
    peer = request.getClientAddress()
    return Caller(
        address=getattr(peer, "host", ""), name=(certificate.get_subject().commonName or "") if certificate else ""
    )


def _call(request: Request, body: Any = None) -> Call:
    query = {
        name.decode("utf-8", "replace"): [value.decode("utf-8", "replace") for value in values]
        for name, values in (request.args or {}).items()
    }
    return Call(request, query, caller_of(request), body)


def _body(request: Request) -> dict[str, Any]:
    assert request.content is not None
    text = request.content.read(MOST_BODY + 1)
    if len(text) > MOST_BODY:
        raise Refused(413, f"the body is longer than {MOST_BODY} bytes")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):  # the latter: it is nested too deeply
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    return body


def _with_slash(request: Request) -> bytes:
    _, _, query = (request.uri or b"").partition(b"?")
    where = (request.prepath or [b""])[-1] + b"/" + (b"?" + query if query else b"")
    request.setHeader(b"Location", where)
    request.setResponseCode(308)
    return b""


def _file(request: Request, file: StaticFile) -> bytes:
    request.setHeader("Content-Type", file.type)
    request.setHeader("Cache-Control", "no-cache")  # revalidated each time: 304 unless it has changed
    return b"" if request.setETag(file.etag) else file.content


def _finish(request: Request, answer: Any) -> None:
    if answer is None:
        return
    request.setHeader("Cache-Control", "no-store")
    if isinstance(answer, Bytes):
        request.setHeader("Content-Type", "application/octet-stream")
        request.setHeader("Content-Disposition", "attachment")
        body = answer.data
    else:
        request.setHeader("Content-Type", "application/json")
        body = json.dumps(answer).encode()
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
    request.finish()


def _error(request: Request, status: int, sentence: str) -> bytes:
    request.setResponseCode(status, _MESSAGES.get(status))
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    return json.dumps({"error": sentence}).encode()


def _status(error: BaseException | None) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 0)
