"""
The worker is killed at random moments, under load, and started again: nothing that it ever told becomes untrue.

Another seed, or another number of kills, by TXWORKER_FAULT_SEED and TXWORKER_FAULT_KILLS.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.support.faults import Faults

SEED = os.environ.get("TXWORKER_FAULT_SEED") or str(random.randrange(10**6))
KILLS = int(os.environ.get("TXWORKER_FAULT_KILLS", "80"))


def kill_often(place: Path, name: str, jobs: str, kills: int, **more: tuple[float, float]) -> None:
    """So many times at least, in one place."""
    begun = time.monotonic()
    faults = Faults(place, f"{SEED}/{name}", jobs, **more)
    try:
        while faults.kills < kills:
            faults.kill()
        faults.finish()
    finally:
        faults.close()
        print(f"seed {SEED}, {name}: {faults.summary} in {time.monotonic() - begun:.0f} s")


def test_few_kills(tmp_path: Path) -> None:
    """Nothing that was told becomes untrue, and nothing runs on: one kill, for every day."""
    kill_often(tmp_path, "few", "", 1, longest=(1.0, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "machine"])
@pytest.mark.parametrize("cgroups", ["true", "false"])
def test_many_kills(tmp_path: Path, cgroups: str, durability: str) -> None:
    """The same for eighty in all, with and without cgroups, with and without fsync."""
    jobs = f'use_cgroups = {cgroups}\ndurability = "{durability}"'
    kill_often(tmp_path, f"cgroups {cgroups}, {durability}", jobs, KILLS // 4)
