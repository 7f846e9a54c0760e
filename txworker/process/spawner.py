"""An IReactorProcess for a daemon full of threads: never forks, own session for each child, exact errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from zope.interface import implementer

from txworker.cores import NOBODY_PINNED, Cores
from txworker.process.child import Starts
from txworker.process.descriptors import DescriptorLimit
from txworker.process.pipe import ReactorWithReaders
from txworker.process.poller import quickest_watch
from txworker.process.prepared import Preparation
from txworker.process.transport import ChildTransport

SAME_PIPE = "="
"""In childFDs: this descriptor shares the pipe of descriptor 1, so that the order of writes is kept."""


@implementer(IReactorProcess)
class Spawner:
    """Nothing is done for each running child when one is launched or exits: no scan of descriptors, no waitpid."""

    def __init__(
        self, reactor: ReactorWithReaders, starts: Starts, descriptors: DescriptorLimit, cores: Cores = NOBODY_PINNED
    ) -> None:
        self._reactor: ReactorWithReaders = quickest_watch(reactor, cores)
        self._starts = starts
        self._descriptors = descriptors
        self._cores = cores

    def spawnProcess(
        self,
        processProtocol: ProcessProtocol,
        executable: str,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        path: str | None = None,
        uid: int | None = None,
        gid: int | None = None,
        usePTY: bool = False,
        childFDs: Mapping[int, int | str] | None = None,
        preparation: Preparation = Preparation(),
    ) -> Any:
        """
        As IReactorProcess has it, with childFDs of 0, 1 and 2: a descriptor of ours, "r" or SAME_PIPE. Reactor thread.

        The child leads its own session. The result is a ChildTransport. preparation is what must be so before the
        child's first instruction; uid and gid are part of it.

        Raises:
            OSError: as start_child; no child, no descriptor is left.
            ValueError: as start_child, or something is asked for that is not offered here.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY is not offered; uid and gid belong into the preparation")
        pipes: dict[int, int] = {}
        descriptors: dict[int, int] = {}
        ours: list[int] = []
        try:
            for child_fd, wanted in sorted((childFDs or {}).items()):
                if wanted == "r":
                    reading, descriptors[child_fd] = os.pipe()
                    ours.append(descriptors[child_fd])
                    pipes[child_fd] = self._descriptors.moved_up(reading)
                    os.set_blocking(pipes[child_fd], False)
                else:
                    descriptors[child_fd] = descriptors[1] if wanted == SAME_PIPE else int(wanted)
            environment = os.environ if env is None else env
            with self._cores.roaming(), self._descriptors.original_for_children():
                pid = self._starts.start(args or [executable], environment, path, descriptors, preparation)
            return self._watched(processProtocol, pid, pipes)
        except BaseException:
            _close(pipes.values())
            raise
        finally:
            _close(ours)

    def _watched(self, protocol: ProcessProtocol, pid: int, pipes: Mapping[int, int]) -> ChildTransport:
        try:
            return ChildTransport(self._reactor, protocol, pid, pipes, self._descriptors.moved_up)
        except OSError:  # a child that nobody can watch would be nobody's
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise


def _close(descriptors: Any) -> None:
    for fd in descriptors:
        os.close(fd)
