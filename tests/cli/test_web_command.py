"""`txworker web` up to where the page begins; tests/live/test_page.py has the page itself."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker import page
from txworker.cli.failures import Failed
from txworker.cli.parser import parse
from txworker.cli.web_command import web


class WebCommandTests(SynchronousTestCase):
    def served(
        self, *words: str, raises: Exception | None = None
    ) -> tuple[list[page.PageWorker], page.Place, bool, str]:
        """What the page is given, and what is printed once it is ready."""
        given: list[Any] = []

        def serve(workers: Any, place: Any, allow_stop: bool, ready: Any) -> None:
            if raises is not None:
                raise raises
            given.extend((workers, place, allow_stop))
            ready("http://127.0.0.1:7/")

        with mock.patch.object(page, "serve_alone", serve), contextlib.redirect_stdout(io.StringIO()) as out:
            self.assertEqual(0, web(parse(["web", *words])))
        return (*given, out.getvalue())

    def test_defaults(self) -> None:
        """The worker of the environment, on loopback, only shown."""
        with mock.patch.dict(os.environ, {"TXWORKER_ADDR": "w:1"}):
            workers, place, allow_stop, said = self.served()
        self.assertEqual([page.PageWorker("w:1", "w:1")], workers)
        self.assertEqual((page.Place("127.0.0.1", 30080), False), (place, allow_stop))
        self.assertEqual("http://127.0.0.1:7/ shows w:1\n", said)

    def test_addresses(self) -> None:
        """Workers by their addresses, each once; --json is one object."""
        workers, place, _, said = self.served("a:1", "b:2", "a:1", "--listen", "[::1]:0", "--name", "jobs", "--json")
        self.assertEqual(["a:1", "b:2"], [worker.name for worker in workers])
        self.assertEqual(page.Place("::1", 0, ("jobs",)), place)
        self.assertEqual('{"url": "http://127.0.0.1:7/", "workers": ["a:1", "b:2"]}\n', said)

    def test_profiles(self) -> None:
        """Workers of client.toml, by their names there."""
        home = Path(self.mktemp()).absolute()
        (home / "txworker").mkdir(parents=True)
        (home / "txworker" / "client.toml").write_text('workers = {a = {addr = "a:1"}, b = {addr = "b:2"}}')
        with mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": str(home)}):
            workers, _, allow_stop, _ = self.served("--all-workers", "--allow-stop")
        self.assertEqual([page.PageWorker("a", "a:1"), page.PageWorker("b", "b:2")], workers)
        self.assertTrue(allow_stop)

    def test_refused(self) -> None:
        """What the page refuses is the command's sentence, with status 1."""
        with self.assertRaisesRegex(Failed, "not there") as caught:
            self.served("a:1", raises=page.WrongPlace("not there"))
        self.assertEqual(1, caught.exception.status)
