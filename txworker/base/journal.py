"""
Writes events to systemd's journal by its own protocol, with the fields of each sentence as fields of the entry.

The protocol is a datagram for each entry (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). systemd's Python binding needs
a C compiler and libsystemd's headers to be installed, for what is written here in a page.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver
from zope.interface import implementer

from txworker.base.log_events import fields_of, message_of, priority_of, traceback_of

JOURNAL_SOCKET = "/run/systemd/journal/socket"

SEND_SECONDS = 1.0
"""How long the journal may take for one entry; then the entry goes elsewhere."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_LENGTH = struct.Struct("<Q")


@implementer(ILogObserver)
class JournalObserver:
    """
    A log observer. elsewhere(event) gets what the journal does not take: it was stopped, or does not read.

    Any thread.

    Raises:
        OSError: there is no journal at that path.
    """

    def __init__(
        self, elsewhere: Callable[[dict[str, Any]], None], path: str = JOURNAL_SOCKET, identifier: str = "txworker"
    ) -> None:
        os.stat(path)
        self._elsewhere = elsewhere
        self._path = path
        self._identifier = identifier
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SEND_SECONDS)

    def __call__(self, event: dict[str, Any]) -> None:
        """Write one event; nothing if it has no text."""
        message, traceback = message_of(event), traceback_of(event)
        if not message and not traceback:
            return
        entry = {name.upper(): value for name, value in fields_of(event).items() if value is not None}
        entry |= {
            "MESSAGE": message or traceback,
            "PRIORITY": priority_of(event),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": event.get("log_namespace") or "-",
        }
        if traceback:
            entry["TRACEBACK"] = traceback
        try:
            self._socket.sendto(datagram(entry), self._path)  # not connected: the journal may be started anew
        except OSError:
            self._elsewhere(event)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def datagram(entry: Mapping[str, Any]) -> bytes:
    """The entry as the journal reads it. Fields with names that the journal refuses are left out."""
    return b"".join(_field(name, str(value)) for name, value in entry.items() if _NAME.fullmatch(name))


def _field(name: str, text: str) -> bytes:
    value = text.encode(errors="backslashreplace")
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return b"%s\n%s%s\n" % (name.encode(), _LENGTH.pack(len(value)), value)


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written to this descriptor goes to the journal (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
