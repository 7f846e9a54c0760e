"""Lines of a table for a terminal: the columns that fit, and last the command. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MIN_COMMAND_WIDTH = 18
"""Columns are left out until the command has this many characters; then four columns fit into 80."""


@dataclass(frozen=True)
class Column:
    """
    One column but the last. align: "<" or ">". dropped: columns with a higher number are left out first on a narrow
    terminal; those with 0 stay.
    """

    heading: str
    width: int
    align: str = "<"
    dropped: int = 0

    def cell(self, text: str) -> str:
        """The text, padded; a longer text is not cut."""
        return f"{text:{self.align}{self.width}}"


def heading_line(columns: Sequence[Column], last: str, width: int | None) -> str:
    """The line above the others."""
    return line(columns, [column.heading for column in columns], last, width)


def line(columns: Sequence[Column], cells: Sequence[str], last: str, width: int | None) -> str:
    """A cell for each column, and the last one, which may be long; cut to `width` characters (None: not cut)."""
    shown = shown_columns(columns, width)
    text = " ".join(column.cell(cell) for column, cell in zip(columns, cells, strict=True) if column in shown)
    text = f"{text}  {last}"
    return text if width is None or len(text) <= width else f"{text[: max(width - 1, 0)]}…"


def shown_columns(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that leave enough room for the last one; all if there is no width."""
    shown = list(columns)
    for column in sorted(columns, key=lambda column: column.dropped, reverse=True):
        fits = width is None or sum(one.width + 1 for one in shown) + 1 + _MIN_COMMAND_WIDTH <= width
        if fits or not column.dropped:
            break
        shown.remove(column)
    return shown
