"""
The page of this worker alone, on its own HTTP server: a client of its socket, as any program on this machine may be.

Imported only if web.page is configured: nothing else in the worker needs the client library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from txworker.page import PageWorker, page_of
from txworker.page.page_resource import PageResource
from txworker.page.place import LOOPBACK_NAMES
from txworker.rpc.control import SOCKET_NAME


class PageDoor(Service):
    """Shows and stops nothing. Started once the worker serves, and stopped while it still does."""

    def __init__(self, reactor: Any, state_directory: Path, name: str, host: str, most_streams: int) -> None:
        worker = PageWorker(name, f"unix:{state_directory / SOCKET_NAME}")
        hosts = {*LOOPBACK_NAMES, host}
        self._page = page_of(reactor, [worker], hosts, allow_stop=False, most_streams=most_streams)

    @property
    def resource(self) -> PageResource:
        """What the HTTP server serves."""
        return self._page.resource

    def startService(self) -> None:
        """Connect to the worker."""
        super().startService()
        self._page.start()

    def stopService(self) -> Deferred[Any]:
        """Leave it; fires when all calls have ended."""
        super().stopService()
        return self._page.stop()
