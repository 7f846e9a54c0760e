"""How soon a worker that takes over many jobs serves, and how much memory the shim needs for them."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from statistics import median

from bench.launch import start_sleeping
from bench.report import Figure
from tests.support.daemon import LIMIT, Daemon
from txworker.pb import worker_pb2 as pb

SIZES = ((1000, 1.0), (5000, 4.0))
"""Number of running jobs, and the seconds until the next worker must serve."""


def takeover(directory: Path, rounds: int) -> list[Figure]:
    """Kill and start the worker, beside running jobs."""
    figures = []
    ids: list[str] = []
    daemon = Daemon(directory)
    try:
        daemon.end(daemon.start("/bin/true"))
        empty = _resident_bytes(daemon.shim())
        figures.append(Figure("memory of the shim without jobs, MiB", empty / 2**20, 16, at_most=True))
        for size, wanted in SIZES:
            ids += start_sleeping(daemon, size - len(ids))
            per_job = (_resident_bytes(daemon.shim()) - empty) / size / 1024
            seconds = []
            for _ in range(rounds):
                daemon.stop(signal.SIGKILL)
                begun = time.perf_counter()
                daemon = Daemon(directory)
                seconds.append(time.perf_counter() - begun)
                running = daemon.stub.ListJobs(
                    pb.ListJobsReq(states=[pb.JOB_STATE_RUNNING], pageSize=1), timeout=LIMIT
                ).jobs
                assert running, "the jobs were not taken over"
            name = f"takeover of {size} running jobs, seconds from the start of the process until it serves"
            figures.append(Figure(name, median(seconds), wanted, at_most=True))
            figures.append(Figure(f"memory of the shim for each of {size} jobs, KiB", per_job, 4, at_most=True))
    finally:
        for job_id in ids:
            daemon.stub.StopJob.future(pb.StopJobReq(jobID=job_id), timeout=LIMIT)
        daemon.stop()
        daemon.close()
    return figures


def _resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().split()
    return int(fields[fields.index("VmRSS:") + 1]) * 1024
