"""A real `twistd worker` in a directory of its own, and short ways to ask it things."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import grpc

from tests.support.fork_server import Forked, ForkServer
from tests.support.measured import MEASURING, kill, twistd_command
from tests.support.shims import shims_below
from txworker.leftovers.tags import environment_tag
from txworker.linux.cgroup import end_elsewhere, end_stale
from txworker.linux.own_cgroup import own_cgroup_path
from txworker.pb import worker_pb2 as pb
from txworker.pb.worker_pb2_grpc import WorkerStub
from txworker.shim.messages import SOCKET_NAME

LIMIT = 30.0
TWISTD = str(Path(sys.executable).with_name("twistd"))
TWISTD_COMMAND = twistd_command(TWISTD)


def wait_until(true: Callable[[], Any], limit_seconds: float = LIMIT) -> Any:
    """What `true` returns once it is true; asked often, and fails when the limit is over."""
    end = time.monotonic() + limit_seconds
    while not (result := true()):
        if time.monotonic() > end:
            raise AssertionError(f"still not so after {limit_seconds} s: {true}")
        time.sleep(0.01)
    return result


class Daemon:
    """
    One worker, from its start to its end; `text` is what its worker.toml says beside the address.

    Another one in the same place is its restart. `twistd` is the program that takes twistd's arguments.
    """

    fork_server: ClassVar[ForkServer | None] = None
    """Where there is one, twistd need not import everything anew."""

    def __init__(self, place: Path, text: str = "", server: str = "", twistd: Sequence[str] = TWISTD_COMMAND) -> None:
        self.place = place
        self.settings = text
        self.twistd = twistd
        self.config = place / "worker.toml"
        self.config.write_text(f'[grpc_server]\naddr = "127.0.0.1:0"\n{server}\n{text}')
        self.log_file = place / "log"
        self.output = place / "output"
        with self.log_file.open("wb") as log:
            self.process = self._begun([*twistd, "-n", "--pidfile=", "worker", "--config", str(self.config)], log)
        self.addr = wait_until(self._served)
        self.channel = grpc.insecure_channel(self.addr)
        self.stub = WorkerStub(self.channel)

    def _begun(self, words: list[str], log: BinaryIO) -> subprocess.Popen[bytes] | Forked:
        server = self.fork_server
        if server is not None and server.fits() and not MEASURING and self.twistd == TWISTD_COMMAND:
            with open(os.devnull, "rb") as nothing:
                return server.begin(words, self.place, (nothing.fileno(), log.fileno(), log.fileno()))
        return subprocess.Popen(words, cwd=self.place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _served(self) -> str:
        found = re.search(r"Serving on (\S+:\d+)", self.log())
        assert found or self.process.poll() is None, self.log()
        return found[1] if found else ""

    def log(self) -> str:
        """All it has logged."""
        return self.log_file.read_text()

    def stop(self, number: int = signal.SIGTERM, limit_seconds: float = LIMIT) -> int:
        """Signal it and wait for its end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(limit_seconds)

    def kill_with_shim(self) -> None:
        """SIGKILL to the worker and to its shim, as when the machine's memory is short: its jobs are lost."""
        self.stop(signal.SIGKILL)
        end_shim(self.place / "state")

    def close(self) -> None:
        """Whatever state it is in, it is over."""
        self.channel.close()
        if self.process.poll() is None:
            kill(self.process.pid)
            self.process.wait()
        for pid in shims_below(self.place.resolve()):  # also one whose state directory is elsewhere, or gone
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
        self._end_leftovers()

    def _end_leftovers(self) -> None:
        """A worker that was killed leaves its jobs running; they must not be the next test's neighbours."""
        for name in filter(str.isdecimal, os.listdir("/proc")):
            tag = environment_tag(int(name))
            if tag and "/" not in tag and (self.output / f"{tag}.out").exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(name), signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError, KeyError):
            lease = json.loads((self.place / "state" / "worker.lock").read_text())
            end_stale(Path(own_cgroup_path()) / f"txworker-{lease['id']}")
            end_elsewhere(Path(lease["cgroups"]), f"txworker-{lease['id']}", None)

    def shim(self) -> int:
        """The pid of its shim: the child of the worker that started it, or of init."""
        return next(int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_shim(int(name), self.place))

    def descriptors(self) -> int:
        """How many it has open, but for those of its store, which reads over a few connections at a time."""
        place = f"/proc/{self.process.pid}/fd"
        links = []
        for fd in os.listdir(place):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"{place}/{fd}"))
        return sum("jobs.sqlite3" not in link for link in links)

    def threads(self) -> int:
        """How many it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def resident_bytes(self) -> int:
        """How much of its memory there is in fact."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def start(self, command: str = "", path: str = "", *args: str, **more: Any) -> str:
        """Start a job; its id."""
        request = pb.StartJobReq(command=command, path=path, args=args, **more)
        return self.stub.StartJob(request, timeout=LIMIT).jobID

    def bash(self, script: str, **more: Any) -> str:
        """Start a bash script; its job's id."""
        return self.start("bash", "-c", script, **more)

    def query(self, job_id: str) -> pb.QueryJobRes:
        """How a job stands."""
        return self.stub.QueryJob(pb.QueryJobReq(jobID=job_id), timeout=LIMIT)

    def raw(self, job_id: str, **more: Any) -> bytes:
        """A job's output to its end, as bytes."""
        request = pb.StreamJobReq(jobID=job_id, raw=True, **more)
        return b"".join(message.data for message in self.stub.StreamJob(request, timeout=4 * LIMIT))

    def text(self, job_id: str, **more: Any) -> str:
        """A job's output to its end, as text, asked for as an old client asks."""
        request = pb.StreamJobReq(path=job_id, **more)
        return "".join(message.output for message in self.stub.StreamJob(request, timeout=4 * LIMIT))

    def end(self, job_id: str) -> pb.QueryJobRes:
        """How a job stands once it is done."""
        self.raw(job_id)
        return self.query(job_id)


def _is_shim(pid: int, place: Path) -> bool:
    """It writes to shim.log in that place's state directory, and is no child of a shim that has not exec'ed yet."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        parent = int(status.partition("PPid:")[2].split()[0])
        if parent and _is_shim(parent, place):
            return False
        return os.readlink(f"/proc/{pid}/fd/2") == f"{place}/state/shim.log"
    return False


def shim_pid(state: Path) -> int:
    """The pid of the shim of that state directory, to which no worker is connected; 0: there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        fd = os.open(state, os.O_RDONLY)
        try:
            connection.connect(f"/proc/self/fd/{fd}/{SOCKET_NAME}")
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        finally:
            os.close(fd)
        pid, _, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def end_shim(state: Path) -> None:
    """It would keep the jobs of a worker that was killed, for one that never comes."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if pid := shim_pid(state):
            kill(pid)


@contextlib.contextmanager
def running(words: Sequence[str], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """A command with its output in pipes, which ends with the test at the latest, or who fails would wait for it."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def twistd_ends(words: Sequence[str], place: Path) -> tuple[int, str]:
    """A twistd with these words in that directory, which ends by itself: its exit status and what it has printed."""
    server = Daemon.fork_server
    if server is not None and server.fits() and not MEASURING:
        ended = server.run([*TWISTD_COMMAND, *words], place, LIMIT)
    else:
        command = [*TWISTD_COMMAND, *words]
        ended = subprocess.run(
            command, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False
        )
    return ended.returncode, (ended.stdout + ended.stderr).decode()


def cannot_start(config: Path, twistd: Sequence[str] = TWISTD_COMMAND) -> str:
    """The one sentence with which a worker with that configuration refuses to start, in the foreground."""
    words = ["-n", "--pidfile=", "worker", "--config", str(config)]
    if twistd == TWISTD_COMMAND:
        status, printed = twistd_ends(words, config.parent)
    else:
        ended = subprocess.run(
            [*twistd, *words], cwd=config.parent, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        status, printed = ended.returncode, ended.stdout + ended.stderr
    assert status == 1, printed
    assert "Traceback" not in printed, printed
    (sentence,) = re.findall(r"(?:\[stderr#error\] |^)(txworker: .*)", printed, re.MULTILINE)
    return str(sentence)
