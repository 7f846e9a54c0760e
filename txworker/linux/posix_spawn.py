"""
Starting a child with libc's posix_spawn(3), called without Python's lock: posix_spawn suspends this thread until the
child execs, while other threads run. It needs glibc 2.34 or later.

What is the same for many jobs is made once: the file actions and the worker's environment.
"""

from __future__ import annotations

import ctypes
import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence

from txworker.linux.executables import find_executable

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it would take a megabyte in a small program
    from typing import Any

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # <spawn.h>
_STRUCT_BYTES = 512  # room for each of posix_spawn's two structs, of 80 and 336 bytes in glibc
_SIGSET_BYTES = 128
_ACTIONS_KEPT = 256
_SPARE_ENTRIES = 32


class PosixSpawn:
    """
    Starts a process that leads its own session, with the default disposition of every signal. For one thread only.

    Raises:
        AttributeError: libc lacks a function.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._spawn = libc.posix_spawn
        self._attributes = _attributes(libc)
        self._actions = _Actions()
        self._base = _BaseEnvironment({})

    def prepared(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Mapping[int, int],
    ) -> Callable[[], int]:
        """
        Everything but the start itself, which is made by a call of the result, before the next prepared(). That returns
        the pid of the child, which the caller reaps. descriptors maps the child's 0, 1 and 2 to this process's.

        Raises:
            OSError: chdir failed (`filename` is the directory), or exec; there is no child. Also from the start.
        """
        pid = ctypes.c_int()
        arguments = (
            ctypes.byref(pid),
            os.fsencode(find_executable(argv[0], environment, directory)),
            self._actions.get(directory, descriptors),
            self._attributes,
            _strings([os.fsencode(word) for word in argv]),
            self._entries(environment),
        )

        def start() -> int:
            error = self._spawn(*arguments)
            if error and directory is not None and not _enterable(directory):
                _check(error, directory)
            _check(error, argv[0])
            return pid.value

        return start

    def _entries(self, environment: Mapping[str, str]) -> Any:
        """The second map of a ChainMap is the worker's environment, which is the same for every job."""
        if not isinstance(environment, ChainMap) or len(environment.maps) != 2:
            return _strings([_entry(name, value) for name, value in environment.items()])
        added, own = environment.maps
        if self._base.environment is not own:
            self._base = _BaseEnvironment(own)
        return self._base.with_more(added)


class _Actions:
    """posix_spawn's file actions, made once per directory and set of descriptors; _ACTIONS_KEPT are kept."""

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)  # PyDLL keeps Python's lock: none of these waits
        self._init = libc.posix_spawn_file_actions_init
        self._destroy = libc.posix_spawn_file_actions_destroy
        self._adddup2 = libc.posix_spawn_file_actions_adddup2
        self._addchdir = libc.posix_spawn_file_actions_addchdir_np
        self._addclosefrom = libc.posix_spawn_file_actions_addclosefrom_np
        self._kept: dict[object, Any] = {}

    def get(self, directory: str | None, descriptors: Mapping[int, int]) -> Any:
        """Valid until the next call."""
        key = (directory, *descriptors.items())
        actions = self._kept.get(key)
        if actions is None:
            if len(self._kept) >= _ACTIONS_KEPT:
                for old in self._kept.values():
                    self._destroy(old)
                self._kept.clear()
            actions = self._kept[key] = self._made(directory, descriptors)
        return actions

    def _made(self, directory: str | None, descriptors: Mapping[int, int]) -> Any:
        actions = ctypes.create_string_buffer(_STRUCT_BYTES)
        self._init(actions)
        try:
            for child_fd, ours in descriptors.items():
                _check(self._adddup2(actions, ours, child_fd), None)
            if directory is not None:
                _check(self._addchdir(actions, os.fsencode(directory)), directory)
            _check(self._addclosefrom(actions, 3), None)
        except BaseException:
            self._destroy(actions)
            raise
        return actions


class _BaseEnvironment:
    """An environment as execve(2) takes it, with room for a few more entries."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._indices = {name: index for index, name in enumerate(environment)}
        entries = [_entry(name, value) for name, value in environment.items()]
        self._array = (ctypes.c_char_p * (len(entries) + _SPARE_ENTRIES + 1))(*entries)

    def with_more(self, added: Mapping[str, str]) -> Any:
        """A copy with these entries added, or replacing entries of the same names."""
        if len(added) > _SPARE_ENTRIES:
            return _strings([_entry(name, value) for name, value in {**self.environment, **added}.items()])
        array = type(self._array).from_buffer_copy(self._array)  # the strings that both point to belong to self._array
        free = len(self._indices)
        for name, value in added.items():
            index = self._indices.get(name)
            if index is None:
                index, free = free, free + 1
            array[index] = _entry(name, value)
        return array


def _attributes(libc: Any) -> Any:
    attributes = ctypes.create_string_buffer(_STRUCT_BYTES)
    none, every = ctypes.create_string_buffer(_SIGSET_BYTES), ctypes.create_string_buffer(b"\xff" * _SIGSET_BYTES)
    libc.posix_spawnattr_init(attributes)
    libc.posix_spawnattr_setsigmask(attributes, none)
    # A signal that was ignored when the worker was started has its default disposition in a job. sigfillset(3) would
    # leave out libc's internal signals (32 and 33), which posix_spawn then ignores in the child.
    libc.posix_spawnattr_setsigdefault(attributes, every)
    libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID))
    return attributes


def _entry(name: str, value: str) -> bytes:
    return os.fsencode(f"{name}={value}")


def _strings(values: list[bytes]) -> Any:
    return (ctypes.c_char_p * (len(values) + 1))(*values, None)


def _enterable(directory: str) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.X_OK)


def _check(error: int, filename: str | None) -> None:
    if error:
        raise OSError(error, os.strerror(error), filename)
