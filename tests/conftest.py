"""
Every test runs in a directory of its own, so that what it makes there is nobody else's.

What a shell runs in its background has SIGINT and SIGQUIT ignored, and what nohup runs SIGHUP; so would have every
command that a test interrupts.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
