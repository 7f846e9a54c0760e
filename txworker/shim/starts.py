"""
Starting a job's process, in the spawn thread: at once by posix_spawn, or prepared first where only code in the child
can.

Limits and another user must be set between a child's making and its first instruction, which takes a fork.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections import ChainMap
from collections.abc import Mapping

from txworker.linux.posix_spawn import PosixSpawn
from txworker.linux.rlimit_tag import tagged
from txworker.shim.cgroup_moves import Moves
from txworker.shim.prepared_start import CannotClone, start_prepared

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

    Order = Mapping[str, Any]
else:
    Order = Mapping

"""What a message `spawn` holds (messages.py)."""


class Starts:
    """
    defaults: what every job inherits, as the worker that is connected says it (`defaults` of the message hello).

    One thread, whose descriptors, umask and working directory are its own.
    """

    def __init__(self) -> None:
        self._at_once = PosixSpawn()
        self._moves = Moves()
        self.environment: Mapping[str, str] = {}
        self.descriptor_limit = resource.getrlimit(resource.RLIMIT_NOFILE)

    def start(self, order: Order, descriptors: Mapping[int, int]) -> int:
        """
        The pid of the order's process, which runs.

        Raises:
            OSError: there is no process. `filename` is the directory, the first word, or the step that failed.
        """
        environment = order["env"] if order["whole_env"] else ChainMap(order["env"], self.environment)  # type: ignore[arg-type]  # nothing writes into the last map
        if order["cgroup"]:
            os.mkdir(order["cgroup"])
        try:
            return self._start(order, environment, descriptors)
        except BaseException:
            if order["cgroup"]:
                with contextlib.suppress(OSError):
                    os.rmdir(order["cgroup"])
            raise

    def _start(self, order: Order, environment: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
        if order["limits"] or order["user"] or order["nice"]:
            return start_prepared(order, environment, descriptors, self.descriptor_limit)
        if order["cgroup"] and not self._moves.quick():
            with contextlib.suppress(CannotClone):  # a sandbox without clone3, perhaps: then it is moved
                return start_prepared(order, environment, descriptors, self.descriptor_limit)
        with _descriptor_limit(self.descriptor_limit), tagged(order["tag"]):
            pid = self._at_once(order["argv"], environment, order["directory"], descriptors)
        if order["cgroup"]:
            _write(f"{order['cgroup']}/cgroup.procs", pid)
        if order["oom_score_adj"]:
            _write(f"/proc/{pid}/oom_score_adj", order["oom_score_adj"])
        return pid


@contextlib.contextmanager
def _descriptor_limit(wanted: tuple[int, int]) -> Any:
    """A child that is made inside starts with this limit; for that moment it is the shim's own, too."""
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    if wanted == ours:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted[0], ours[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)


def _write(path: str, value: int) -> None:
    """To a file of the kernel's that is about a child; one that has exited already is no error."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"%d" % value)
        finally:
            os.close(fd)
