"""Which way of being started the worker refuses, whatever user the test runs as."""

from __future__ import annotations

from twisted.application.service import Application
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from txworker.base.logs import observer_for
from txworker.config import load
from txworker.daemon import service
from txworker.daemon.service import CannotStart, WorkerService, check_identity, check_twistd


class RefusalTests(SynchronousTestCase):
    def test_not_root(self) -> None:
        """Who is not root can become nobody else, and is told so before twistd tries."""
        self.patch(service.os, "geteuid", lambda: 1000)  # type: ignore[attr-defined]
        self.patch(service.os, "getegid", lambda: 1001)  # type: ignore[attr-defined]
        for option in ("uid", "gid"):
            refusal = self.assertRaises(CannotStart, check_twistd, {option: 7})
            self.assertIn(f"twistd --{option}: only root can become {option} 7, this is uid 1000", str(refusal))
        check_twistd({"uid": 1000, "gid": 1001})

    def test_root(self) -> None:
        """Root may become somebody else for good."""
        self.patch(service.os, "geteuid", lambda: 0)  # type: ignore[attr-defined]
        check_twistd({"uid": 7, "gid": 7, "euid": 0, "chroot": None, "debug": 0})

    def test_two_users_at_once(self) -> None:
        """A worker whose user ids or group ids differ, through a set-user-ID program say, is refused."""
        check_identity()
        self.patch(service.os, "getresuid", lambda: (1000, 0, 0))  # type: ignore[attr-defined]
        self.assertIn("user ids of the worker differ (1000, 0, 0;", str(self.assertRaises(CannotStart, check_identity)))


class LogTests(SynchronousTestCase):
    def test_observer(self) -> None:
        """twistd finds our log observer on its application and uses it instead of making one."""
        observer = observer_for({"logfile": "worker.log"})
        application = Application("worker")
        WorkerService(load(None), 0o022, observer).setServiceParent(application)
        self.assertIs(observer, application.getComponent(ILogObserver))
