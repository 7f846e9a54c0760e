"""Names of users in sentences."""

from __future__ import annotations

import os
import pwd
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.accounts import name_of_user


class NameTests(SynchronousTestCase):
    def test_names(self) -> None:
        """A user is named; one without an account is its number."""
        self.assertEqual(pwd.getpwuid(os.getuid()).pw_name, name_of_user(os.getuid()))
        self.assertEqual("4000000001", name_of_user(4_000_000_001))

    def test_no_text(self) -> None:
        """A name of bytes that are no UTF-8 can be stored and sent."""
        account = pwd.struct_passwd(("m\udcfcller", "x", 4242, 4242, "", "/", ""))
        with mock.patch.object(pwd, "getpwuid", return_value=account):
            name = name_of_user(4242)
        self.assertEqual(("m\\udcfcller", b"m\\udcfcller"), (name, name.encode()))
