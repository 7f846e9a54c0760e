"""An epoll set of which some calls fail."""

from __future__ import annotations

import errno
from typing import Any


class FailingEpoll:
    """The kernel refuses the next so many calls of unregister(). Everything else goes to `real`."""

    def __init__(self, real: Any, refusals: int) -> None:
        self._real = real
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def unregister(self, fd: int) -> None:
        if self._refusals:
            self._refusals -= 1
            raise OSError(errno.ENOMEM, "no memory")
        self._real.unregister(fd)
