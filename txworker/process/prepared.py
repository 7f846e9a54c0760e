"""The worker's end of the preparer (preparer.py): starts children that need limits, a user or a cgroup first."""

from __future__ import annotations

import array
import errno
import marshal
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from txworker.process.brand import as_limits
from txworker.process.environ import places

_ANSWER = struct.Struct("ii32s")
_PATIENCE_SECONDS = 10.0
"""For one start; then the preparer is given up. Its child waits for a disk or a network that does not answer."""


@dataclass(frozen=True)
class Preparation:
    """
    What must be so before a job's first instruction; the default is nothing at all.

    limits: (name for messages, RLIMIT_ number, soft, hard). user: uid, gid and supplementary groups. cgroup: the
    directory to be made for it. brand: brand.py.
    """

    limits: tuple[tuple[str, int, int, int], ...] = ()
    user: tuple[int, int, tuple[int, ...]] | None = None
    nice: int = 0
    oom_score_adj: int = 0
    cgroup: str | None = None
    brand: int = 0

    @property
    def needed(self) -> bool:
        """Whether a job cannot simply be started; what else is here a child inherits, or it may follow at once."""
        return bool(self.limits or self.user or self.nice)


class PreparerFailed(OSError):
    """The preparer could not make a child at all, whatever it was to become; there is none."""


class PreparedStart:
    """
    Starts children through a preparer, which is started when it is first needed and again when it has died.

    spared(pid) hears of each preparer, a child of ours that is no job, and over(pid) when it is about to be waited
    for. In the thread that launches (apart.py), those two as well; a start takes 1 to 2 ms.
    """

    def __init__(self, spared: Callable[[int], None], over: Callable[[int], None] = lambda pid: None) -> None:
        self._spared = spared
        self._over = over
        self._connection: socket.socket | None = None
        self._preparer: subprocess.Popen[bytes] | None = None

    def __call__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: str | None,
        descriptors: Mapping[int, int],
        preparation: Preparation,
    ) -> int:
        """
        As start_child, with something done first.

        Raises:
            OSError: as start_child; `filename` names the step that failed when it was another than chdir and exec.
        """
        request = {
            "argv": list(argv),
            "environment": dict(environment),
            "places": list(places(argv[0], environment)),
            "directory": directory,
            "limits": [*preparation.limits, *as_limits(preparation.brand)],
            "user": preparation.user,
            "nice": preparation.nice,
            "oom_score_adj": preparation.oom_score_adj,
        }
        with open(os.memfd_create("request"), "w+b", buffering=0) as body:
            body.write(marshal.dumps(request))
            body.seek(0)
            passed = [body.fileno(), descriptors[0], descriptors[1], descriptors[2]]
            with _opened(preparation.cgroup) as cgroup:
                pid, error, step = _ANSWER.unpack(self._asked(passed + cgroup))
        if not error:
            return int(pid)
        if pid:
            os.waitpid(pid, 0)
        name = step.rstrip(b"\0").decode()
        if name == "clone":
            raise PreparerFailed(error, os.strerror(error), "clone")
        filename = {"directory": directory, "command": argv[0]}.get(name, name)
        raise OSError(error, os.strerror(error), filename)

    def close(self) -> None:
        """End the preparer; its children are ours and go on."""
        connection, self._connection = self._connection, None
        preparer, self._preparer = self._preparer, None
        if connection is not None:
            connection.close()
        if preparer is not None:
            preparer.kill()
            self._over(preparer.pid)
            preparer.wait()

    def _asked(self, passed: Sequence[int]) -> bytes:
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))]
        try:
            connection = self._connected()
            connection.sendmsg([b"start"], control)
            answer = connection.recv(_ANSWER.size)
        except (BrokenPipeError, ConnectionResetError):  # it died since the last time, before it could take this one
            self.close()
            connection = self._connected()
            connection.sendmsg([b"start"], control)
            answer = connection.recv(_ANSWER.size)
        except TimeoutError as error:
            self.close()
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), "preparer") from error
        if len(answer) != _ANSWER.size:
            self.close()
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE), "preparer")
        return answer

    def _connected(self) -> socket.socket:
        if self._connection is None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                self._preparer = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(__file__).with_name("preparer.py")), str(its.fileno())],
                    pass_fds=[its.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._spared(self._preparer.pid)
            ours.settimeout(_PATIENCE_SECONDS)
            self._connection = ours
            os.set_inheritable(ours.fileno(), False)
        return self._connection


@contextmanager
def _opened(directory: str | None) -> Iterator[list[int]]:
    if directory is None:
        yield []
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield [fd]
    finally:
        os.close(fd)
