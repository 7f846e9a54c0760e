"""
Connecting to the shim: to the one that an earlier worker left, or to a new one; and the handshake.

It blocks the reactor: before anything is served, or when a shim has ended, while a new one starts.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from txworker.base.quantities import counted
from txworker.jobs import EndReason
from txworker.jobs.held_process import HeldProcess
from txworker.process.shim_socket import ShimSocket
from txworker.process.shim_waiting import ShimUnusable, connected, next_message
from txworker.shim import messages
from txworker.shim.messages import Channel, Message, close_all

_LATE_START_SECONDS = 2.0
_ENDED_AT_ONCE = "the shim has ended as soon as it was started; shim.log in the state directory says why"
_LATER = {"exited": "exit", "fed": "stdin"}
"""Messages about a job after its record has been sent, with the field of the record that they replace."""

_ANY_PROTOCOL = 0
"""In a hello that only asks for the shim's answer."""


class ShimCannotRun(ShimUnusable):
    """A shim that is started ends at once: the machine, or its Python, lacks what it needs."""


@dataclass
class Handshake:
    """
    What the shim reports of itself, and its jobs. requests: the connection to its spawn thread. starting: jobs that are
    being started. complete: no other job of an earlier worker has a process. pipes: of this worker, which the shim was
    sent.
    """

    channel: Channel
    hello: Message
    requests: Channel
    held: list[HeldProcess] = field(default_factory=list)
    starting: list[str] = field(default_factory=list)
    complete: bool = False
    pipes: Sequence[int] = ()


def connect(
    reactor: Any, directory: Path, defaults: Mapping[str, Any], output: int, pipes: list[int], version: str
) -> Handshake:
    """
    Connect to the shim of that state directory. A new one is started where there is none, and where the shim has no
    jobs, because it may be of an older version.

    defaults: what jobs inherit. output: the descriptor of the output directory. pipes: the memfd of the owners and the
    read ends of the intermediate pipes. Reactor thread.

    Raises:
        ShimUnusable: the shim cannot be used, or none can be started. Its jobs run on.
    """
    shim = ShimSocket(directory)
    try:
        handshake = _with_jobs(shim, defaults, output)
        if handshake is None:
            complete = shim.tells_end()
            shim.start(reactor, version)
            handshake = _first_handshake(shim, defaults, output, settled=complete)
            handshake.complete = complete
        handshake.pipes = pipes
        handshake.channel.send({"type": "pipes"}, pipes)
        return handshake
    except OSError as error:
        raise ShimUnusable(f"the shim cannot be used: {error.strerror or error}") from error
    finally:
        shim.close()


def check_none_needed(directory: Path) -> None:
    """
    End the shim of that state directory, if there is one, because the configuration wants none.

    Raises:
        ShimUnusable: the shim has jobs, which run on.
    """
    shim = ShimSocket(directory)
    try:
        connection = connected(shim)
        if connection is None:
            shim.remove()
            return
        channel = Channel(connection)
        channel.send({"type": "hello", "protocol": _ANY_PROTOCOL})
        hello, _ = _receive_hello(channel)
        if hello["jobs"]:
            channel.close()
            raise ShimUnusable(
                f"the shim (pid {hello['pid']}) that is there has {hello['jobs']} jobs, and jobs.shim is false: let"
                " them end under a worker with jobs.shim = true (`txworker drain --wait`) before this one is started"
            )
        _quit(channel)
        shim.remove()
    except OSError as error:
        raise ShimUnusable(f"the shim cannot be asked whether it has jobs: {error.strerror or error}") from error
    finally:
        shim.close()


def _with_jobs(shim: ShimSocket, defaults: Mapping[str, Any], output: int) -> Handshake | None:
    """The handshake with a shim that was there; None: there was none, or it had no jobs, and has ended."""
    connection = connected(shim)
    if connection is None:
        return None
    channel = Channel(connection)
    try:
        handshake = _handshake(channel, defaults, output)
    except ConnectionError:
        channel.close()
        if not _has_ended(shim):
            raise
        return None
    if handshake is not None and (handshake.held or handshake.starting):
        handshake.complete = True
        return handshake
    if handshake is not None:
        handshake.requests.close()
    _quit(channel)
    return None


def _has_ended(shim: ShimSocket) -> bool:
    """Whether a shim that hung up has ended: it may do so while a worker connects, if it has no jobs."""
    connection = connected(shim)
    if connection is not None:
        connection.close()
    return connection is None


def _first_handshake(shim: ShimSocket, defaults: Mapping[str, Any], output: int, settled: bool) -> Handshake:
    """The handshake with a shim that was just started."""
    try:
        connection = connected(shim)
        handshake = None if connection is None else _handshake(Channel(connection), defaults, output, settled)
        if handshake is not None:
            return handshake
    except ConnectionError as error:
        raise ShimCannotRun(_ENDED_AT_ONCE) from error
    raise ShimCannotRun(_ENDED_AT_ONCE)


def _handshake(channel: Channel, defaults: Mapping[str, Any], output: int, settled: bool = False) -> Handshake | None:
    """
    None: it speaks another protocol, and has no jobs. settled: no job of an earlier worker may have a process.

    Raises:
        ShimUnusable: it speaks another protocol, and has jobs; or it does not answer.
    """
    ours = {"type": "hello", "protocol": messages.PROTOCOL, "defaults": dict(defaults), "serving": settled}
    channel.send(ours, [output])
    hello, descriptors = _receive_hello(channel)
    if hello["protocol"] != messages.PROTOCOL:
        _check_replaceable(hello)
        return None
    requests = socket.socket(fileno=descriptors[0])
    requests.setblocking(False)
    handshake = Handshake(channel, hello, Channel(requests))
    while True:
        message, descriptors = next_message(channel)
        if message["type"] == "job":
            handshake.held.append(_held(message, descriptors))
        elif message["type"] in _LATER:
            _record_later(handshake, message)
        elif message["type"] == "lot":
            channel.send({"type": "more"})
        elif message["type"] == "ready":
            handshake.starting = message["starting"]
            _await_late_starts(handshake)
            return handshake


def _receive_hello(channel: Channel) -> tuple[Message, list[int]]:
    """
    The answer to ours, with its descriptors. What happens to jobs between connecting and that answer is told as well,
    and is dropped here, because the records that follow tell it again.
    """
    while True:
        message, descriptors = next_message(channel)
        if message["type"] == "hello":
            return message, descriptors
        close_all(descriptors)


def _await_late_starts(handshake: Handshake) -> None:
    """Starts that an earlier worker requested succeed or fail soon; a start that hangs is not awaited."""
    deadline = time.monotonic() + _LATE_START_SECONDS
    while handshake.starting and time.monotonic() < deadline:
        try:
            message, descriptors = next_message(handshake.channel, deadline)
        except TimeoutError:
            return
        if message["type"] == "job":
            handshake.held.append(_held(message, descriptors))
        elif message["type"] in _LATER:
            _record_later(handshake, message)
        if message["type"] in ("job", "failed"):
            handshake.starting.remove(message["job"])


def _record_later(handshake: Handshake, message: Message) -> None:
    """Something happened to a job after its record was sent. If the record is still to come, it says so itself."""
    field = _LATER[message["type"]]
    changed = {field: message[field]}
    handshake.held = [replace(held, **changed) if held.job_id == message["job"] else held for held in handshake.held]


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
        None if reason is None else EndReason(reason),
        reason is not None,
        record["kill_at"],
        tuple(record["lost"]),
        tuple(record["discarded"]),
        record["max_output"],
        record["cgroup"],
        record["exit"],
        record["stdin"],
        tuple(record.get("incomplete", (False, False))),  # an older shim does not know
    )


def _check_replaceable(hello: Message) -> None:
    if hello["jobs"]:
        jobs = counted(hello["jobs"], "job", "jobs")
        raise ShimUnusable(
            f"the shim (pid {hello['pid']}, txworker {hello['version']}) has {jobs} and speaks protocol"
            f" {hello['protocol']}, this worker speaks {messages.PROTOCOL}: start a worker of its version, and let the"
            " jobs end (`txworker drain --wait`) before this one is started"
        )


def _quit(channel: Channel) -> None:
    """End a shim without jobs. Returns when it has ended."""
    channel.send({"type": "quit"})
    with contextlib.suppress(OSError):
        while True:
            next_message(channel)
    channel.close()
