"""Being the parent of every orphan below the worker (PR_SET_CHILD_SUBREAPER, prctl(2))."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from txworker.process.census import Census

_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def adopt_orphans(handlers: dict[Any, Any], census: Census) -> Callable[[], None]:
    """
    From now on this process is the parent of every orphan below it; the census waits for those that exit.

    handlers is Twisted's table of whom it tells of SIGCHLD. The result ends the telling.

    Raises:
        OSError: the kernel does not offer it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl") or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be adopted here")
    handlers[0] = census
    return lambda: handlers.pop(0, None) and None
