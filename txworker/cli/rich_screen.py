"""The screen of `txworker top` by rich, which is an extra: only usage_screen.py imports this."""

from __future__ import annotations

from typing import Literal, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from txworker.cli.table import shown_columns
from txworker.cli.usage_table import LAST, View

_HEADING_ROWS = 2
"""Above the rows of jobs: the sums, and the names of the columns."""


class RichScreen:
    """A Screen, as usage_screen.py has it."""

    def __init__(self, stream: TextIO, colours: bool, width: int | None = None, height: int | None = None) -> None:
        """width, height: by default those of the terminal, also when they change."""
        system: Literal["auto"] | None = "auto" if colours else None
        self._console = Console(
            file=stream,
            color_system=system,
            force_terminal=True,
            highlight=False,
            markup=False,
            width=width,
            height=height,
        )
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def __enter__(self) -> RichScreen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        """As Screen.show()."""
        notes = Text("\n".join(view.notes), style="dim", overflow="ellipsis", no_wrap=True)
        heading = Text(view.heading, style="bold", overflow="ellipsis", no_wrap=True)
        self._live.update(Group(heading, self._table(view), notes), refresh=True)

    def _table(self, view: View) -> Table:
        width, height = self._console.size
        most = max(height - _HEADING_ROWS - len(view.notes), 1)
        rows = view.rows if len(view.rows) <= most else view.rows[: most - 1]
        table = Table(box=None, expand=True, pad_edge=False, header_style="reverse")
        shown = shown_columns(view.columns, width)
        for column in shown:
            justify: Literal["left", "right"] = "left" if column.align == "<" else "right"
            table.add_column(column.heading, min_width=column.width, no_wrap=True, justify=justify)
        table.add_column(LAST, ratio=1, no_wrap=True, overflow="ellipsis")
        for *cells, last in rows:
            texts = (Text(cell) for column, cell in zip(view.columns, cells, strict=True) if column in shown)
            table.add_row(*texts, Text(last))
        if len(rows) < len(view.rows):
            table.add_row(Text(f"… {len(view.rows) - len(rows)} more"))
        return table
