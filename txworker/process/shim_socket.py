"""The shim's socket in the state directory: connecting to it, starting a shim that listens there, binding it again."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.protocol import ProcessProtocol

from txworker.base.logs import Logger
from txworker.shim import messages

PROGRAM = str(Path(messages.__file__).with_name("main.py"))


class ShimSocket:
    """
    The socket in that state directory, which is held by a descriptor, because a path may be too long for a socket's
    address (107 bytes). Close it after use.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._path = f"/proc/self/fd/{self.directory}/{messages.SOCKET_NAME}"

    def connected(self) -> socket.socket | None:
        """
        A connection to the shim; None: no shim runs.

        Raises:
            BlockingIOError: so many connections wait to be accepted that there is no room for another.
            OSError: it cannot be made.
        """
        connection = _socket()
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except OSError:
            connection.close()
            raise
        return connection

    def tells_end(self) -> bool:
        """
        Whether the shim that had the name last ended by itself and held no job. It does not tell so if it was killed,
        if it was of an older version, or if the socket was removed.
        """
        with contextlib.suppress(OSError):
            mode = os.stat(messages.SOCKET_NAME, dir_fd=self.directory, follow_symlinks=False).st_mode
            return stat.S_ISSOCK(mode) and bool(mode & messages.ENDED_BIT)
        return False

    def start(self, reactor: Any, version: str) -> None:
        """Start a shim; its socket listens at once. The caller holds the lease of the directory."""
        with self.bound() as listener:
            listener.listen()
            log = os.open(
                "shim.log",
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
                dir_fd=self.directory,
            )
            try:
                with open(os.devnull) as null:
                    reactor.spawnProcess(
                        ProcessProtocol(),
                        sys.executable,
                        [sys.executable, "-I", "-S", PROGRAM, version],
                        env=None,
                        childFDs={0: null.fileno(), 1: log, 2: log, 3: listener.fileno(), 4: self.directory},
                    )
            finally:
                os.close(log)

    def bound(self) -> socket.socket:
        """A new socket under the name; the one that had it is reached no longer."""
        self.remove()
        listener = _socket()
        before = os.umask(0o177)
        try:
            listener.bind(self._path)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
        return listener

    def remove(self) -> None:
        """Remove the name, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(messages.SOCKET_NAME, dir_fd=self.directory)

    def identity(self) -> tuple[int, int] | None:
        """
        Device and inode of the socket that has the name; None: none has it.

        Raises:
            OSError: it is not known.
        """
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(messages.SOCKET_NAME, dir_fd=self.directory, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode):
                return found.st_dev, found.st_ino
        return None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.directory)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class ListeningShim(Protocol):
    """What SocketWatch needs of the shim (reconnecting_shim.py)."""

    @property
    def pid(self) -> int:
        """The pid of the shim that runs, or ran last."""

    @property
    def alive(self) -> bool:
        """Whether a shim is connected."""

    @property
    def listen_refused(self) -> bool:
        """Whether it had no descriptors free for the latest listen()."""

    def listen(self, descriptors: Sequence[int]) -> None:
        """
        Let it listen at this bound socket, in this state directory.

        Raises:
            OSError: this process has no descriptor free.
        """


class SocketWatch:
    """
    Makes the shim's socket again when it was removed or replaced, so that the next worker finds the shim and its jobs.

    in_place(): whether the state directory is the worker's. Reactor thread.
    """

    _log = Logger()

    def __init__(self, directory: Path, shim: ListeningShim, in_place: Callable[[], bool]) -> None:
        self._path = directory
        self._shim = shim
        self._in_place = in_place
        self._pid = 0
        self._bound: tuple[int, int] | None = None
        self._failed = self._refused = False

    def look(self) -> None:
        """Call it now and then while the worker runs."""
        if not self._shim.alive or not self._in_place():
            return
        with contextlib.suppress(OSError), contextlib.closing(ShimSocket(self._path)) as shim_socket:
            self._compare(shim_socket, shim_socket.identity())  # a disk that fails does not prove that it is gone

    def _compare(self, shim_socket: ShimSocket, found: tuple[int, int] | None) -> None:
        try:
            self._look(shim_socket, found)
            self._failed = False
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # it is tried again
                return
            if not self._failed:
                self._log.error(
                    "The shim's socket is gone and cannot be made again: the next worker cannot find the jobs. {error}",
                    error=error,
                )
            self._failed = True

    def _look(self, shim_socket: ShimSocket, found: tuple[int, int] | None) -> None:
        if self._shim.pid != self._pid:
            self._pid, self._bound = self._shim.pid, found
        if found is None or found != self._bound:
            self._make_again(shim_socket)
            self._refused = False
            path = self._path / messages.SOCKET_NAME
            self._log.warn("The shim's socket {path} was gone; it was made again, and no job is lost.", path=path)
        elif self._shim.listen_refused:
            self._make_again(shim_socket)
            if not self._refused:
                text = "The shim (pid {pid}) has no descriptors free for its new socket; until it has, and the socket"
                text += " is made once more, the next worker cannot find the jobs."
                self._log.error(text, pid=self._pid)
            self._refused = True

    def _make_again(self, shim_socket: ShimSocket) -> None:
        with shim_socket.bound() as listener:
            self._shim.listen([listener.fileno(), shim_socket.directory])
        self._bound = shim_socket.identity()
