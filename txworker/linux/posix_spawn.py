"""
Starting a child with libc's own posix_spawn, called without Python's lock: while this thread waits for the child's
exec, other threads run. Offered where libc has everything that is needed (glibc 2.34 and later).

What is the same for many jobs is made once: the list of things to do in the child, and the worker's environment.
"""

from __future__ import annotations

import ctypes
import os
from collections import ChainMap
from collections.abc import Mapping, Sequence

from txworker.linux.executables import find_executable

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # <spawn.h>
_STRUCT_BYTES = 512  # room for each of posix_spawn's two structs, of 80 and 336 bytes in glibc
_SIGSET_BYTES = 128
_ACTIONS_KEPT = 256
_SPARE_ENTRIES = 32


class NativeStart:
    """
    Starts a process that leads its own session, with every signal at its default. One thread.

    Raises:
        AttributeError: libc lacks a function that is needed.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._spawn = libc.posix_spawn
        self._attributes = _attributes(libc)
        self._actions = _Actions()
        self._base = _Base({})

    def __call__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Mapping[int, int],
    ) -> int:
        """
        descriptors maps the child's 0, 1 and 2 to ours. The pid of the child, which the caller waits for.

        Raises:
            OSError: chdir (`filename` is the directory) or exec failed; there is no child.
        """
        executable = find_executable(argv[0], environment, directory)
        return self._run(executable, argv, environment, directory, self._actions.get(directory, descriptors))

    def _run(
        self, executable: str, argv: Sequence[str], environment: Mapping[str, str], directory: str | None, actions: Any
    ) -> int:
        pid = ctypes.c_int()
        error = self._spawn(
            ctypes.byref(pid),
            os.fsencode(executable),
            actions,
            self._attributes,
            _strings([os.fsencode(word) for word in argv]),
            self._entries(environment),
        )
        if error and directory is not None and not _enterable(directory):
            _check(error, directory)
        _check(error, argv[0])
        return pid.value

    def _entries(self, environment: Mapping[str, str]) -> Any:
        """Of a ChainMap the last map is the worker's own, the same for every job."""
        if not isinstance(environment, ChainMap) or len(environment.maps) != 2:
            return _strings([_entry(name, value) for name, value in environment.items()])
        added, own = environment.maps
        if self._base.environment is not own:
            self._base = _Base(own)
        return self._base.with_more(added)


class _Actions:
    """What posix_spawn does in the child, made once for each set of descriptors and directory; some are kept."""

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)  # none of these waits for anything: they keep Python's lock
        self._init = libc.posix_spawn_file_actions_init
        self._destroy = libc.posix_spawn_file_actions_destroy
        self._adddup2 = libc.posix_spawn_file_actions_adddup2
        self._addchdir = libc.posix_spawn_file_actions_addchdir_np
        self._addclosefrom = libc.posix_spawn_file_actions_addclosefrom_np
        self._kept: dict[object, Any] = {}

    def get(self, directory: str | None, descriptors: Mapping[int, int]) -> Any:
        """The list; good until the next one is asked for."""
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


class _Base:
    """An environment as execve(2) takes it, with room for a few entries more."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._places = {name: place for place, name in enumerate(environment)}
        entries = [_entry(name, value) for name, value in environment.items()]
        self._array = (ctypes.c_char_p * (len(entries) + _SPARE_ENTRIES + 1))(*entries)

    def with_more(self, added: Mapping[str, str]) -> Any:
        """A copy with these entries added, or put in the place of those with their names."""
        if len(added) > _SPARE_ENTRIES:
            return _strings([_entry(name, value) for name, value in {**self.environment, **added}.items()])
        array = type(self._array).from_buffer_copy(self._array)  # self._array keeps alive what both point to
        free = len(self._places)
        for name, value in added.items():
            place = self._places.get(name)
            if place is None:
                place, free = free, free + 1
            array[place] = _entry(name, value)
        return array


def _attributes(libc: Any) -> Any:
    attributes = ctypes.create_string_buffer(_STRUCT_BYTES)
    none, every = ctypes.create_string_buffer(_SIGSET_BYTES), ctypes.create_string_buffer(b"\xff" * _SIGSET_BYTES)
    libc.posix_spawnattr_init(attributes)
    libc.posix_spawnattr_setsigmask(attributes, none)
    # Whatever was ignored where the worker was started has its default in a job. Not by sigfillset(3): that leaves out
    # libc's own two (32 and 33), which posix_spawn then ignores in the child.
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
