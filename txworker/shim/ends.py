"""
What connects a job with the shim: its pipes, and its terminal if it has one.

The spawn thread makes all ends and gives the child those that are the child's. The loop gets the others (SCM_RIGHTS,
because the thread has a descriptor table of its own), and holds the job by them (held_job.py).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from txworker.linux.pipes import fill
from txworker.linux.terminals import open_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any


class Ends:
    """
    request: the message `spawn`. given: its descriptors: a file with the first bytes of stdin, if it has some. The
    spawn thread.

    child: what the child gets, by its own number; 0 is missing if it has no input.
    kept: what the loop gets, by name: out, err (read ends), in (what feeds the job), file (what feeds it first), and of
    a terminal master, slave, printed (the write end of `out`).
    fed: how many bytes of the file are in the pipe, before the process begins.
    """

    def __init__(self, request: Mapping[str, Any], given: Sequence[int]) -> None:
        self._request = request
        self._all = list(given)
        self.child: dict[int, int] = {}
        self.kept: dict[str, int] = {"file": given[0]} if given else {}
        self.fed = 0

    @property
    def outputs(self) -> list[int]:
        """What the worker gets: the read ends of stdout, and of stderr if it is separate."""
        return [self.kept[name] for name in ("out", "err") if name in self.kept]

    @property
    def waits(self) -> bool:
        """Whether bytes for stdin wait for room in the pipe."""
        return "file" in self.kept and self.fed < os.fstat(self.kept["file"]).st_size

    def make(self) -> None:
        """
        Raises:
            OSError: they cannot be made; `filename` is "terminal" if it has one. Or the file did not arrive.
        """
        if self._request["stdin"] and "file" not in self.kept:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if self._request["terminal"]:
            try:
                self._make_terminal()
            except OSError as error:
                error.filename = "terminal"
                raise
        else:
            self._make_pipes()

    def close(self) -> None:
        """Close all; what was passed on stays open there."""
        for fd in self._all:
            os.close(fd)
        self._all = []

    def _make_pipes(self) -> None:
        if self.kept or self._request["feed"]:
            self.child[0], self.kept["in"] = self._pipe()
            self._own(self.child[0])
            self._fill()
        self.kept["out"], self.child[1] = self._pipe()
        self._own(self.child[1])
        if self._request["separate_stderr"]:
            self.kept["err"], self.child[2] = self._pipe()
            self._own(self.child[2])
        else:
            self.child[2] = self.child[1]

    def _fill(self) -> None:
        """What fits into the pipe is there when the process begins."""
        if "file" not in self.kept:
            return
        os.set_blocking(self.kept["in"], False)
        size = os.fstat(self.kept["file"]).st_size
        with suppress(BlockingIOError):
            while moved := fill(self.kept["in"], self.kept["file"], self.fed, size):
                self.fed += moved

    def _make_terminal(self) -> None:
        rows, columns = self._request["terminal"]
        user = self._request["user"]
        self.kept["master"], self.kept["slave"] = master, slave = open_terminal(rows, columns, user and user[0])
        self._all += [master, slave]
        self.child = dict.fromkeys((0, 1, 2), slave)
        self.kept["out"], self.kept["printed"] = self._pipe()
        if self._request["feed"]:
            self.kept["in"] = os.dup(master)
            self._all.append(self.kept["in"])

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._all += ends
        return ends

    def _own(self, end: int) -> None:
        """Let the job's user open the pipe by its name, as /dev/stderr."""
        if self._request["user"] is not None:
            os.fchown(end, self._request["user"][0], self._request["user"][1])
