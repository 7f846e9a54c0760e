"""An IReactorProcess for a daemon full of threads: never forks, own session for each child, exact errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from txworker.cores import NOBODY_PINNED, Cores
from txworker.process.child import Starts
from txworker.process.descriptors import DescriptorLimit
from txworker.process.place import Place
from txworker.process.poller import quickest_watch
from txworker.process.prepared import Preparation
from txworker.process.readable import ReactorWithReaders
from txworker.process.transport import ChildTransport

SAME_PIPE = "="
"""In childFDs: this descriptor shares the pipe of descriptor 1, so that the order of writes is kept."""


@implementer(IReactorProcess)
class Spawner:
    """Nothing is done for each running child when one is launched or exits: no scan of descriptors, no waitpid."""

    def __init__(
        self,
        reactor: ReactorWithReaders,
        starts: Starts,
        descriptors: DescriptorLimit,
        place: Place,
        cores: Cores = NOBODY_PINNED,
    ) -> None:
        self._reactor: ReactorWithReaders = quickest_watch(reactor, cores)
        self._starts = starts
        self._descriptors = descriptors
        self._place = place

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
        check: Callable[[], None] = lambda: None,
    ) -> ChildTransport:
        """
        As IReactorProcess has it, with childFDs of 0, 1 and 2: a descriptor of ours, "r" or SAME_PIPE. Reactor thread.

        The child leads its own session. It runs, or could not be started, when the result's `started` fires; until then
        descriptors of ours must stay open. preparation is what must be so before the child's first instruction; uid
        and gid are part of it. check() is called last thing before the child is made, in whatever thread; what it
        raises is what `started` fails with.

        Raises:
            OSError: no descriptor is left. `started` fails with this too, as start_child raises it; then no child and
                no descriptor is left.
            ValueError: something is asked for that is not offered here. `started` fails as start_child does.
        """
        if uid is not None or gid is not None or usePTY:
            raise ValueError("usePTY is not offered; uid and gid belong into the preparation")
        ends = _Ends(childFDs or {}, self._descriptors.moved_up)
        transport = ChildTransport(self._reactor, processProtocol, self._descriptors.moved_up)
        argv, environment = args or [executable], os.environ if env is None else env

        def make(descriptors: Mapping[int, int]) -> int:
            check()
            return self._starts.start(argv, environment, path, descriptors, preparation)

        made = self._place.make(make, ends.childs).addCallback(_watched, transport, ends.ours)
        transport.started = made.addBoth(ends.over)
        return transport


class _Ends:
    """The two ends of a child's pipes: `childs` to be given to it, as it is to have them; `ours` to be read."""

    def __init__(self, wanted: Mapping[int, int | str], kept: Callable[[int], int]) -> None:
        self.childs: dict[int, int] = {}
        self.ours: dict[int, int] = {}
        self._writing: list[int] = []
        try:
            for child_fd, what in sorted(wanted.items()):
                if what == "r":
                    reading, writing = os.pipe()
                    self._writing.append(writing)
                    self.ours[child_fd] = reading
                    self.ours[child_fd] = kept(reading)
                    os.set_blocking(self.ours[child_fd], False)
                    self.childs[child_fd] = writing
                else:
                    self.childs[child_fd] = self.childs[1] if what == SAME_PIPE else int(what)
        except BaseException:
            _close([*self._writing, *self.ours.values()])
            raise

    def over(self, result: ChildTransport | Failure) -> ChildTransport | Failure:
        """The child has what is its own; when there is none, nobody needs ours either."""
        _close(self._writing)
        if isinstance(result, Failure):
            _close(self.ours.values())
        return result


def _watched(pid: int, transport: ChildTransport, pipes: Mapping[int, int]) -> ChildTransport:
    try:
        return transport.begin(pid, pipes)
    except OSError:  # a child that nobody can watch would be nobody's
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)
