"""A worker under floods goes on answering, and gives back what they cost; bench/flood.py does the same with more."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.flood import Sizes, flood

pytestmark = pytest.mark.slow

SMALLER = Sizes(idle=400, half_open=100, rounds_of_resets=2, resets=3000, half_sent=400, half_sent_over=40)


def test_floods(tmp_path: Path) -> None:
    """
    Idle connections, half handshakes, resets and half-sent calls. How long others wait for resets is grpcio's to say:
    each is a call that its one serving thread has to take up before the next.
    """
    figures = [figure for figure in flood(tmp_path, 1, SMALLER) if "resets: QueryJob" not in figure.name]
    assert [figure for figure in figures if not figure.reached] == []
