"""
The messages between the worker and the shim, over a Unix socket of type SOCK_SEQPACKET.

A message is one JSON object, with descriptors beside it (SCM_RIGHTS). A message that is too long for a datagram is in a
memfd, which is then the first descriptor. The format is JSON because the two ends may run different versions of Python,
and because marshal and pickle are not safe to parse.

`spawn`, `started` and `failed` go over a socket of their own, whose other end is the spawn thread's. So what the loop
says of a job may come before its `started`.

| worker to shim | |
| --- | --- |
| hello | protocol, defaults (what every job inherits), serving (false: earlier workers' jobs are still to be settled,
and the message of that name follows; older workers send neither); descriptor: the output directory |
| serving | the worker has settled earlier workers' jobs, and serves |
| listen | descriptors: a bound socket, where workers connect from now on, and the state directory, where its name is |
| pipes | descriptors: the memfd of the owners and the read ends of the worker's intermediate pipes |
| more | the worker has received a batch of jobs: send the next one |
| spawn | job, how to start it, and what to enforce without a worker; descriptor: a memfd with its stdin, if `stdin` |
| feed | job, end (close its stdin then); descriptor: a memfd with further bytes of its stdin, unless there are none |
| recall | answer `recalled` to each start that waits behind one that hangs |
| enforce | job, and what to do while no worker is connected: reason, kill_at |
| lost | job, child_fd, bytes: its output is incomplete; so many bytes that the disk refused no line in it tells of |
| resize | job, rows, columns: of its terminal |
| release | jobs: they are over; reap their processes, close their pipes. keep: go on copying what leftovers print |
| forget | kill what is being started |
| quit | end, if there is no job |

| shim to worker | |
| --- | --- |
| hello | protocol, version, pid, thread (that spawns), jobs (how many), kept (jobs with leftovers that still print);
descriptor: the socket for `spawn`, unless the protocols differ |
| job | the record of one job; descriptors: the read ends of its pipes |
| lot | a batch of jobs was sent: answer `more` |
| ready | all jobs were sent |
| started | job, pid, stdin, at (`ahead` of its spawn plus the clock since boot); descriptors: of its pipes, to read |
| fed | job, stdin: what was fed is in the pipe, so further bytes may be sent; or stdin is closed; or it has a field
`refused`: there was no descriptor for them, and they may be sent again |
| failed | job (empty: the first one that is not answered), errno, step: there is no process |
| refused | of: the type of a message that came without all of its descriptors, because too few are free; it may be
sent again |
| exited | job, and how (exit_code or signal, core_dumped, at: as in `started`, user_cpu, system_cpu, max_rss_bytes,
cgroup_removed: nothing else was in it) |

`stdin`, also in the record of a job, is null if the job was not started with feed, else: taken (how many bytes of
`feed` are in the pipe, or wait for room in it), busy (some wait: send no more now), open.
"""

from __future__ import annotations

import array
import errno
import json
import os
import socket
import stat
from collections import deque
from collections.abc import Iterable, Sequence

from txworker.linux.memfd import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:  # the module itself costs a small program a megabyte
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict

_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode

PROTOCOL = 4
"""Changes when a worker and a shim of different versions no longer understand each other."""

SOCKET_NAME = "shim.sock"
"""In the worker's state directory."""

ENDED_BIT = stat.S_ISVTX
"""
The mode bit of the socket's name by which a shim tells, as it ends by itself, that no job has a process. The kernel
ignores the sticky bit of a socket. Another shim's socket is a new file without it.
"""

BATCH_JOBS = 64
"""Jobs that are sent at a time, because descriptors in flight are limited (RLIMIT_NOFILE, ETOOMANYREFS; unix(7))."""

RECALLED = "recalled"
"""The step of the message `failed` for a recalled start."""

SLOT_BYTES = 64
"""The part of the owners' memfd for each intermediate pipe: the job's id, a space, the job's descriptor, then NULs."""

SHORT = "short"
"""A field that receive() adds to a message of which descriptors are missing, because too few are free."""

_NO_MEMORY = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""The kernel cannot take a message now (unix(7)); the other end is still there."""

_DATAGRAM_BYTES = 32 * 1024
_MOST_DESCRIPTORS = 32
_CUT = int(socket.MSG_CTRUNC)  # an operation on the enum's member takes twenty times as long
_IN_MEMFD = b"@"
"""In place of a message that is in the first descriptor."""


class MessageLost(OSError):
    """
    A long message cannot be read: no descriptor was free for its memfd (EMFILE), or that fails. What it said is not
    known.
    """


class Channel:
    """
    One end of the connection. Used by one thread.

    What the socket does not take at once is kept, in order, with duplicates of its descriptors. Every method raises
    OSError when the other end is gone: a ConnectionError, but for one that is raised by the kernel for lack of memory.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._waiting: deque[tuple[bytes, list[int]]] = deque()

    def fileno(self) -> int:
        """The socket's descriptor, to be watched."""
        return self._socket.fileno()

    @property
    def full(self) -> bool:
        """Whether messages wait: call flush() when the socket can be written."""
        return bool(self._waiting)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send it, without blocking. The descriptors stay the caller's, and may be closed at once."""
        data = _encode(message).encode()
        if len(data) > _DATAGRAM_BYTES:
            with memory_file(data, "message") as body:
                self._put(_IN_MEMFD, [body, *descriptors])
        else:
            self._put(data, descriptors)

    def flush(self) -> None:
        """
        Send the messages that wait, as far as the socket has room.

        Raises:
            OSError: the other end is gone; or the kernel lacks memory, and they wait for another call.
        """
        while self._waiting:
            data, descriptors = self._waiting[0]
            if not self._sent(data, descriptors):
                return
            self._waiting.popleft()
            close_all(descriptors)

    def receive(self) -> tuple[Message, list[int]]:
        """
        The next message, and its descriptors, which the caller closes.

        Raises:
            BlockingIOError: there is none.
            MessageLost: it was in a memfd, for which no descriptor is free.
            ConnectionResetError: the other end is gone.
        """
        size = socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
        data, ancillary, flags, _ = self._socket.recvmsg(2 * _DATAGRAM_BYTES, size, socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for _, _, content in ancillary:
            descriptors.frombytes(content[: len(content) - len(content) % 4])
        fds = descriptors.tolist()
        if not data:
            raise ConnectionResetError("the other end is gone")
        if data == _IN_MEMFD:
            if not fds:
                raise MessageLost(errno.EMFILE, os.strerror(errno.EMFILE))
            try:
                data = _read_all(fds.pop(0))
            except OSError as error:
                close_all(fds)
                raise MessageLost(error.errno, error.strerror) from error
        message: Message = _decode(data.decode())
        if flags & _CUT:
            message[SHORT] = True
        return message, fds

    def close(self) -> None:
        """Close the socket, and drop what waits."""
        self._socket.close()
        while self._waiting:
            close_all(self._waiting.popleft()[1])

    def _put(self, data: bytes, descriptors: Sequence[int]) -> None:
        if self._waiting or not self._sent_now(data, descriptors):
            self._waiting.append((data, [os.dup(fd) for fd in descriptors]))

    def _sent_now(self, data: bytes, descriptors: Sequence[int]) -> bool:
        """As _sent(); also False when the kernel lacks memory."""
        try:
            return self._sent(data, descriptors)
        except OSError as error:
            if error.errno not in _NO_MEMORY:
                raise
            return False

    def _sent(self, data: bytes, descriptors: Sequence[int]) -> bool:
        try:
            if descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                self._socket.sendmsg([data], rights)
            else:
                self._socket.send(data)
        except BlockingIOError:
            return False
        return True


def owner_entry(job_id: str, child_fd: int) -> bytes:
    """The content of a slot in the owners' memfd: the bytes in the pipe belong to that job's descriptor."""
    return f"{job_id} {child_fd}".encode().ljust(SLOT_BYTES, b"\0")


def close_all(descriptors: Iterable[int]) -> None:
    """Close these descriptors."""
    for fd in descriptors:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
