"""Kills of the worker, of the shim and of both: after how many of them every answer given before still holds."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from bench.report import Figure
from tests.support.daemon import LIMIT, Daemon, end_shim, wait_until
from tests.support.faults import Faults
from txworker.pb import worker_pb2 as pb

KILLS = 200
SHIM_KILLS = 20
JOBS = 10
"""Jobs that run when the shim is killed."""


def faults(directory: Path, rounds: int) -> list[Figure]:
    """
    200 kills of the worker under load, some during the takeover by the next one; 20 kills of the shim; 20 of both.

    Once, for any `rounds`, because counts have no median.
    """
    return [_worker_kills(directory / "worker"), _shim_kills(directory / "shim"), _both_kills(directory / "both")]


def _worker_kills(directory: Path) -> Figure:
    directory.mkdir()
    run = Faults(directory, str(random.randrange(10**6)), "")
    try:
        while run.kills < KILLS:
            run.kill()
        run.finish()
    finally:
        run.close()
    return Figure("kills of the worker under load after which all was as told", run.kills, KILLS, run.summary)


def _shim_kills(directory: Path) -> Figure:
    """After a kill of the shim its jobs are LOST with that reason, and the worker goes on with a new shim."""
    directory.mkdir()
    daemon = Daemon(directory)
    good = 0
    try:
        for _ in range(SHIM_KILLS):
            jobs = _some_jobs(daemon)
            shim = daemon.shim()
            os.kill(shim, signal.SIGKILL)
            good += all(_is_lost(daemon, job_id, f"lost: the shim (pid {shim})") for job_id in jobs)
        daemon.stop()
    finally:
        daemon.close()
    return Figure("kills of the shim after which its jobs were LOST, and the worker served on", good, SHIM_KILLS)


def _both_kills(directory: Path) -> Figure:
    directory.mkdir()
    daemon = Daemon(directory)
    good = 0
    try:
        for _ in range(SHIM_KILLS):
            jobs = _some_jobs(daemon)
            daemon.stop(signal.SIGKILL)
            end_shim(directory / "state")
            daemon.close()
            daemon = Daemon(directory)
            good += all(_is_lost(daemon, job_id, "lost: the worker (pid ") for job_id in jobs)
        daemon.stop()
    finally:
        daemon.close()
    return Figure("kills of both at once after which the jobs were LOST at the next start", good, SHIM_KILLS)


def _some_jobs(daemon: Daemon) -> list[str]:
    jobs = [daemon.bash("echo up; setsid sleep 1000 & exec sleep 1000") for _ in range(JOBS)]
    wait_until(lambda: all(daemon.query(job_id).job.outputBytes for job_id in jobs))
    return jobs


def _is_lost(daemon: Daemon, job_id: str, words: str) -> bool:
    """The job is LOST with this text, its process has ended, and its output is there."""
    answer = wait_until(lambda: (now := daemon.query(job_id)).done and now)
    lost = answer.job.state == pb.JOB_STATE_LOST and answer.errorText.startswith(words)
    return bool(lost and not _lives(answer.job.pid) and daemon.raw(job_id) == b"up\n")


def _lives(pid: int) -> bool:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True
