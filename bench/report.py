"""Figures and their formats."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value, a ratio unless the name says otherwise, and its target; `note` is for the reader."""

    name: str
    value: float
    wanted: float
    note: str = ""
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """The value reaches the target."""
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


def table(figures: list[Figure]) -> str:
    """One line for each figure."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        sign = "≤" if figure.at_most else "≥"
        flag = " " if figure.reached else "!"
        lines.append(f"{flag} {figure.name:<{width}}  {figure.value:9.2f}  {sign} {figure.wanted:g}  {figure.note}")
    return "\n".join(lines)


def as_json(figures: list[Figure]) -> str:
    """The figures as JSON."""
    return json.dumps([{**asdict(figure), "reached": figure.reached} for figure in figures], indent=2)
