"""Many jobs leave nothing in the worker; bench/soak.py does the same with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import soak

pytestmark = pytest.mark.slow


def test_no_growth(tmp_path: Path) -> None:
    """
    Between the 600th and the 6,000th job nothing grows: no descriptors, threads, zombies; and memory hardly: the caches
    of SQLite and of the C library by some 3 MiB, and a kibibyte that is kept for each job would be 5 more.
    """
    assert [figure for figure in soak(tmp_path, 1, jobs=6000, mebibytes=6.0) if not figure.reached] == []
