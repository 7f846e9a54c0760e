"""The fake client has the methods that it stands for."""

from __future__ import annotations

import inspect

from twisted.trial.unittest import SynchronousTestCase

from tests.page.fakes import FakeClient
from txworker.client.tx import TwistedClient


class FakeClientTests(SynchronousTestCase):
    def test_signatures(self) -> None:
        """Each method that the page calls takes what the real one takes."""
        for name in ("jobs", "usage", "get", "stop", "watch", "follow", "close"):
            fake, real = (inspect.signature(getattr(kind, name)).parameters for kind in (FakeClient, TwistedClient))
            self.assertEqual(
                [(one.name, one.kind, one.default) for one in real.values()],
                [(one.name, one.kind, one.default) for one in fake.values()],
                name,
            )
