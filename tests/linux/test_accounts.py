"""Groups of users."""

from __future__ import annotations

import os
import pwd

from twisted.trial.unittest import SynchronousTestCase

from txworker.linux.accounts import groups_of


class GroupsTests(SynchronousTestCase):
    def test_as_python_has_them(self) -> None:
        """Every user of this machine has the groups that os.getgrouplist() tells, however many are asked for first."""
        for account in pwd.getpwall():
            expected = os.getgrouplist(account.pw_name, account.pw_gid)
            for most in (64, 1, 0):
                self.assertEqual(expected, groups_of(account.pw_name, account.pw_gid, most), account)

    def test_no_text(self) -> None:
        """A name that is no UTF-8 is looked up as it is; a user that is in no group has the one that is given."""
        self.assertEqual([4242], groups_of("m\udcfcller", 4242))
