"""A job that is being started, and what connects it to the worker: its pipes, and its terminal if it has one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from txworker.linux.terminals import open_terminal
from txworker.shim.events import Events
from txworker.shim.feeding import Feeding
from txworker.shim.held_job import HeldJob
from txworker.shim.messages import Message
from txworker.shim.terminal import Terminal

END_OF_TRANSMISSION = b"\x04"
"""Ctrl-D: a terminal has no other end of its input (VEOF; termios(3))."""


class Starting:
    """
    request: the message `spawn`. pipes: the read ends, by the job's descriptors. stdin: what feeds the job; None: it
    has no input. child_ends: what the child gets, until close_child_ends(). The loop's thread.
    """

    def __init__(self, request: Message) -> None:
        self.request = request
        self.pipes: dict[int, int] = {}
        self.terminal: Terminal | None = None
        self.stdin: Feeding | None = None
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
            self._own(write_end)

    def connect_stdin(
        self, events: Events, high: Callable[[int], int], given: Sequence[int], fed: Callable[[], None]
    ) -> None:
        """
        After connect(): make what feeds the job. given: a file with its first bytes, which stays the caller's; none if
        the request has no stdin. fed() is called as Feeding.told().

        Raises:
            OSError: as connect().
        """
        if self.terminal is not None:
            if self.request["feed"]:
                self.stdin = Feeding(events, high(os.dup(self.terminal.master)), fed, at_end=END_OF_TRANSMISSION)
            return
        if not given and not self.request["feed"]:
            return
        read_end, write_end = os.pipe()
        self.child_ends.insert(0, read_end)
        self._own(read_end)
        self.stdin = Feeding(events, high(write_end), fed)
        if given:
            self.stdin.put(high(os.dup(given[0])), ends=not self.request["feed"])

    def held(self, pid: int, ticks: int) -> HeldJob:
        """The process runs: begin to move what its terminal prints, and what feeds it."""
        for one in (self.terminal, self.stdin):
            if one is not None:
                one.start()
        stdin = self.stdin if self.stdin is not None and self.stdin.is_open else None
        return HeldJob(self.request, pid, ticks, self.pipes, self.terminal, stdin)

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
        if self.stdin is not None:
            self.stdin.close()

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

    def _own(self, end: int) -> None:
        """Let the job's user open the pipe by its name, as /dev/stderr."""
        if self.request["user"] is not None:
            os.fchown(end, self.request["user"][0], self.request["user"][1])

    def _make_pipe(self, child_fd: int, high: Callable[[int], int]) -> int:
        """Returns the write end."""
        read_end, write_end = os.pipe()
        self.pipes[child_fd] = high(read_end)
        os.set_blocking(self.pipes[child_fd], False)
        return write_end
