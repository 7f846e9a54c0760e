"""
Warnings about configurations that are valid but seldom intended: `--check` prints them, a starting worker logs them.

Mistakes that keep the worker from starting are in checks.py.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from txworker.config.values import Config, GrpcServer, Jobs, Scheduler, Web

SMALL_BYTES = 20 * 2**30
"""A disk with less free space is filled by a few jobs that print a lot, or in a few weeks by many that print little."""

WILDCARDS = ("", "0.0.0.0", "::")
"""Hosts that mean every address of the machine; none of them can be dialled from another machine."""

_LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")


def room_on_disk(directory: Path) -> int:
    """
    How many bytes the worker can still write there, or where the directory will be created.

    Raises:
        OSError: the kernel does not report it.
    """
    return shutil.disk_usage(next(path for path in (directory, *directory.parents) if os.path.lexists(path))).free


def warnings_of(config: Config, room: Callable[[Path], int] = room_on_disk) -> list[str]:
    """Each warning is one sentence that begins with the dotted key. Reads the modes of files, but opens none."""
    return [
        *_of_server(config.grpc_server),
        *_of_scheduler(config.scheduler, config.grpc_server),
        *_of_jobs(config.jobs, room),
        *_of_web(config.web),
    ]


def _of_server(server: GrpcServer) -> Iterator[str]:
    if server.use_tls:
        if not server.client_ca_file and not is_loopback(server.host):
            yield (
                f"grpc_server.client_ca_file is not given: anyone who can reach {server.addr} can run commands on this "
                "machine"
            )
        yield from _of_key_file(server.key_file)
        return
    if not is_loopback(server.host):
        yield (
            f"grpc_server.use_tls is false: {server.addr} is served without TLS, and anyone who can reach it can run "
            "commands on this machine; client_ca_file limits that to clients with a certificate"
        )
    if server.crt_file or server.key_file:
        yield "grpc_server.use_tls is false: crt_file and key_file are not used, and calls are not encrypted"


def _of_key_file(key_file: Path | None) -> Iterator[str]:
    with suppress(OSError):  # reported when the server reads it
        if key_file and (readers := _readers_of_key(key_file)):
            yield f"grpc_server.key_file: {key_file} {readers}"


def _readers_of_key(path: Path) -> str:
    """Why other users can read a private key, as the end of a sentence; empty: only the worker's user and root can."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    # a worker that does not own the file needs the group's permission to read it
    forbidden = stat.S_IROTH | (stat.S_IRGRP if os.geteuid() in (0, status.st_uid) else 0)
    return f"can be read by others (mode {stat.S_IMODE(status.st_mode):04o})" if status.st_mode & forbidden else ""


def _of_scheduler(scheduler: Scheduler, server: GrpcServer) -> Iterator[str]:
    if not scheduler.all_addrs:
        return
    host = _host_of(scheduler.advertise_addr) if scheduler.advertise_addr else server.host
    if host in WILDCARDS:
        why = "which cannot be dialled"
    elif is_loopback(host) and not all(is_loopback(_host_of(addr)) for addr in scheduler.all_addrs):
        why = "which no other machine can dial"
    else:
        return
    if scheduler.advertise_addr:
        yield f"scheduler.advertise_addr: the scheduler is told {host}, {why}"
    else:
        yield f"scheduler.advertise_addr is not given: the scheduler is told {host or 'no host'}, {why}"


def _of_jobs(jobs: Jobs, room: Callable[[Path], int]) -> Iterator[str]:
    if jobs.keep_days or jobs.keep_jobs or jobs.keep_output_bytes:
        return
    with suppress(OSError):  # opening the directory reports it
        free = room(jobs.output_directory)
        if free < SMALL_BYTES:
            yield (
                f"jobs.keep_days, keep_jobs and keep_output_bytes are 0: all output is kept for ever, and the disk of "
                f"{jobs.output_directory} has {free / 2**30:.1f} GiB left"
            )


def _of_web(web: Web) -> Iterator[str]:
    if web.host and not is_loopback(web.host):
        yield (
            f"web.addr is not loopback: anyone who can reach {web.addr} can read metrics and health, without TLS or a "
            "password"
        )


def _host_of(addr: str) -> str:
    return addr.rpartition(":")[0].strip("[]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name is not resolved: that takes time, and the result may change."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in _LOOPBACK_NAMES
