"""What the connection to the shim tells of the shim that it found."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.reconnecting_shim import ReconnectingShim
from txworker.process.shim_handshake import Handshake


class TakenOverTests(SynchronousTestCase):
    def test_only_with_jobs(self) -> None:
        """A shim without jobs is replaced when a worker starts, so only one that has jobs is taken over."""
        any_part: Any = mock.MagicMock()
        held: list[Any]
        for held, starting, complete, taken_over in (
            ([], [], False, False),
            ([], [], True, False),
            ([any_part], [], True, True),
            ([], ["a"], True, True),
        ):
            hello = {"pid": 7, "thread": 8}
            handshake = Handshake(any_part, hello, any_part, held, starting, complete)
            shim = ReconnectingShim(any_part, any_part, mock.Mock(return_value=handshake))
            self.assertEqual((complete, taken_over), (shim.complete, shim.taken_over))
