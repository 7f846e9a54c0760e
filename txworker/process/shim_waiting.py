"""
Waiting for the shim, a limited time each, where the reactor does not run: for a connection, and for its messages.

The shim never waits for a path that a job names, but the machine may be busy, or a signal may have stopped the shim.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time

from txworker.linux.procfs import ProcessTable
from txworker.linux.signals import pending_stop
from txworker.process.shim_socket import ShimSocket
from txworker.shim import messages
from txworker.shim.messages import Channel, Message, close_all

_ANSWER_SECONDS = 20.0
_LOOK_SECONDS = 0.1
"""How often a wait looks for a signal that stops the worker: these are blocked while it starts."""

_UCRED = struct.Struct("iII")


class ShimUnusable(Exception):
    """There is a shim that this worker cannot use, or no shim can be started; the text says why."""


def connected(shim: ShimSocket) -> socket.socket | None:
    """
    As ShimSocket.connected(), but waits while too many workers that are gone are still to be accepted.

    Raises:
        ShimUnusable: for too long, or the worker is to stop.
        OSError: as ShimSocket.connected().
    """
    until = time.monotonic() + _ANSWER_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            return shim.connected()
        _check_wanted()
        if time.monotonic() > until:
            raise ShimUnusable(
                f"the shim has accepted no worker for {_ANSWER_SECONDS:g} s; if it was stopped by a signal (`ps` shows"
                " T for txworker-shim), `kill -CONT` it"
            )
        time.sleep(_LOOK_SECONDS)


def next_message(channel: Channel, deadline: float | None = None) -> tuple[Message, list[int]]:
    """
    The shim's next message, and its descriptors. Sends what waits to be sent.

    Raises:
        TimeoutError: there was none by the deadline.
        ShimUnusable: there was none for too long; the worker is to stop; or too few descriptors are free.
        OSError: the shim has hung up.
    """
    until = time.monotonic() + _ANSWER_SECONDS if deadline is None else deadline
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN | (select.POLLOUT if channel.full else 0))
    while True:
        with contextlib.suppress(BlockingIOError):
            channel.flush()
            return _complete(*channel.receive())
        _check_wanted()
        left = until - time.monotonic()
        if left <= 0 and deadline is not None:
            raise TimeoutError
        if left <= 0:
            pid = _pid_of(channel)
            stopped = f"; it was stopped by a signal: `kill -CONT {pid}`" if ProcessTable().is_stopped(pid) else ""
            raise ShimUnusable(f"the shim (pid {pid}) has not answered for {_ANSWER_SECONDS:g} s{stopped}")
        poll.poll(min(left, _LOOK_SECONDS) * 1000)


def _check_wanted() -> None:
    if pending_stop():
        raise ShimUnusable("the worker is to stop, and the shim has not answered yet")


def _pid_of(channel: Channel) -> int:
    """The pid of the process at the other end."""
    with socket.socket(fileno=os.dup(channel.fileno())) as connection:
        pid: int = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
        return pid


def _complete(message: Message, descriptors: list[int]) -> tuple[Message, list[int]]:
    if messages.SHORT in message:
        close_all(descriptors)
        raise ShimUnusable(
            "the shim cannot be used: its jobs need more open files than the limit of this worker allows (LimitNOFILE,"
            " ulimit -n); they run on until a worker with a higher limit is started"
        )
    return message, descriptors
