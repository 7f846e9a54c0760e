"""Jobs that try to leave processes behind: how many survive, and how soon after KILL the last one is gone."""

from __future__ import annotations

from pathlib import Path

from bench.report import Figure
from tests.support.adversary import (
    CONFIG,
    ENDINGS,
    WITHOUT_CGROUPS,
    Adversary,
    Witnesses,
    cgroup_root,
    job_of_witnesses,
    outsiders,
)
from tests.support.daemon import Daemon


def adversary(directory: Path, rounds: int) -> list[Figure]:
    """
    Three adversaries at once per round: one ends by itself, one is stopped, one times out; with and without cgroups.

    Bystander processes, in other jobs and outside, must not be touched.
    """
    ways = {"with cgroups": CONFIG, "without cgroups": WITHOUT_CGROUPS}
    if not cgroup_root():
        del ways["with cgroups"]
    figures = []
    for way, text in ways.items():
        below = directory / way.replace(" ", "-")
        below.mkdir()
        witnesses = Witnesses(below / "witnesses")
        daemon = Daemon(below, text)
        try:
            figures += _attack(daemon, witnesses, rounds, way)
        finally:
            witnesses.kill()
            daemon.stop()
            daemon.close()
    return figures


def _attack(daemon: Daemon, witnesses: Witnesses, rounds: int, way: str) -> list[Figure]:
    cgroup = cgroup_root() if way == "with cgroups" else ""
    job_of_witnesses(daemon, witnesses)
    outsiders(witnesses, "no job's")
    survivors, seconds, ended = 0, [], 0
    for _ in range(rounds):
        adversaries = [Adversary(daemon, daemon.place, ending, cgroup) for ending in ENDINGS]
        for adversary in adversaries:
            ended += adversary.end().leftoversEnded
            survivors += len(adversary.survivors()) + (len(adversary.lost_ones()) if cgroup else 0)
            seconds.append(adversary.seconds_after_kill())
            adversary.kill()
    note = f"{len(seconds)} jobs, {ended} leftovers ended"
    return [
        Figure(f"survivors, {way}", survivors, 0, note, at_most=True),
        Figure(f"last one gone after KILL, ms, worst, {way}", max(seconds) * 1000, 500, at_most=True),
        Figure(f"bystanders touched, {way}", len(witnesses.signalled()), 0, at_most=True),
    ]
