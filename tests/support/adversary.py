"""Jobs that want to survive, and bystanders that must: who of them lives, and who was signalled."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import time
import uuid
from pathlib import Path
from signal import SIGKILL

from google.protobuf.duration_pb2 import Duration

from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.daemon.processes import DRAIN_SECONDS
from txworker.jobs import JOB_ID_VARIABLE
from txworker.leftovers.tags import environment_tag
from txworker.linux.own_cgroup import own_cgroup_path
from txworker.pb import worker_pb2 as pb

SCRIPTS = Path(__file__).with_name("scripts")
ENDINGS = ("end", "stop", "timeout")
GRACE_SECONDS = 0.5
GRACE = Duration(nanos=500_000_000)
"""What a stop and a time limit give here; a job that ends by itself gives what it leaves DRAIN_SECONDS."""

TIMEOUT_SECONDS = 2

CONFIG = f"[jobs]\nstop_grace_seconds = {GRACE_SECONDS}\n"
WITHOUT_SHIM = CONFIG + "shim = false\n"
WITHOUT_CGROUPS = CONFIG + "use_cgroups = false\n"


def named(name: str) -> list[int]:
    """The processes with that name somewhere in their command line; zombies have none."""
    return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if name.encode() in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    """The command line of any of its threads: the first may have ended."""
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/task/{task}/cmdline").read_bytes()
                if text:
                    return text
    return b""


def cgroup_root() -> str:
    """Where jobs get cgroups of their own, and root moves processes in and out; empty when that is not possible."""
    try:
        place = Path(own_cgroup_path())
    except OSError:
        return ""
    return str(place) if os.access(place / "cgroup.procs", os.W_OK) else ""


def described(pid: int) -> str:
    """What /proc tells of a process that should not be there."""
    with contextlib.suppress(OSError):
        stat, limits = (Path(f"/proc/{pid}/{name}").read_text() for name in ("stat", "limits"))
        rlimit = next(line for line in limits.splitlines() if "file locks" in line)
        return f"{stat[:60]} {_command_line(pid)!r} {environment_tag(pid)} {rlimit}"
    return f"{pid}, gone by now"


class Adversary:
    """
    One such job. `name` is in the command line of whoever it starts, but for those that are rid of session, parent,
    environment and rlimit tag: there it is `lost`.
    """

    def __init__(self, daemon: Daemon, place: Path, ending: str, cgroup: str) -> None:
        self.daemon = daemon
        self.ending = ending
        self.name = f"adversary-{uuid.uuid4().hex}"
        self.lost = self.name.replace("adversary", "lost")
        self.place = place / self.name.removeprefix("adversary-")  # it is in every command line: not the name
        self.place.mkdir(parents=True)
        (self.place / "ready").touch()
        timeout = Duration(seconds=TIMEOUT_SECONDS) if ending == "timeout" else None
        arguments = (self.name, str(self.place), ending, self.lost, sys.executable, cgroup)
        self.job_id = daemon.start("bash", str(SCRIPTS / "adversary.sh"), *arguments, timeout=timeout)

    def survivors(self) -> list[int]:
        """Who lives of those that keep something of the job's."""
        return named(self.name)

    def lost_ones(self) -> list[int]:
        """Who lives of those that keep nothing."""
        return named(self.lost)

    def kill(self) -> None:
        """So that a failed test leaves none; a chain of forks, which is too fast for this, ends by itself."""
        for pid in self.survivors() + self.lost_ones():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)

    def ready(self) -> bool:
        """All that it starts is there, or its time is over."""
        answer = self.daemon.query(self.job_id)
        return answer.job.outputBytes > 0 or answer.done

    def end(self) -> pb.Job:
        """Let it end its way; the job once it is done."""
        wait_until(self.ready)
        if self.ending == "stop":
            self.stopped_at = time.time()
            self.daemon.stub.StopJob(pb.StopJobReq(jobID=self.job_id, grace=GRACE), timeout=LIMIT)
        self.job = self.daemon.end(self.job_id).job
        return self.job

    def seconds_after_kill(self) -> float:
        """How long after KILL the last of it was gone. By the wall clock: a bound, the job's end is told afterwards."""
        if self.ending == "end":
            killed_at = float(self.daemon.raw(self.job_id)) + DRAIN_SECONDS
        elif self.ending == "stop":
            killed_at = self.stopped_at + GRACE_SECONDS
        else:
            killed_at = self.job.startedAt.ToNanoseconds() / 1e9 + TIMEOUT_SECONDS + GRACE_SECONDS
        return self.job.finishedAt.ToNanoseconds() / 1e9 - killed_at


class Witnesses:
    """Processes that must live, and write down every signal they get."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files: list[Path] = []
        self.started: list[subprocess.Popen[bytes]] = []
        place.mkdir(parents=True)

    def command(self) -> str:
        """The command of one more, for a shell."""
        self._files.append(self._place / f"witness{len(self._files)}")
        return shlex.join([sys.executable, "-IS", str(SCRIPTS / "witness.py"), str(self._files[-1]), "adversary"])

    def pids(self) -> list[int]:
        """The pids of all, once they are there."""
        return [int(wait_until(lambda: _lines(file))[0].removeprefix("pid ")) for file in self._files]  # noqa: B023

    def kill(self) -> None:
        """All, at the end."""
        for file in self._files:
            if _lines(file):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(_lines(file)[0].removeprefix("pid ")), SIGKILL)
        for process in self.started:
            process.wait()

    def signalled(self) -> list[str]:
        """Who got which signal, has been stopped, or is gone: nobody, if all is well."""
        found = []
        for pid, file in zip(self.pids(), self._files, strict=True):
            state = _state(pid)
            found += [f"{file.name}: {line}" for line in _lines(file)[1:]]
            found += [] if state in ("S", "R", "D") else [f"{file.name}: {state or 'gone'}"]
        return found


def job_of_witnesses(daemon: Daemon, witnesses: Witnesses) -> str:
    """A job with a child, a daemon and one with an emptied environment, all of which are its own affair; its id."""
    child, own, twice, emptied, tagged, main = (witnesses.command() for _ in range(6))
    script = (
        f"{child} & setsid {own} & (setsid {twice} &); (env -i setsid {emptied} &); "
        f"(TXWORKER_JOB_ID=another setsid {tagged} &); exec {main}"
    )
    job_id = daemon.bash(script)
    witnesses.pids()
    return job_id


def outsiders(witnesses: Witnesses, *tags: str) -> None:
    """One for each environment tag, started by the test and not by the worker, in a group of its own."""
    for tag in tags:
        command = ["bash", "-c", f"exec {witnesses.command()}"]
        witnesses.started.append(
            subprocess.Popen(command, env={**os.environ, JOB_ID_VARIABLE: tag}, start_new_session=True)
        )
    witnesses.pids()


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return text[text.rindex(")") + 2]
    return ""
