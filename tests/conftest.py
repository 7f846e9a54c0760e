"""
Every test runs in a directory of its own, so that what it makes there is nobody else's.

What a shell runs in its background has SIGINT and SIGQUIT ignored, and so would have every command that a test
interrupts.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
