"""What systemd is told. The socket is real: messages are what is promised."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.support.service_manager import ServiceManager
from txworker.daemon.notify import (
    STATUS_SECONDS,
    Notifier,
    notifier_of,
    status_updates,
    unset_service_manager,
    watchdog,
)


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.manager = ServiceManager(Path(self.mktemp()))
        self.addCleanup(self.manager.close)
        self.notifier = Notifier(self.manager.path)

    def test_messages(self) -> None:
        """Each state is a message as sd_notify(3) has it; RELOADING has the time at which it began."""
        before = time.monotonic_ns() // 1000
        self.notifier.ready()
        self.notifier.reloading()
        self.notifier.ready()
        self.notifier.alive()
        self.notifier.stopping()
        ready, reloading, *rest = self.manager.waiting()
        self.assertEqual([{"READY": "1"}] * 2, [ready, rest[0]])
        self.assertEqual("1", reloading["RELOADING"])
        self.assertTrue(before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000)
        self.assertEqual([{"WATCHDOG": "1"}, {"STOPPING": "1", "STATUS": "Stopping."}], rest[1:])

    def test_not_after_stopping(self) -> None:
        """A reload that ends while the worker stops does not make it ready again."""
        self.notifier.stopping()
        self.notifier.reloading()
        self.notifier.ready()
        self.notifier.status("words")
        self.assertEqual(1, len(self.manager.waiting()))

    def test_status(self) -> None:
        """The same status is sent once."""
        for text in ("one", "one", "two"):
            self.notifier.status(text)
        self.assertEqual([{"STATUS": "one"}, {"STATUS": "two"}], self.manager.waiting())

    def test_abstract_socket(self) -> None:
        """A socket without a file has a name with @."""
        name = f"txworker-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
            abstract.bind(f"\0{name}")
            abstract.settimeout(5)
            Notifier(f"@{name}").ready()
            self.assertEqual(b"READY=1", abstract.recv(100))

    def test_nobody_reads(self) -> None:
        """A service manager that does not read, or is gone, holds nothing up."""
        for _ in range(10_000):
            self.notifier.alive()
        self.manager.close()
        self.notifier.alive()
        nowhere = Notifier()
        nowhere.ready()
        self.assertFalse(nowhere.wanted)

    def test_impossible_socket(self) -> None:
        """A path that no socket can have is told as what it is, once."""
        told: list[str] = []
        observer: Any = lambda event: told.append(formatEvent(event))  # noqa: E731  # ILogObserver
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        notifier = Notifier("/" + 300 * "x")
        notifier.ready()
        notifier.alive()
        self.assertEqual(["systemd cannot be told about the worker: AF_UNIX path too long."], told)

    def test_environment(self) -> None:
        """The environment names the socket and the watchdog's time, if that is meant for this process."""
        given = {"NOTIFY_SOCKET": self.manager.path, "WATCHDOG_USEC": "3000000"}
        for pid, seconds in ((None, 3.0), ("7", 3.0), ("8", 0.0)):
            environment = given if pid is None else {**given, "WATCHDOG_PID": pid}
            self.assertEqual(seconds, notifier_of(environment, 7).watchdog_seconds)
        self.assertEqual(0.0, notifier_of({**given, "WATCHDOG_USEC": "soon"}, 7).watchdog_seconds)
        self.assertFalse(notifier_of({}, 7).wanted)

    def test_unset(self) -> None:
        """What is said to the worker is taken out of its environment, and nothing else is."""
        environment = {"NOTIFY_SOCKET": "x", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "PATH": "/bin", "HOME": "/"}
        unset_service_manager(environment)
        self.assertEqual({"PATH": "/bin", "HOME": "/"}, environment)


class ServicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.manager = ServiceManager(Path(self.mktemp()))
        self.addCleanup(self.manager.close)
        self.clock = Clock()
        self.text = "one"

    def start(self, notifier: Notifier) -> None:
        for service in (*watchdog(notifier, self.clock), *status_updates(notifier, lambda: self.text, self.clock)):
            service.startService()
            self.addCleanup(service.stopService)

    def test_watchdog(self) -> None:
        """Signs of life are sent twice as often as they are wanted."""
        self.start(Notifier(self.manager.path, 3.0))
        self.manager.waiting()
        for _ in range(4):
            self.clock.advance(1.5)
        self.assertEqual(4, self.manager.waiting().count({"WATCHDOG": "1"}))

    def test_no_watchdog(self) -> None:
        """Where none is wanted, only the status is sent, when it has changed."""
        self.start(Notifier(self.manager.path))
        for self.text in ("one", "two", "two"):
            self.clock.advance(STATUS_SECONDS)
        self.assertEqual([{"STATUS": "one"}, {"STATUS": "two"}], self.manager.waiting())

    def test_no_service_manager(self) -> None:
        """Without a service manager there are no timers."""
        self.start(Notifier())
        self.assertEqual([], self.clock.getDelayedCalls())
