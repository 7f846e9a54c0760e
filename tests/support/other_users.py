"""What tests need that run something as another user."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to run jobs as another user")

AS_NOBODY = 'user = "nobody"\ndirectory = "/tmp"\n'
"""What [jobs] says for jobs of another user."""


def a_python(user: int) -> str:
    """One that this user can execute."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            subprocess.run([python, "-ISc", ""], user=user, check=True, cwd="/")
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip("no Python that another user can execute")


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)
