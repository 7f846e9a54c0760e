"""Turning the OSError of a launch into a TxWorkerError."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from txworker.jobs.errors import (
    ExecutableBusy,
    InvalidRequest,
    NoSuchDirectory,
    NoSuchExecutable,
    NotExecutable,
    NotPermitted,
    OutOfResources,
    ShimEnded,
    TxWorkerError,
    WorkerStopping,
)
from txworker.process.launch_errors import to_worker_error

TABLE: list[tuple[int, str | None, type[TxWorkerError], str]] = [
    (errno.EMFILE, None, OutOfResources, "the worker has no file descriptors left"),
    (errno.EAGAIN, "prog", OutOfResources, "the machine allows no further process"),
    (errno.EAGAIN, "clone", OutOfResources, "the machine allows no further process"),
    (errno.ENOMEM, "shim", OutOfResources, "the machine has no memory left"),
    (errno.ECONNRESET, "shim", ShimEnded, "'prog' was not started, because the shim has ended"),
    (errno.ESHUTDOWN, "shim", WorkerStopping, "this worker is stopping"),
    (errno.ESHUTDOWN, "clone", WorkerStopping, "this worker is stopping"),
    (errno.EPERM, "clone", OutOfResources, "no process could be made for 'prog'"),
    (errno.EPERM, "nice", OutOfResources, "nice: the job could not be given this"),
    (errno.EAGAIN, "user", OutOfResources, "user: the job could not be given this"),
    (errno.ENOENT, "/dir", NoSuchDirectory, "directory: '/dir'"),
    (errno.EACCES, "/dir", NotPermitted, "directory: '/dir'"),
    (errno.ENOENT, "prog", NoSuchExecutable, "command: 'prog'"),
    (errno.EACCES, "prog", NotPermitted, "command: 'prog'"),
    (errno.ETXTBSY, "prog", ExecutableBusy, "try again"),
    (errno.EIO, "/dir", OutOfResources, "directory: '/dir' cannot be entered"),
    (errno.ENOEXEC, "prog", NotExecutable, "#! line"),
    (errno.E2BIG, "prog", InvalidRequest, "too long"),
    (errno.ENAMETOOLONG, "prog", InvalidRequest, "too long"),
    (errno.EIO, "prog", OutOfResources, "could not start 'prog'"),
]


class RefusalsTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Each error says which field is wrong and why."""
        for number, filename, kind, words in TABLE:
            error = to_worker_error(OSError(number, os.strerror(number), filename), "prog", "/dir")
            self.assertIs(kind, type(error), (number, filename))
            self.assertIn(words, str(error))
