"""Figures, and how they are shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value (a ratio unless the name says otherwise) beside what is wanted; `note` is not compared."""

    name: str
    value: float
    wanted: float
    note: str = ""
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """It is as wanted."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


def table(figures: list[Figure]) -> str:
    """One line for each."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        mark = " " if figure.reached else "!"
        lines.append(f"{mark} {figure.name:<{width}}  {figure.value:9.2f}  {sign} {figure.wanted:g}  {figure.note}")
    return "\n".join(lines)


def as_json(figures: list[Figure]) -> str:
    """The same for programs."""
    return json.dumps([{**asdict(figure), "reached": figure.reached} for figure in figures], indent=2)
