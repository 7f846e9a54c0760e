"""
A job's pseudo-terminal: the shim has the master, and moves what comes from it into the pipe that the worker reads.

So for the worker, and for the copying without a worker, a terminal's output is a pipe's, and a SIGKILL of the worker
loses none of it: the bytes are in the terminal, in the pipe or in the file. They are in the shim's memory between two
system calls; if the shim is killed there, its jobs are lost with it.
"""

from __future__ import annotations

import os
import select

from txworker.linux.terminals import set_size
from txworker.shim.events import Events

_BLOCK_BYTES = select.PIPE_BUF
"""A pipe with any room takes so much at once (pipe(7)); a terminal gives no more at a time."""

_BLOCKS_AT_ONCE = 16
"""Blocks of one terminal in one turn of the loop."""


class Terminal:
    """
    master: without blocking. slave: kept open until leader_exited(), because between two processes of a job that have
    it open the terminal has not ended. pipe: the write end. The terminal closes all three. The loop's thread.
    """

    def __init__(self, events: Events, master: int, slave: int, pipe: int) -> None:
        self._master = master
        self._events = events
        self._slave = slave
        self._pipe = pipe
        self._has_room = select.poll()
        self._has_room.register(pipe, select.POLLOUT)

    def start(self) -> None:
        """The job's process runs: begin to move its output."""
        self._events.watch(self._master, self._readable)

    def resize(self, rows: int, columns: int) -> None:
        """Give it that size; nothing, when it has ended."""
        if self._master >= 0:
            set_size(self._master, rows, columns)

    def leader_exited(self) -> None:
        """The terminal ends when no other process of the job has it open."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1

    def close(self) -> None:
        """Close everything; the kernel hangs up on the processes that have the terminal open."""
        self.leader_exited()
        if self._master >= 0:
            self._events.unwatch(self._master)
            self._events.unwatch(self._pipe)
            os.close(self._master)
            os.close(self._pipe)
            self._master = self._pipe = -1

    def _readable(self) -> None:
        for _ in range(_BLOCKS_AT_ONCE):
            if not self._has_room.poll(0):
                self._wait_for_room(True)
                return
            try:
                data = os.read(self._master, _BLOCK_BYTES)
            except BlockingIOError:
                return
            except OSError:  # EIO: no process has the slave open any more
                data = b""
            if not data:
                self.close()
                return
            os.write(self._pipe, data)

    def _room(self) -> None:
        self._wait_for_room(False)

    def _wait_for_room(self, wanted: bool) -> None:
        """Watch the pipe in place of the terminal, or the other way round."""
        if wanted:
            self._events.unwatch(self._master)
            self._events.watch(self._pipe, self._room)
            self._events.watch_room(self._pipe, True)
        else:
            self._events.unwatch(self._pipe)
            self._events.watch(self._master, self._readable)
