"""A worker that is killed at random moments, under load, and started again; and checks of what it then reports."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.support.daemon import LIMIT, TWISTD, Daemon, wait_until
from tests.support.journal import Journal, done, integrity, list_all
from tests.support.load import Load
from txworker.jobs import JOB_ID_VARIABLE
from txworker.leftovers.tags import environment_tag
from txworker.linux.procfs import ProcessTable
from txworker.pb import worker_pb2 as pb

LONGEST_LOAD = 2.0
LONGEST_AWAY = 3.0
"""The longest time without a worker, in seconds."""

STARTING = 0.8
"""About as long as a start takes, in seconds: a kill in that time hits a worker that recovers or begins to serve."""


class Faults:
    """
    jobs: more text for [jobs] in worker.toml. seed: determines what the clients do, and until when. longest: for how
    many seconds there is load, and is no worker, before and after a kill.
    """

    def __init__(
        self, place: Path, seed: str, jobs: str, longest: tuple[float, float] = (LONGEST_LOAD, LONGEST_AWAY)
    ) -> None:
        self.place = place
        self.token = f"txworker-fault-{os.getpid()}-{time.monotonic_ns()}"
        self.journal = Journal()
        self.kills = 0
        self._ran = 0
        self._longest_load, self._longest_away = longest
        assert JOB_ID_VARIABLE not in os.environ, "this very process would look like a job's"
        self._seed = seed
        self._rng = random.Random(seed)
        (place / "runs").mkdir()
        self._text = f"[jobs]\nstop_grace_seconds = 0.3\n{jobs}\n"
        self._daemon = Daemon(place, self._text)

    def kill(self) -> None:
        """Put load on the worker, kill it, check what it left, start it again, check what it reports."""
        new = self._loaded_and_killed()
        time.sleep(self._rng.choice((0, 0, self._rng.uniform(0, self._longest_away))))
        while self._rng.random() < 0.25:
            self._kill_starting()
        self._look_at_store()
        views = [view for view in list(self.journal.seen) if view[0] in new]
        self.journal.check_files(self.place / "output", views)
        self._daemon = Daemon(self.place, self._text)
        self.journal.check_jobs(self._daemon)
        self.journal.check_outputs(self._daemon, self.token)
        self.journal.check_asked(self._daemon, new)
        self.journal.check_streams(self._daemon, self._rng.sample(views, min(5, len(views))))
        self._expect_no_mistakes()

    @property
    def summary(self) -> str:
        """Counts of all that has happened."""
        journal = self.journal
        return (
            f"{self.kills} kills, {len(journal.ids)} jobs, {self._ran} running then, {len(journal.ends)} ends told, "
            f"{len(journal.orders)} requestIDs, {sum(map(len, journal.seen.values()))} bytes of {len(journal.seen)} "
            "outputs viewed"
        )

    def finish(self) -> None:
        """End every job, stop the last worker, and check everything again."""
        for job in list_all(self._daemon):
            if not done(job):
                self._daemon.stub.StopJob(pb.StopJobReq(jobID=job.jobID), timeout=LIMIT)
        wait_until(lambda: all(map(done, list_all(self._daemon))))
        self._look_for_processes()
        self.journal.check_jobs(self._daemon)
        self.journal.check_outputs(self._daemon, self.token)
        self.journal.check_files(self.place / "output", list(self.journal.seen))
        self.journal.check_runs(self.place / "runs")
        assert self._daemon.stop() == 0
        self._look_for_processes()
        self._look_at_store()
        self._expect_no_mistakes()

    def close(self) -> None:
        """End every process."""
        self._daemon.close()
        for pid in self.living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def living(self) -> dict[int, str]:
        """All processes of all jobs, found by command line or environment, with their status."""
        found = {}
        for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
            with suppress(FileNotFoundError, ProcessLookupError):
                command, tag = Path(f"/proc/{pid}/cmdline").read_bytes(), environment_tag(pid)
                if self.token.encode() in command or tag in self.journal.ids:
                    state = " ".join(Path(f"/proc/{pid}/stat").read_text().split()[:6])
                    found[pid] = f"{state} {command!r} {tag} {ProcessTable().cgroup(pid)}"
        return found

    def _loaded_and_killed(self) -> list[str]:
        """Returns the ids that became known meanwhile."""
        before = set(self.journal.ids)
        seed = f"{self._seed}/{self.kills}"
        load = Load(self._daemon, self.journal, self.token, seed)
        time.sleep(self._rng.uniform(0, self._longest_load))
        load.kill()
        self._ran += len(load.running)
        self._killed()
        return list(self.journal.ids - before)

    def _kill_starting(self) -> None:
        command = [TWISTD, "-n", "--pidfile=", "worker", "--config", str(self.place / "worker.toml")]
        with (self.place / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.place, stdout=log, stderr=log)
        time.sleep(self._rng.uniform(0, STARTING))
        process.kill()
        process.wait()
        self._killed()

    def _look_for_processes(self) -> None:
        self.journal.mistakes += [f"still runs: {process}" for process in self.living().values()]

    def _look_at_store(self) -> None:
        found = integrity(self.place / "state")
        if found != "ok":
            self.journal.mistakes.append(f"the store is damaged: {found}")

    def _killed(self) -> None:
        self.kills += 1
        log = (self.place / "log").read_text()
        if "Traceback" in log:
            self.journal.mistakes.append(f"a traceback: {log[log.index('Traceback') :]}")

    def _expect_no_mistakes(self) -> None:
        mistakes = "\n".join(self.journal.mistakes)
        assert not mistakes, f"seed {self._seed}, kill {self.kills}:\n{mistakes}"
