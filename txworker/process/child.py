"""
Starting one child: own session, its descriptors, exact errors. Everything after the start is in transport.py.

`subprocess.Popen` does the launch because it uses vfork, so no code of ours and no lock of another thread's
is ever copied into a child, and because it reports the errno of chdir and of exec apart.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO


def start_child(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: str | None,
    descriptors: Mapping[int, int],
) -> int:
    """
    Start a process that leads its own session; descriptors maps the child's 0, 1 and 2 to ours.

    Returns its pid. The caller waits for it.

    Raises:
        OSError: chdir (`filename` is the directory) or exec failed; there is no child.
        ValueError: an argument cannot be given to any process.
    """
    child = subprocess.Popen(
        argv,
        stdin=descriptors[0],
        stdout=descriptors[1],
        stderr=descriptors[2],
        cwd=directory,
        env=environment,
        start_new_session=True,
        close_fds=True,
    )
    child.returncode = 0  # waiting is ours: Popen must neither wait for it later nor warn that nobody did
    return child.pid


def stdin_file(data: bytes) -> IO[bytes]:
    """
    An open file that reads as data, then ends. Never blocks a writer, so there is nothing to feed.

    Raises:
        OSError: no memory, disk or descriptors for it.
    """
    if not data:
        return open(os.devnull, "rb")
    file: IO[bytes]
    if hasattr(os, "memfd_create"):
        file = open(os.memfd_create("stdin"), "w+b", buffering=0)  # noqa: SIM115 the caller closes it
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 the caller closes it
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
