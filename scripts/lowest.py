"""
Installs the lowest versions that pyproject.toml allows into the Python that runs this, for `tox -e mindeps`.

    python scripts/lowest.py [EXTRA ...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import tomli

TOP = Path(__file__).resolve().parent.parent
_BOUND = re.compile(r"([A-Za-z0-9_-]+)(?:>=|==)([0-9.]+)")


def lowest(extras: list[str]) -> list[str]:
    """Every requirement of the project and of those extras, pinned to its lower bound."""
    project = tomli.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in extras:
        requirements += project["optional-dependencies"][extra]
    pins = []
    for requirement in requirements:
        bound = _BOUND.fullmatch(requirement)
        if bound is None:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound")
        pins.append(f"{bound[1]}=={bound[2]}")
    return pins


if __name__ == "__main__":
    pins = lowest(sys.argv[1:])
    print("\n".join(pins), flush=True)
    sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", *pins], check=False).returncode)
