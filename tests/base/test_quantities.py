"""Durations and sizes as people write them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txworker.base.quantities import counted, seconds, size


class SecondsTests(SynchronousTestCase):
    def test_durations(self) -> None:
        """Numbers are seconds; units are added up."""
        table = {"0": 0, "90": 90, "2.5": 2.5, ".5": 0.5, "3.": 3, "90s": 90, "1h30m": 5400, "1d": 86_400}
        table |= {"1.5h": 5400, "250ms": 0.25, "1m0.1s": 60.1, "2d1h1m1s1ms": 2 * 86_400 + 3661.001}
        self.assertEqual(table, {text: seconds(text) for text in table})

    def test_none(self) -> None:
        """What is ambiguous or no duration is refused, as fast as it is long."""
        for text in ("", "soon", "-1", "1e3", "inf", "nan", "1 h", "30m1h", "1h1h", "1x", "h", "1h30", "٣", "9" * 5000):
            self.assertRaises(ValueError, seconds, text)


class SizeTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """Units are powers of 1024, however they are spelled."""
        table = {"0": 0, "4096": 4096, "64K": 65_536, "10m": 10 * 2**20, "2G": 2**31, "1T": 2**40, "512MiB": 2**29}
        table |= {"512MB": 2**29, "512mib": 2**29, "1Gi": 2**30, "7B": 7, "1.5K": 1536, "1P": 2**50, "1E": 2**60}
        self.assertEqual(table, {text: size(text) for text in table})

    def test_none(self) -> None:
        """So is what is no whole number of bytes."""
        for text in ("", "K", "-1", "5X", "0.3", "1.0001K", "2 G", "iB", "1iB", "1e9", "٣", "9" * 5000):
            self.assertRaises(ValueError, size, text)


class CountedTests(SynchronousTestCase):
    def test_one(self) -> None:
        """Only 1 has the words of the singular."""
        table = {0: "0 jobs are", 1: "1 job is", 2: "2 jobs are", 21: "21 jobs are"}
        self.assertEqual(table, {number: counted(number, "job is", "jobs are") for number in table})
