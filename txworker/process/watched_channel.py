"""A channel to the shim that the worker watches; there is one to its loop and one to its spawn thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from txworker.base.logs import Logger
from txworker.base.reactor import Timer, WatchingReactor
from txworker.shim.messages import Channel, Message

_PAUSE_SECONDS = 0.1
"""Between two tries to receive."""


class WatchedChannel:
    """
    received(message, descriptors) is called for each message, at most `per_turn` of them in one turn of the reactor; it
    closes the descriptors. lost() is called when the shim has hung up, perhaps more than once, and closes this object.
    While the kernel lacks memory to receive, it is tried again and again: the shim has not hung up. Reactor thread.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: WatchingReactor,
        channel: Channel,
        per_turn: int,
        received: Callable[[Message, list[int]], None],
        lost: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._channel = channel
        self._per_turn = per_turn
        self._received = received
        self._lost = lost
        self._pause: Timer | None = None
        self.closed = False
        reactor.addReader(self)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """As Channel.send(). Raises OSError: the shim is gone, which lost() tells, too."""
        self._channel.send(message, descriptors)

    @property
    def full(self) -> bool:
        """As Channel.full."""
        return self._channel.full

    def flush(self) -> None:
        """As Channel.flush(). Raises OSError, as send()."""
        self._channel.flush()

    def close(self) -> None:
        """Watch and receive no more. May be called again."""
        if not self.closed:
            self.closed = True
            self._reactor.removeReader(self)
            if self._pause is not None:
                self._pause.cancel()
            self._channel.close()

    def fileno(self) -> int:
        """WatchingReactor: the watched descriptor."""
        return self._channel.fileno()

    def doRead(self) -> None:
        """WatchingReactor: messages can be received, or the shim has hung up."""
        for _ in range(self._per_turn):
            if self.closed:
                return
            try:
                message, descriptors = self._channel.receive()
            except BlockingIOError:
                return
            except ConnectionError:
                self._lost()
                return
            except OSError as error:
                self._log.error("Messages of the shim cannot be received: {error}. Trying again.", error=error)
                self._reactor.removeReader(self)
                self._watch_later()
                return
            try:
                self._received(message, descriptors)
            except Exception:  # a bug, which concerns one job
                self._log.failure("handling the shim's message {message}", message=message.get("type"))

    def _watch_later(self) -> None:
        self._pause = self._reactor.callLater(_PAUSE_SECONDS, self._watch_again)

    def _watch_again(self) -> None:
        self._pause = None
        try:
            self._reactor.addReader(self)
        except OSError:  # the kernel has no room for it
            self._watch_later()
