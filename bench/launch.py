"""How fast jobs are started, and how soon a watcher sees them done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

from bench.floor import spawn_rate
from bench.report import Figure
from bench.wire import Wire
from tests.support.daemon import LIMIT, Daemon
from txworker.pb import worker_pb2 as pb

WARM = 1000
"""Launches before a measurement, because the first ones of a new worker are slower."""

TRUE = pb.StartJobReq(command="/bin/true")


def start_rate(daemon: Daemon, count: int, concurrency: int) -> float:
    """StartJob answers per second over one connection, with `concurrency` calls at a time."""
    with Wire(daemon.addr) as wire:
        begun = time.perf_counter()
        _start(wire, concurrency)
        called, answered = concurrency, 0
        while answered < count:
            came = len(wire.messages())
            answered += came
            called += _start(wire, min(came, count - called))
        return count / (time.perf_counter() - begun)


def done_rate(daemon: Daemon, count: int, concurrency: int) -> float:
    """Jobs per second from StartJob to done, as a watcher of all jobs sees it, with `concurrency` at a time."""
    with Wire(daemon.addr) as wire:
        events = wire.call("WatchJobs", pb.WatchJobsReq())
        last = daemon.start("/bin/true")
        while last not in _ended(wire, events):  # skip earlier ends
            pass
        begun = time.perf_counter()
        _start(wire, concurrency)
        called, done = concurrency, 0
        while done < count:
            ended = len(_ended(wire, events))
            done += ended
            called += _start(wire, min(ended, count - called))
        return count / (time.perf_counter() - begun)


def _start(wire: Wire, count: int) -> int:
    for _ in range(count):
        wire.call("StartJob", TRUE)
    return count


def _ended(wire: Wire, events: int) -> list[str]:
    """Wait for messages; the ids of jobs that the watch `events` reports as done, perhaps none."""
    jobs = [pb.JobEvent.FromString(message).job for call, message in wire.messages() if call == events]
    return [job.jobID for job in jobs if job.state >= pb.JOB_STATE_SUCCEEDED]


def launches(daemon: Daemon, rounds: int, count: int = 300) -> list[Figure]:
    """Start rate and start-to-done rate at 1, 8 and 32 at a time, as a share of the floor."""
    start_rate(daemon, WARM, 8)
    figures = []
    measures: tuple[tuple[str, Callable[[Daemon, int, int], float]], ...] = (
        ("launch rate", start_rate),
        ("start-to-done rate", done_rate),
    )
    for name, measure in measures:
        for concurrency, wanted in ((1, 0.5), (8, 0.6), (32, 0.6)):
            ratios, rates = [], []
            for _ in range(rounds):
                floor = spawn_rate(count)
                rates.append(measure(daemon, count, concurrency))
                settle(daemon)
                ratios.append(rates[-1] / ((floor + spawn_rate(count)) / 2))
            note = f"{median(rates):.0f}/s"
            figures.append(Figure(f"{name}, {concurrency} at a time", median(ratios), wanted, note))
    return figures


def settle(daemon: Daemon) -> None:
    """Wait until no job of /bin/true runs, by waiting for one more."""
    daemon.end(daemon.start("/bin/true"))


def start_sleeping(daemon: Daemon, size: int) -> list[str]:
    """Start `size` sleeping jobs; their ids."""
    request = pb.StartJobReq(command="sleep 100000")
    ids: list[str] = []
    while len(ids) < size:
        calls = [daemon.stub.StartJob.future(request, timeout=LIMIT) for _ in range(min(16, size - len(ids)))]
        ids += [call.result().jobID for call in calls]
    return ids


def launches_beside_sleeping(daemon: Daemon, rounds: int, sizes: tuple[int, ...] = (1000, 5000)) -> list[Figure]:
    """Launch rate beside many sleeping jobs as a share of that beside none; memory; seconds to stop all."""
    figures = []
    ids: list[str] = []
    start_rate(daemon, WARM, 8)
    rates = {0: [start_rate(daemon, 300, 8) for _ in range(rounds)]}
    floors = {0: [spawn_rate(300) for _ in range(rounds)]}
    memory = resident_bytes(daemon)
    for size, wanted in zip(sizes, (0.9, 0.8), strict=False):
        ids += start_sleeping(daemon, size - len(ids))
        per_job = (resident_bytes(daemon) - memory) / size / 1024
        rates[size], floors[size] = [], []
        for _ in range(rounds):
            rates[size].append(start_rate(daemon, 300, 8))
            floors[size].append(spawn_rate(300))  # sleeping jobs slow the whole machine
        ratio = (median(rates[size]) / median(floors[size])) / (median(rates[0]) / median(floors[0]))
        note = f"{median(rates[size]):.0f}/s of {median(rates[0]):.0f}/s"
        figures.append(Figure(f"launch rate with {size} jobs, of that with none", ratio, wanted, note))
        figures.append(Figure(f"memory per job, KiB, {size} running", per_job, 20, at_most=True))
    begun = time.perf_counter()
    calls = [daemon.stub.StopJob.future(pb.StopJobReq(jobID=job_id), timeout=LIMIT) for job_id in ids]
    for call in calls:
        call.result()
    for job_id in ids:
        daemon.end(job_id)
    seconds = time.perf_counter() - begun
    figures.append(Figure(f"seconds until {len(ids)} jobs are stopped", seconds, 20, at_most=True))
    return figures


def resident_bytes(daemon: Daemon) -> int:
    """The resident memory of the worker."""
    with open(f"/proc/{daemon.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
