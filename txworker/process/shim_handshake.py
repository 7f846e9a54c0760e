"""
How a worker comes by its shim: the one that an earlier worker has left, or a new one.

Blocks: before anything is served, or when a shim has ended, for the moment that a new one takes to start.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twisted.internet.protocol import ProcessProtocol

from txworker.base.logs import Logger
from txworker.jobs import EndReason
from txworker.jobs.held_process import HeldProcess
from txworker.shim import messages
from txworker.shim.messages import Channel, Message

PROGRAM = str(Path(messages.__file__).with_name("main.py"))
_PATIENCE_SECONDS = 20.0
"""For each answer of a shim. It never waits for a path that a job names, but the machine may be busy."""

_LATE_START_SECONDS = 2.0
_ENDED_AT_ONCE = "the shim has ended as soon as it was started; shim.log in the state directory says why"
_NO_PROTOCOL = 0
"""Of a hello that only asks who is there."""

_log = Logger()


class ShimUnusable(Exception):
    """There is a shim that this worker cannot use, or there can be none; the sentence says why."""


class ShimCannotRun(ShimUnusable):
    """There is none, and one that is started here ends at once: this machine, or its Python, lacks what it needs."""


@dataclass
class Handshake:
    """
    What a shim has said of itself, and all its jobs. `starting`: jobs whose start is under way. `found`: a shim was
    there already, this one or one without jobs that it replaces.
    """

    channel: Channel
    hello: Message
    held: list[HeldProcess] = field(default_factory=list)
    starting: list[str] = field(default_factory=list)
    found: bool = False


def connect(
    reactor: Any, directory: Path, defaults: Mapping[str, Any], output: int, pipes: list[int], version: str
) -> Handshake:
    """
    The shim of that state directory; a new one where there is none, or where it has no jobs and may be older than we.

    defaults is what jobs inherit, output the descriptor of the output directory, pipes the memfd of the owners and the
    read ends of the intermediate pipes. Reactor thread, before it runs or while it may stand still for a moment.

    Raises:
        ShimUnusable: see there. Nothing of it is lost.
    """
    shim = _Directory(directory)
    found = False
    try:
        connection = shim.connected()
        if connection is not None:
            handshake = _talk(Channel(connection), defaults, output, version)
            found = True
            if handshake.held or handshake.starting:
                _hand_over_pipes(handshake, pipes)
                handshake.found = found
                return handshake
            _quit(handshake.channel)
        shim.start(reactor, version)
        handshake = _first_talk(shim, defaults, output, version)
        _hand_over_pipes(handshake, pipes)
        handshake.found = found
        return handshake
    except OSError as error:
        raise ShimUnusable(f"the shim cannot be used: {error.strerror or error}") from error
    finally:
        shim.close()


def check_none_needed(directory: Path) -> None:
    """
    End the shim of that state directory, if there is one: jobs are to be run without.

    Raises:
        ShimUnusable: it has jobs, which run on.
    """
    shim = _Directory(directory)
    try:
        connection = shim.connected()
        if connection is None:
            return
        channel = Channel(connection)
        channel.send({"type": "hello", "protocol": _NO_PROTOCOL})
        hello, _ = _next(channel)
        if hello["jobs"]:
            channel.close()
            raise ShimUnusable(
                f"the shim (pid {hello['pid']}) that is there has {hello['jobs']} jobs, and jobs.shim is false: let"
                " them end under a worker with jobs.shim = true (`txworker drain --wait`) before this one is started"
            )
        _quit(channel)
    except OSError as error:
        raise ShimUnusable(f"the shim cannot be asked whether it has jobs: {error.strerror or error}") from error
    finally:
        shim.close()


def _first_talk(shim: _Directory, defaults: Mapping[str, Any], output: int, version: str) -> Handshake:
    """With one that was just started."""
    try:
        connection = shim.connected()
        if connection is not None:
            return _talk(Channel(connection), defaults, output, version)
    except ConnectionError as error:
        raise ShimCannotRun(_ENDED_AT_ONCE) from error
    raise ShimCannotRun(_ENDED_AT_ONCE)


def _talk(channel: Channel, defaults: Mapping[str, Any], output: int, version: str) -> Handshake:
    ours = {"protocol": messages.PROTOCOL, "version": version, "pid": os.getpid(), "defaults": dict(defaults)}
    channel.send({"type": "hello", **ours}, [output])
    hello, _ = _next(channel)
    if hello["protocol"] != messages.PROTOCOL:
        _check_replaceable(hello)
        return Handshake(channel, hello)
    handshake = Handshake(channel, hello)
    while True:
        message, descriptors = _next(channel)
        if message["type"] == "job":
            handshake.held.append(_held(message, descriptors))
        elif message["type"] == "exited":
            _note_exit(handshake, message)
        elif message["type"] == "lot":
            channel.send({"type": "more"})
        elif message["type"] == "ready":
            handshake.starting = message["starting"]
            _hear_late_starts(handshake)
            return handshake


def _hear_late_starts(handshake: Handshake) -> None:
    """Those that an earlier worker asked for succeed or fail in a moment; one that hangs is not waited for."""
    deadline = time.monotonic() + _LATE_START_SECONDS
    while handshake.starting and time.monotonic() < deadline:
        try:
            message, descriptors = _next(handshake.channel, deadline)
        except TimeoutError:
            return
        if message["type"] == "job":
            handshake.held.append(_held(message, descriptors))
        elif message["type"] == "exited":
            _note_exit(handshake, message)
        if message["type"] in ("job", "failed"):
            handshake.starting.remove(message["job"])


def _note_exit(handshake: Handshake, message: Message) -> None:
    """One has exited since its record was sent, or its record will say so."""
    handshake.held = [
        replace(held, exit=message["exit"]) if held.job_id == message["job"] else held for held in handshake.held
    ]


def _held(record: Message, pipes: list[int]) -> HeldProcess:
    reason = record["reason"]
    return HeldProcess(
        record["job"],
        record["pid"],
        record["ticks"],
        record["started_wall"],
        tuple(pipes),
        record["timeout_at"],
        record["last_output"],
        None if reason in (None, messages.ASKED) else EndReason(reason),
        reason is not None,
        record["kill_at"],
        tuple(record["lost"]),
        tuple(record["discarded"]),
        record["max_output"],
        record["cgroup"],
        record["exit"],
    )


def _check_replaceable(hello: Message) -> None:
    if hello["jobs"]:
        raise ShimUnusable(
            f"the shim (pid {hello['pid']}, txworker {hello['version']}) has {hello['jobs']} jobs and speaks protocol"
            f" {hello['protocol']}, this worker speaks {messages.PROTOCOL}: start a worker of its version, and let the"
            " jobs end (`txworker drain --wait`) before this one is started"
        )


def _hand_over_pipes(handshake: Handshake, pipes: list[int]) -> None:
    handshake.channel.send({"type": "pipes"}, pipes)


def _quit(channel: Channel) -> None:
    """It has no jobs: a new one, of our own version, takes its place when it has ended."""
    channel.send({"type": "quit"})
    with contextlib.suppress(OSError):
        while True:
            _next(channel)
    channel.close()


def _next(channel: Channel, deadline: float | None = None) -> tuple[Message, list[int]]:
    until = time.monotonic() + _PATIENCE_SECONDS if deadline is None else deadline
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN | (select.POLLOUT if channel.full else 0))
    while True:
        with contextlib.suppress(BlockingIOError):
            channel.flush()
            return channel.receive()
        left = until - time.monotonic()
        if left <= 0 and deadline is not None:
            raise TimeoutError
        if left <= 0:
            raise ShimUnusable(f"the shim has not answered for {_PATIENCE_SECONDS:g} s")
        poll.poll(left * 1000)


class _Directory:
    """The state directory, by a descriptor: the name of a socket is short (107 bytes), a directory's may not be."""

    def __init__(self, directory: Path) -> None:
        self._path = directory
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket_path = f"/proc/self/fd/{self._fd}/{messages.SOCKET_NAME}"

    def connected(self) -> socket.socket | None:
        """A connection to the shim that there is; None: there is none."""
        connection = _socket()
        try:
            connection.connect(self._socket_path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        connection.setblocking(False)
        return connection

    def start(self, reactor: Any, version: str) -> None:
        """A new one, which listens already. The lease says that this directory is ours."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(messages.SOCKET_NAME, dir_fd=self._fd)
        with _socket() as listener:
            before = os.umask(0o177)
            try:
                listener.bind(self._socket_path)
            finally:
                os.umask(before)
            listener.listen(8)
            log = os.open(
                "shim.log",
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
                dir_fd=self._fd,
            )
            try:
                with open(os.devnull) as nothing:
                    reactor.spawnProcess(
                        ProcessProtocol(),
                        sys.executable,
                        [sys.executable, "-I", "-S", PROGRAM, version],
                        env=None,
                        childFDs={0: nothing.fileno(), 1: log, 2: log, 3: listener.fileno()},
                    )
            finally:
                os.close(log)

    def close(self) -> None:
        """Not needed any more."""
        os.close(self._fd)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
