"""Several schedulers as one: the worker is registered with one of them, and with the next if that cannot be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from txworker.rpc.scheduler.link import CallFailed
from txworker.rpc.scheduler.registration import SchedulerLink


class Links:
    """
    A SchedulerLink over the links of several schedulers, of which one is used at a time. Reactor thread.

    register() tries the scheduler that registered the worker last, then the others in their order, each once. A
    scheduler that comes back later does not get the worker back, because moving it would gain nothing.
    """

    def __init__(self, links: Sequence[SchedulerLink]) -> None:
        self._links = list(links)
        self._current = 0
        self._link_of: dict[str, SchedulerLink] = {}  # by worker id, until that is deregistered

    @property
    def target(self) -> str:
        """The address of the scheduler that the worker is registered with, or that is tried."""
        return self._links[self._current].target

    def open(self, lost: Callable[[], None]) -> None:
        """Open every link; lost() is called when the connection to the current scheduler is lost."""
        for number, link in enumerate(self._links):
            link.open(lambda number=number: lost() if number == self._current else None)  # type: ignore[misc]

    def register(self, address: str, timeout_seconds: float) -> Deferred[str]:
        """
        Register with the first scheduler that succeeds; each gets an equal share of the time.

        Fails with CallFailed, which names the error of each scheduler. Cancelling cancels the call under way.
        """
        return Deferred.fromCoroutine(self._register(address, timeout_seconds / len(self._links)))

    async def _register(self, address: str, timeout_seconds: float) -> str:
        failed = []
        for _ in self._links:
            link = self._links[self._current]
            try:
                worker_id = await link.register(address, timeout_seconds)
            except CallFailed as error:
                failed.append(f"{link.target}: {error}")
                self._current = (self._current + 1) % len(self._links)
            else:
                self._link_of[worker_id] = link
                return worker_id
        raise CallFailed("; ".join(failed))

    def deregister(self, worker_id: str, timeout_seconds: float) -> Deferred[None]:
        """Deregister the worker id from the scheduler that assigned it."""
        return self._link_of.pop(worker_id, self._links[self._current]).deregister(worker_id, timeout_seconds)

    def probe(self, timeout_seconds: float) -> Deferred[bool]:
        """Whether the current scheduler answers."""
        return self._links[self._current].probe(timeout_seconds)

    def close(self) -> None:
        """Close every link."""
        for link in self._links:
            link.close()
