"""
The limit of execve(2) for all arguments and the environment together, as Linux counts them.

The limit for a single string is checked by the spec itself (jobs/spec.py).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from functools import cached_property

from txworker.jobs import JOB_ID_VARIABLE, JobSpec
from txworker.jobs.errors import InvalidRequest

_LEAST, _MOST = 128 * 1024, 6 * 1024 * 1024
_POINTER_BYTES = 8
_ALWAYS_FITS_BYTES = 64 * 1024
_TAG_BYTES = _POINTER_BYTES + len(f"{JOB_ID_VARIABLE}=") + 36 + 1  # with a UUID and a NUL (environ.py)


class ArgumentLimit:
    """base: the environment that every job inherits. Any thread."""

    def __init__(self, base: Mapping[str, str]) -> None:
        self._base = base

    def check(self, spec: JobSpec) -> None:
        """
        Refuse a spec that no executable could be started with.

        Raises:
            InvalidRequest: its arguments and environment are too long; it names `args` or `env`, whichever is longer.
        """
        if spec.is_short and self._inherited <= _ALWAYS_FITS_BYTES:
            return
        argv = spec.argv
        arguments = _size(argv) + len(os.fsencode(argv[0])) + 1  # the kernel copies the name of the file too
        added = _size(f"{name}={value}" for name, value in spec.env.items()) + _TAG_BYTES
        inherited = self._inherited - _size(
            f"{name}={self._base[name]}" for name in spec.env.keys() & self._base.keys()
        )
        whole, most = arguments + added + inherited, limit_bytes()
        if whole > most:
            field, size = ("args", arguments) if arguments >= added else ("env", added)
            raise InvalidRequest(
                field,
                size,
                f"bytes are too long: arguments and environment have {whole} together, and {most} is what this machine "
                "can execute",
            )

    @cached_property
    def _inherited(self) -> int:
        return _size(f"{name}={value}" for name, value in self._base.items())


def limit_bytes() -> int:
    """A quarter of the stack limit, within bounds (execve(2)); pointers included."""
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    return _MOST if stack == resource.RLIM_INFINITY else max(_LEAST, min(_MOST, stack // 4))


def _size(strings: Iterable[str]) -> int:
    """The size of the strings, each with its NUL and a pointer to it."""
    return sum(len(os.fsencode(text)) + 1 + _POINTER_BYTES for text in strings)
