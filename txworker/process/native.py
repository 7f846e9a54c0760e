"""
Starting a child with libc's own posix_spawn, called without Python's lock: while the reactor waits for the child's
exec, gRPC's threads run. Offered where libc has everything that is needed (glibc 2.34 and later).
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from txworker.process.environ import find_executable

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # <spawn.h>
_STRUCT_BYTES = 512  # room for each of posix_spawn's two structs, of 80 and 336 bytes in glibc
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""Ignored by Python, or perhaps by who started us (nohup); a job begins with their defaults."""


class NativeStart:
    """
    Called as start_child is. Reactor thread.

    Raises:
        AttributeError: libc lacks a function that is needed.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._spawn = libc.posix_spawn
        self._init = libc.posix_spawn_file_actions_init
        self._destroy = libc.posix_spawn_file_actions_destroy
        self._adddup2 = libc.posix_spawn_file_actions_adddup2
        self._addchdir = libc.posix_spawn_file_actions_addchdir_np
        self._addclosefrom = libc.posix_spawn_file_actions_addclosefrom_np
        self._attributes = _attributes(libc)

    def __call__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Mapping[int, int],
    ) -> int:
        """As start_child."""
        executable = find_executable(argv[0], environment, directory)
        actions = ctypes.create_string_buffer(_STRUCT_BYTES)
        self._init(actions)
        try:
            for child_fd, ours in descriptors.items():
                _check(self._adddup2(actions, ours, child_fd), None)
            if directory is not None:
                _check(self._addchdir(actions, os.fsencode(directory)), directory)
            _check(self._addclosefrom(actions, 3), None)
            return self._run(executable, argv, environment, directory, actions)
        finally:
            self._destroy(actions)

    def _run(
        self, executable: str, argv: Sequence[str], environment: Mapping[str, str], directory: str | None, actions: Any
    ) -> int:
        pid = ctypes.c_int()
        words = _strings([os.fsencode(word) for word in argv])
        entries = [_entry(name, value) for name, value in environment.items()]
        error = self._spawn(
            ctypes.byref(pid),
            os.fsencode(executable),
            actions,
            self._attributes,
            words,
            _strings(entries),
        )
        if error and directory is not None and not _enterable(directory):
            _check(error, directory)
        _check(error, argv[0])
        return pid.value


def _attributes(libc: Any) -> Any:
    attributes = ctypes.create_string_buffer(_STRUCT_BYTES)
    signals = ctypes.create_string_buffer(128)  # sigset_t
    libc.posix_spawnattr_init(attributes)
    libc.sigemptyset(signals)
    libc.posix_spawnattr_setsigmask(attributes, signals)
    for number in _DEFAULT_SIGNALS:
        libc.sigaddset(signals, number)
    libc.posix_spawnattr_setsigdefault(attributes, signals)
    libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID))
    return attributes


@lru_cache(maxsize=1024)
def _entry(name: str, value: str) -> bytes:
    """Nearly all of them are the worker's own, the same for every job."""
    return os.fsencode(f"{name}={value}")


def _strings(values: list[bytes]) -> Any:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _enterable(directory: str) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.X_OK)


def _check(error: int, filename: str | None) -> None:
    if error:
        raise OSError(error, os.strerror(error), filename)
