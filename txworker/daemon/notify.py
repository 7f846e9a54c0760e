"""
What systemd is told about the worker (sd_notify(3)): that it serves, reloads, stops, what it does, and that it lives.

Each message is a datagram of text. The libraries for it are no longer maintained, or compiled against libsystemd, and
none of them can be asked not to block.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import Service

from txworker.base.logs import Logger
from txworker.daemon.repeating import repeating
from txworker.process.environ import OF_THE_SERVICE_MANAGER

STATUS_SECONDS = 5.0
"""How often the status is compared with the one sent last."""


class Notifier:
    """
    Sends to systemd's socket; without one it does nothing. Never blocks: a message that systemd does not take is left
    out. Reactor thread.

    path: as in NOTIFY_SOCKET; empty: there is no service manager that wants to know.
    watchdog_seconds: how long systemd waits for a sign of life; 0: for ever.
    """

    _log = Logger()

    def __init__(self, path: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self.watchdog_seconds = watchdog_seconds
        self._socket: socket.socket | None = None
        self._status = ""
        self._stopping = self._failed = False
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @property
    def wanted(self) -> bool:
        """Whether there is a service manager that wants to know."""
        return self._socket is not None

    def ready(self) -> None:
        """It serves, or has reloaded."""
        if not self._stopping:
            self._send("READY=1")

    def reloading(self) -> None:
        """It reads its configuration again, until ready() is called."""
        if not self._stopping:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It has begun to stop."""
        self._stopping = True
        self._send("STOPPING=1\nSTATUS=Stopping.")

    def status(self, text: str) -> None:
        """A line for `systemctl status`; sent if it is another one than before."""
        if text != self._status and not self._stopping:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The sign of life that the watchdog waits for."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log.warn("systemd cannot be told about the worker: {error}.", error=error.strerror or error)


def notifier_of(environment: Mapping[str, str], pid: int) -> Notifier:
    """The notifier that the environment asks for: NOTIFY_SOCKET, and WATCHDOG_USEC if that is for this pid."""
    usec = environment.get("WATCHDOG_USEC", "")
    is_ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
    seconds = int(usec) / 1e6 if usec.isdecimal() and is_ours else 0.0
    return Notifier(environment.get("NOTIFY_SOCKET", ""), seconds)


def unset_service_manager(environment: MutableMapping[str, str] = os.environ) -> None:
    """
    Take what the service manager says to this process out of its environment, which the shim inherits: it outlives the
    worker and must not speak for it.
    """
    for name in OF_THE_SERVICE_MANAGER:
        environment.pop(name, None)


def watchdog(notifier: Notifier, clock: Any) -> list[Service]:
    """
    Sends signs of life, twice as often as systemd wants them, from the reactor's own loop: while the reactor does not
    turn, none is sent. Empty: none are wanted.
    """
    if not notifier.wanted or not notifier.watchdog_seconds:
        return []
    return [_timer(notifier.watchdog_seconds / 2, notifier.alive, clock)]


def status_updates(notifier: Notifier, text: Callable[[], str], clock: Any) -> list[Service]:
    """Keeps the line of `systemctl status` up to date, from its start on. Empty: there is no service manager."""
    return [_timer(STATUS_SECONDS, lambda: notifier.status(text()), clock)] if notifier.wanted else []


def _timer(seconds: float, call: Callable[[], None], clock: Any) -> TimerService:
    timer = repeating(seconds, call)
    timer.clock = clock
    return timer
