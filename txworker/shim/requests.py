"""
The spawn requests of the worker that is connected. They come over a socket of their own, which the spawn thread reads
and answers itself, so that a start wakes the loop only when the process runs.

When a worker has gone, the loop takes the requests that were not begun, because their jobs are recorded: it has them
started, and the next worker finds the jobs.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from txworker.shim.messages import RECALLED, Channel, Message, MessageLost, close_all

_SEND_BUFFER_BYTES = 512 * 1024
"""Asked for: room for the requests that a worker sends before an answer, so that each can be recalled."""

_TRIES = 100
_PAUSE_SECONDS = 0.01
"""Between two tries to send an answer. Other starts wait meanwhile."""


class Requests:
    """
    connect(), disconnect() and recall() are for the loop's thread, the others for the spawn thread.

    starting: the job that is being started, empty if there is none. Any thread.
    """

    def __init__(self) -> None:
        self.starting = ""
        self._lock = threading.Lock()  # held while a request is read: it is either begun or left to disconnect()
        self._connection = 0  # the number of the connection that counts
        self._loop_end: Channel | None = None
        self._thread_end: Channel | None = None
        self._attached = 0  # the number of the connection that the thread has

    def connect(self) -> tuple[socket.socket, socket.socket, int]:
        """
        From now on requests come from a new connection: the worker's end of it, the end for attach(), which has to be
        passed to the thread, and its number. The caller closes both.
        """
        self.disconnect()
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        ours.setblocking(False)
        self._loop_end = Channel(ours.dup())
        return theirs, ours, self._connection

    def disconnect(self) -> list[tuple[Message, list[int]]]:
        """
        From now on no request counts. Returns those that are not begun, each with its descriptors, which the caller
        closes.
        """
        left: list[tuple[Message, list[int]]] = []
        with self._lock:
            self._connection += 1
            if self._loop_end is not None:
                with suppress(OSError):  # that was the last one
                    while True:
                        with suppress(MessageLost):  # it is not started, and the next worker drops it
                            left.append(self._loop_end.receive())
                self._loop_end.close()
                self._loop_end = None
        return left

    def recall(self) -> None:
        """Answer RECALLED to the requests that are not begun, as long as a descriptor is free to receive them."""
        if self._loop_end is None:
            return
        with suppress(OSError):  # the last one; or the worker is gone; or no descriptor is free
            while True:
                os.close(os.dup(self._loop_end.fileno()))
                message, descriptors = self._loop_end.receive()
                close_all(descriptors)
                self._loop_end.send({"type": "failed", "job": message["job"], "errno": 1, "step": RECALLED})

    def attach(self, number: int, connection: socket.socket) -> int:
        """The thread's end of that connection; returns the descriptor to wait for."""
        self.detach()
        self._thread_end, self._attached = Channel(connection), number
        return connection.fileno()

    def detach(self) -> int | None:
        """Close the thread's end; the descriptor that it had."""
        fd = None
        if self._thread_end is not None:
            fd = self._thread_end.fileno()
            self._thread_end.close()
            self._thread_end = None
        return fd

    def begin(self) -> tuple[Message, list[int]] | None:
        """
        The next request and its descriptors; None: it was recalled, or was lost, and is refused. Its job is `starting`
        until end().

        Raises:
            ConnectionError: the worker has gone.
        """
        assert self._thread_end is not None
        with self._lock:
            if self._attached != self._connection:
                raise ConnectionResetError
            try:
                message, descriptors = self._thread_end.receive()
            except BlockingIOError:
                return None
            except MessageLost as lost:
                self.answer({"type": "failed", "job": "", "errno": lost.errno, "step": ""})
                return None
            self.starting = message["job"]
        return message, descriptors

    def begin_left(self, job_id: str) -> None:
        """One that disconnect() returned is begun; its job is `starting` until end()."""
        self.starting = job_id

    def end(self) -> None:
        """What was begun is done, whether there is a process or not."""
        self.starting = ""

    def answer(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Answer it; while the kernel lacks memory for it, try again. A worker that has gone hears nothing."""
        if self._thread_end is None:
            return
        with suppress(OSError):
            self._thread_end.send(message, descriptors)
        for _ in range(_TRIES):
            if not self._thread_end.full:
                return
            time.sleep(_PAUSE_SECONDS)
            with suppress(OSError):
                self._thread_end.flush()
