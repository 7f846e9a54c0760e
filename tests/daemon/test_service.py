"""The ways of being started that the worker refuses, and the log that it gives twistd."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from txworker.daemon.refusals import CannotStart, check_identity, check_twistd


class RefusalTests(SynchronousTestCase):
    def test_not_root(self) -> None:
        """Without root the worker cannot change its user, and says so before twistd tries."""
        self.patch(os, "geteuid", lambda: 1000)
        self.patch(os, "getegid", lambda: 1001)
        for option in ("uid", "gid"):
            refusal = self.assertRaises(CannotStart, check_twistd, {option: 7})
            self.assertIn(f"twistd --{option}: only root can become {option} 7, this is uid 1000", str(refusal))
        check_twistd({"uid": 1000, "gid": 1001})

    def test_root(self) -> None:
        """Root may change its user for good."""
        self.patch(os, "geteuid", lambda: 0)
        check_twistd({"uid": 7, "gid": 7, "euid": 0, "chroot": None, "debug": 0})

    def test_two_users_at_once(self) -> None:
        """A worker whose user ids or group ids differ, through a set-user-ID program say, is refused."""
        check_identity()
        self.patch(os, "getresuid", lambda: (1000, 0, 0))
        self.assertIn("user ids of the worker differ (1000, 0, 0;", str(self.assertRaises(CannotStart, check_identity)))
