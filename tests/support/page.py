"""A real `txworker web`, and a person's way to ask it without a browser."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.daemon import LIMIT, running

PROGRAM = [sys.executable, "-m", "txworker"]


class Page:
    """Where a page is served."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        self._at = urlsplit(url)
        self._tls = tls

    def ask(self, path: str, method: str = "GET", body: bytes = b"", /, **headers: str) -> http.client.HTTPResponse:
        """The answer to one request; underscores in the names of headers are hyphens."""
        host, port = self._at.hostname or "", self._at.port
        connection = (
            http.client.HTTPSConnection(host, port, timeout=LIMIT, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(host, port, timeout=LIMIT)
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/{path}", body or None, sent)
        return connection.getresponse()

    def json(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        """The JSON of an answer."""
        with self.ask(path, method, b"" if body is None else json.dumps(body).encode(), **headers) as answer:
            return json.load(answer)

    def stop(self, **body: Any) -> Any:
        """Ask for a stop as the page itself does."""
        headers = {"Origin": self.url.rstrip("/"), "X_Txworker": "stop", "Content_Type": "application/json"}
        return self.json("api/stop", "POST", body, **headers)

    @contextmanager
    def events(self, path: str, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
        """Name, id and data of each event, as it comes."""
        with self.ask(path, "GET", b"", **headers) as answer:
            assert answer.status == 200, answer.read()
            yield _events(answer)


def _events(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    """Fails when the limit is over; the page's comments, every 15 seconds, end the waiting for a line."""
    fields: dict[str, str] = {}
    end = time.monotonic() + LIMIT
    for line in answer:
        assert time.monotonic() < end, "the event that the test waits for has not come"
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if value:
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
            fields = {}


def output_until(events: Iterator[tuple[str, str, Any]], text: bytes) -> tuple[int, bytes]:
    """The output events until that text is among what they bring: where the next byte is, and all of it."""
    printed = b""
    for name, id, data in events:
        if name == "output":
            printed += base64.b64decode(data["data"])
            if text in printed:
                return int(id), printed
    raise AssertionError(f"the stream has ended without {text!r}: {printed!r}")


@contextmanager
def page(*words: str, tls: ssl.SSLContext | None = None, listen: str = "127.0.0.1:0", **more: Any) -> Iterator[Page]:
    """`txworker web` with those words, on a free port; it ends with the block."""
    with running([*PROGRAM, "web", "--listen", listen, "--json", *words], text=True, **more) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Page(json.loads(line)["url"].replace("0.0.0.0", "127.0.0.1"), tls)
        process.terminate()
        assert process.wait(LIMIT) == 0
