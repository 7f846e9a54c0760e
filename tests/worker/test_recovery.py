"""The errorText of lost jobs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.worker.recovery import lost_text, utc

ALIVE_AT = 1_700_000_000.75


class LostTextTests(SynchronousTestCase):
    def test_sentences(self) -> None:
        """When and why, as far as known; a restart of the machine differs from a crash of the worker."""
        crash, seen = "ended without notice while it ran", "last seen alive at 2023-11-14T22:13:20Z"
        reboot = "lost: the machine was restarted while it ran"
        table: list[tuple[int | None, float | None, bool, str]] = [
            (42, ALIVE_AT, False, f"lost: the worker (pid 42) {crash}, {seen}"),
            (None, None, False, f"lost: the worker {crash}"),
            (42, None, False, f"lost: the worker (pid 42) {crash}"),
            (42, ALIVE_AT, True, f"{reboot}, {seen}"),
            (None, None, True, reboot),
        ]
        for pid, alive_at, rebooted, text in table:
            self.assertEqual(text, lost_text(pid, alive_at, rebooted))

    def test_utc(self) -> None:
        """Times are in UTC, whatever the time zone."""
        self.assertEqual("1970-01-01T00:00:00Z", utc(0))
