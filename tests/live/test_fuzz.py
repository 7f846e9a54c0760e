"""Nonsense of every kind leaves the worker as it was; bench/fuzz.py does the same with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fuzz import fuzz

pytestmark = pytest.mark.slow


def test_nonsense(tmp_path: Path) -> None:
    """Each of 10,000 is answered, none as our mistake, and nothing grows: no descriptors, threads; memory hardly."""
    assert [figure for figure in fuzz(tmp_path, 1, requests=10_000) if not figure.reached] == []
