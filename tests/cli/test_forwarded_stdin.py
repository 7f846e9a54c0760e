"""The standard input of `txworker run`, without a worker."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.fakes import FakeClient
from txworker.cli.failures import REFUSED, Failed
from txworker.cli.forwarded_stdin import ForwardedStdin, forwarded_stdin

LIMIT = 30.0


class FedClient(FakeClient):
    """It takes all bytes, and lets a test wait for the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[bytes] = []
        self.began = threading.Event()

    def feed(self, job_id: str, source: Iterable[bytes]) -> int:
        for data in source:
            self.fed.append(data)
            self.began.set()
        raise AssertionError("the source ended, so the job's stdin would be closed")


class ForwardedStdinTests(SynchronousTestCase):
    def test_stop(self) -> None:
        """The thread that reads ends when the run is over, though the input has no end; the job's stdin stays open."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        client = FedClient()
        stdin = ForwardedStdin(b"first", read)
        thread = threading.Thread(target=stdin.feed, args=(cast(Any, client), "a"), daemon=True)
        thread.start()
        self.assertTrue(client.began.wait(LIMIT))
        stdin.stop()
        thread.join(LIMIT)
        self.assertEqual((False, [b"first"]), (thread.is_alive(), client.fed))

    def test_steady(self) -> None:
        """An input that never pauses for long, as that of `tail -f`, does not delay the start."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        over = threading.Event()

        def write_steadily() -> None:
            for _ in range(round(LIMIT / 0.05)):
                os.write(write, b"line\n")
                if over.wait(0.05):
                    break
            os.close(write)

        thread = threading.Thread(target=write_steadily)
        thread.start()
        stdin = forwarded_stdin(f"/dev/fd/{read}")
        over.set()
        thread.join(LIMIT)
        self.assertIsNotNone(stdin.fd, "it was read to its end")
        self.assertEqual((b"", b"line\n"), (stdin.in_request, stdin.beginning[:5]))

    def test_directory(self) -> None:
        """What cannot be read is named."""
        path = self.mktemp()
        os.mkdir(path)
        with self.assertRaises(Failed) as caught:
            forwarded_stdin(path)
        self.assertEqual(
            (f"--stdin: {path}: Is a directory", REFUSED), (str(caught.exception), caught.exception.status)
        )
