"""Two checkouts side by side, each measured by its own bench: machines are noisy, but both have the same noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent.parent

Values = dict[str, list[float]]
"""What was measured, by the names of the figures."""


def against(other: Path, parts: Sequence[str], rounds: int, directory: str | None = None) -> str:
    """
    A line for each figure that both have: the median there, the median here, and here as a share of there.

    So many rounds, each of one run of the other checkout and one of this, which take turns in going first. Both run
    with this Python and what is installed for it. directory: as the option; None: the system's temporary one.

    Raises:
        subprocess.CalledProcessError: one of them failed.
    """
    there: Values = {}
    here: Values = {}
    for number in range(rounds):
        turns = ((other, there), (HERE, here))
        for checkout, values in turns if number % 2 == 0 else turns[::-1]:
            for name, value in _measured(checkout, parts, directory).items():
                values.setdefault(name, []).append(value)
    return _table({name: (median(there[name]), median(here[name])) for name in here if name in there})


def _measured(checkout: Path, parts: Sequence[str], directory: str | None) -> dict[str, float]:
    options = [] if directory is None else ["--directory", directory]
    result = subprocess.run(
        [sys.executable, "-m", "bench", "--json", "--rounds", "1", *options, *parts],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return {figure["name"]: figure["value"] for figure in json.loads(result.stdout)}


def _table(medians: dict[str, tuple[float, float]]) -> str:
    width = max(map(len, medians), default=0)
    lines = [f"{'':{width}}      there       here  here/there"]
    for name, (there, here) in medians.items():
        share = f"{here / there:11.2f}" if there else ""
        lines.append(f"{name:{width}}  {there:9.3f}  {here:9.3f} {share}")
    return "\n".join(lines)
