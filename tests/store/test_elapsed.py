"""Elapsed time does not depend on the wall clock, while a worker runs or between two workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from txworker.store.elapsed import DAY_SECONDS, Elapsed, continued
from txworker.store.lease import Clocks, Heartbeat, Lease

YEAR = 365 * DAY_SECONDS


class ElapsedTests(SynchronousTestCase):
    def test_passes(self) -> None:
        """It starts at the given value and advances with the time since boot."""
        now = [50.0]
        passed = Elapsed(1000.0, lambda: now[0])
        now[0] += 7
        self.assertEqual(1007.0, passed())
        passed.clamp(2000.0, 3000.0)
        self.assertEqual(2000.0, passed())
        passed.clamp(0.0, 1500.0)
        self.assertEqual(1500.0, passed())
        now[0] += 1
        self.assertEqual(1501.0, passed())

    def test_between_workers(self) -> None:
        """On the same boot it is exact. After a reboot the wall clock counts up to a day beyond the time since boot."""
        table = [
            # wall_since, booted_since, since_boot: elapsed, not believed
            (10.0, 10.0, 500.0, 10.0, 0.0),
            (YEAR, 10.0, 500.0, 10.0, YEAR - 10.0),
            (-YEAR, 10.0, 500.0, 10.0, -YEAR - 10.0),
            (3600.0, None, 500.0, 3600.0, 0.0),
            (YEAR, None, 500.0, DAY_SECONDS + 500.0, YEAR - DAY_SECONDS - 500.0),
            (-YEAR, None, 500.0, 500.0, -YEAR - 500.0),
        ]
        for wall_since, booted_since, since_boot, passed, rest in table:
            self.assertEqual((100.0 + passed, rest), continued(100.0, wall_since, booted_since, since_boot))


class LeaseTests(SynchronousTestCase):
    """The next worker continues from the last heartbeat."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.wall, self.since_boot, self.boot = 1_700_000_000.0, 5_000.0, "this boot"
        self.clocks = Clocks(lambda: self.wall, lambda: self.since_boot, lambda: self.boot)

    def next_one(self) -> Lease:
        held = Lease(self.directory, self.clocks)
        held.beat()
        held.close()
        return held

    def pass_by(self, wall: float, since_boot: float) -> None:
        self.wall += wall
        self.since_boot += since_boot

    def test_jumps(self) -> None:
        """A jump of the wall clock is not counted, whether a worker runs or not."""
        first = Lease(self.directory, self.clocks)
        self.pass_by(400 * DAY_SECONDS, 10)
        first.beat()
        first.close()
        self.assertEqual((1_700_000_010.0, 0.0), (first.elapsed(), first.stepped))
        self.pass_by(-900 * DAY_SECONDS, 20)
        second = self.next_one()
        self.assertEqual((1_700_000_030.0, -900 * DAY_SECONDS - 20), (round(second.elapsed(), 3), second.stepped))

    def test_machine_restarted(self) -> None:
        """After a reboot the wall clock counts, up to a day."""
        self.next_one()
        self.wall, self.since_boot, self.boot = self.wall + 600, 60.0, "another"
        self.assertEqual(1_700_000_600.0, round(self.next_one().elapsed(), 3))
        self.wall, self.since_boot, self.boot = self.wall + YEAR, 60.0, "a third"
        self.assertEqual(1_700_000_660.0 + DAY_SECONDS, round(self.next_one().elapsed(), 3))

    def test_earlier_version(self) -> None:
        """After a version without elapsed time it continues from the wall clock."""
        life: dict[str, Any] = {
            "id": "i",
            "pid": 1,
            "boot_id": self.boot,
            "alive_at": self.wall,
            "alive_ticks": 500_000,
        }
        (self.directory / "worker.lock").write_text(json.dumps(life))
        self.pass_by(YEAR, 30)
        self.assertEqual(1_700_000_030.0, round(self.next_one().elapsed(), 3))
        self.assertEqual(Heartbeat(**life).elapsed, 0.0)
