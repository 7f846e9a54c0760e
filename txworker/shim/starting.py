"""A job that is being started, and what connects it to the worker: its output pipes, and its terminal if it has one."""

from __future__ import annotations

import os
from collections.abc import Callable

from txworker.linux.terminals import open_terminal
from txworker.shim.events import Events
from txworker.shim.messages import Message
from txworker.shim.terminal import Terminal


class Starting:
    """
    request: the message `spawn`. pipes: the read ends, by the job's descriptors. child_ends: what the child gets, until
    close_child_ends(). The loop's thread.
    """

    def __init__(self, request: Message) -> None:
        self.request = request
        self.pipes: dict[int, int] = {}
        self.terminal: Terminal | None = None
        self.child_ends: list[int] = []

    def connect(self, events: Events, high: Callable[[int], int]) -> None:
        """
        Make the pipes, or the terminal and its pipe. high(fd) gives descriptors that are kept another number.

        Raises:
            OSError: they cannot be made; then call close() and close_child_ends().
        """
        owner = None if self.request["user"] is None else self.request["user"][0]
        if self.request["terminal"]:
            self._make_terminal(events, high, owner)
            return
        for child_fd in (1, 2)[: 1 + self.request["separate_stderr"]]:
            write_end = self._make_pipe(child_fd, high)
            self.child_ends.append(write_end)
            if owner is not None:
                os.fchown(write_end, owner, self.request["user"][1])  # so that the job can open /dev/stderr

    def close_child_ends(self) -> None:
        """They are the child's, or were passed on to the thread that starts it."""
        for fd in self.child_ends:
            os.close(fd)
        self.child_ends = []

    def close(self) -> None:
        """The job was not started."""
        for fd in self.pipes.values():
            os.close(fd)
        if self.terminal is not None:
            self.terminal.close()

    def _make_terminal(self, events: Events, high: Callable[[int], int], owner: int | None) -> None:
        rows, columns = self.request["terminal"]
        master, slave = open_terminal(rows, columns, owner)
        self.child_ends.append(slave)
        try:
            write_end = self._make_pipe(1, high)
        except OSError:
            os.close(master)
            raise
        self.terminal = Terminal(events, high(master), high(os.dup(slave)), high(write_end))

    def _make_pipe(self, child_fd: int, high: Callable[[int], int]) -> int:
        """Returns the write end."""
        read_end, write_end = os.pipe()
        self.pipes[child_fd] = high(read_end)
        os.set_blocking(self.pipes[child_fd], False)
        return write_end
