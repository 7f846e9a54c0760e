"""The worker's end of the preparer (preparer.py): starts children that need limits, a user or a cgroup first."""

from __future__ import annotations

import array
import errno
import marshal
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from txworker.process.brand import as_limits
from txworker.process.environ import places
from txworker.process.preparer import ANSWER

_PROGRAM = str(Path(__file__).with_name("preparer.py"))
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

    spared(pid) hears of each child of ours that is no job, a preparer or one that was given up, and over(pid) when it
    is about to be waited for. In the thread that launches (apart.py), those two as well; a start takes 1 to 2 ms.
    descriptors is the soft limit of open ones that a child is to have, 0: the hard one.
    """

    def __init__(
        self,
        spared: Callable[[int], None],
        over: Callable[[int], None] = lambda pid: None,
        descriptors: int = 0,
    ) -> None:
        self._spared = spared
        self._over = over
        self._descriptors = descriptors
        self._connection: socket.socket | None = None
        self._preparer: subprocess.Popen[bytes] | None = None
        self._given_up: list[int] = []

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
        self._wait_for_given_up()
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
                pid, error, name = self._asked(passed + cgroup)
        if not error:
            return pid
        if pid:
            os.waitpid(pid, 0)
        if name == "clone":
            raise PreparerFailed(error, os.strerror(error), "clone")
        filename = {"directory": directory, "command": argv[0]}.get(name, name)
        raise OSError(error, os.strerror(error), filename)

    def close(self) -> None:
        """End the preparer; its children are ours and go on."""
        self._end()
        self._wait_for_given_up()

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        preparer, self._preparer = self._preparer, None
        if connection is not None:
            connection.close()
        if preparer is not None:
            preparer.kill()
            self._over(preparer.pid)
            preparer.wait()

    def _asked(self, passed: Sequence[int]) -> tuple[int, int, str]:
        """Its answer, once it is known what became of the child: pid, errno, the step that failed."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))]
        try:
            try:
                answer = self._made(control)
            except (BrokenPipeError, ConnectionResetError):  # it had died before it could take this one
                self._end()
                answer = self._made(control)
        except OSError as error:
            self._end()
            raise _failed(error) from error
        pid, failed, _ = answer
        if failed:
            return answer
        try:
            return self._answer()
        except OSError as error:  # the child still waits for its exec, and must not run when nobody expects it any more
            os.kill(pid, signal.SIGKILL)
            self._given_up.append(pid)
            self._spared(pid)
            self._end()
            raise _failed(error) from error

    def _made(self, control: Any) -> tuple[int, int, str]:
        connection = self._connected()
        connection.sendmsg([b"start"], control)
        return self._answer()

    def _answer(self) -> tuple[int, int, str]:
        answer = self._connected().recv(ANSWER.size)
        if len(answer) != ANSWER.size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # no EPIPE: it may have made the child
        pid, error, step = ANSWER.unpack(answer)
        return pid, error, step.rstrip(b"\0").decode()

    def _wait_for_given_up(self) -> None:
        """One that is killed ends when its disk or network answers: nobody waits for that."""
        for pid in self._given_up:
            self._over(pid)
        self._given_up = [pid for pid in self._given_up if not _has_ended(pid)]
        for pid in self._given_up:
            self._spared(pid)

    def _connected(self) -> socket.socket:
        if self._connection is None:
            ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with its:
                    self._preparer = subprocess.Popen(
                        [sys.executable, "-I", "-S", _PROGRAM, str(its.fileno()), str(self._descriptors)],
                        pass_fds=[its.fileno()],
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
            except BaseException:
                ours.close()
                raise
            self._spared(self._preparer.pid)
            ours.settimeout(_PATIENCE_SECONDS)
            self._connection = ours
        return self._connection


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:  # somebody else has waited for it
        return True


def _failed(error: OSError) -> OSError:
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
    return OSError(number, os.strerror(number), "preparer")


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
