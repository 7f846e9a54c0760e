"""The names of the user that jobs run as."""

from __future__ import annotations

import os
import pwd
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.process.identity import names_of


class NamesTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """A user has its name and its number, whichever is configured."""
        nobody = pwd.getpwnam("nobody")
        for configured in ("nobody", str(nobody.pw_uid)):
            self.assertEqual(("nobody", str(nobody.pw_uid)), names_of(configured))

    def test_own(self) -> None:
        """Where none is configured it is the worker's own."""
        self.assertEqual((pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())), names_of(""))

    def test_without_account(self) -> None:
        """A worker whose user has no account, as in a container, has the number alone."""
        with mock.patch("os.getuid", return_value=4_000_000_123):
            self.assertEqual(("4000000123",), names_of(""))
