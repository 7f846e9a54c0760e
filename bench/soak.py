"""What a worker holds after 20,000 jobs of /bin/true, compared to after 2,000."""

from __future__ import annotations

from pathlib import Path

from bench.launch import resident_bytes, settle
from bench.report import Figure
from tests.support.daemon import LIMIT, Daemon, wait_until
from txworker.pb import worker_pb2 as pb

JOBS = 20_000
_TRUE = pb.StartJobReq(command="/bin/true")


def soak(directory: Path, rounds: int, jobs: int = JOBS, mebibytes: float = 4.0) -> list[Figure]:
    """
    Run the jobs one after another, and 32 at a time on another worker; once, for any `rounds`.

    mebibytes: how much more memory is allowed. A few more threads are, too, because idle ones end only after a while,
    and gRPC has some of its own.
    """
    figures = []
    for name, at_a_time in (("one at a time", 1), ("32 at a time", 32)):
        below = directory / str(at_a_time)
        below.mkdir()
        daemon = Daemon(below)
        try:
            before, after = _growth(daemon, jobs, at_a_time)
        finally:
            daemon.stop()
            daemon.close()
        note = f"{jobs // 10} to {jobs} jobs"
        for what, most in (("descriptors", 5), ("threads", 10), ("zombies", 0), ("memory, MiB", mebibytes)):
            grown = after[what] - before[what]
            figures.append(Figure(f"more {what}, {name}", grown, most, note, at_most=True))
    return figures


def _growth(daemon: Daemon, jobs: int, at_a_time: int) -> tuple[dict[str, float], dict[str, float]]:
    run(daemon, jobs // 10, at_a_time)
    before = held(daemon)
    run(daemon, jobs - jobs // 10, at_a_time)
    return before, held(daemon)


def run(daemon: Daemon, jobs: int, at_a_time: int) -> None:
    """Run so many jobs to their end."""
    for _ in range(0, jobs, at_a_time):
        calls = [daemon.stub.StartJob.future(_TRUE, timeout=LIMIT) for _ in range(at_a_time)]
        ids = [call.result().jobID for call in calls]
        for job_id in ids:
            daemon.raw(job_id)
    settle(daemon)


def held(daemon: Daemon) -> dict[str, float]:
    """The worker's resources while no job runs."""
    wait_until(lambda: zombies(daemon) == 0)
    return {
        "descriptors": daemon.descriptors(),
        "threads": daemon.threads(),
        "zombies": zombies(daemon),
        "memory, MiB": resident_bytes(daemon) / 2**20,
    }


def zombies(daemon: Daemon) -> int:
    """Children of the worker that have exited and were not waited for."""
    pid = daemon.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_is_zombie(int(child)) for child in children)


def _is_zombie(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] == "Z"
