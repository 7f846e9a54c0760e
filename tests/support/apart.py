"""The thread in which children are made, for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet import reactor

from txworker.process.apart import Apart


@contextmanager
def thread_apart(umask: int = 0o022) -> Iterator[Apart]:
    """One that ends with the test; where there can be none the test is skipped."""
    real: Any = reactor
    try:
        apart = Apart(real, umask)
    except OSError as error:
        pytest.skip(f"no thread of its own here: {error}")
    yield apart
    apart.close(lambda: None)
