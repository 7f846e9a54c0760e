"""Many jobs leave nothing in the worker; bench/soak.py does the same with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import soak

pytestmark = pytest.mark.slow


def test_no_growth(tmp_path: Path) -> None:
    """Between the 300th and the 3,000th job nothing grows: no descriptors, threads, zombies; and memory hardly."""
    assert [figure for figure in soak(tmp_path, 1, jobs=3000) if not figure.reached] == []
