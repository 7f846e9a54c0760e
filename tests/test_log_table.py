"""The operators' table of log lines has what the worker writes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).resolve().parent.parent

_CODE = re.compile(r"`([^`\n]+)`")
_VALUE = re.compile(r"[….:]|\([A-Z ]*|\S*[\d\[\]]\S*|\b[A-Z]{4,}\b")
"""What stands for a value in a line that the table shows."""

_PLACEHOLDER = re.compile(r"\{[^}]*\}")
_LOG_WARNING = re.compile(r"\b_?log\.(?:warn|error)$")

_SURE = 12
"""Characters of a log line that are not there by chance."""


def rows() -> list[str]:
    """The table's rows."""
    page = (TOP / "docs" / "debugging.md").read_text(encoding="utf-8")
    table = page.partition("## What the log says")[2].partition("| --- | --- |\n")[2]
    return table.partition("\n\n")[0].splitlines()


def pieces() -> list[str]:
    """The parts of the table's lines between values, if they are long enough."""
    lines = [line for row in rows() for line in _CODE.findall(row.partition(" | ")[0])]
    return [piece.strip() for line in lines for piece in _VALUE.split(line) if len(piece) >= _SURE]


def texts() -> str:
    """Every string in the package, with gaps where values are put in."""
    sources = (path.read_text(encoding="utf-8") for path in (TOP / "txworker").rglob("*.py"))
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def warnings_logged() -> list[str]:
    """The formats of the worker's warnings and errors, if they have words enough to tell them from others."""
    modules = (path for path in (TOP / "txworker").rglob("*.py") if path.parent.name not in ("cli", "client", "page"))
    nodes = [node for path in sorted(modules) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    found = {text for node in nodes if isinstance(node, ast.FunctionDef) for text in _warnings_of(node)}
    return sorted(text for text in found if sum(map(str.isalpha, _PLACEHOLDER.sub("", text))) >= _SURE)


def _warnings_of(function: ast.FunctionDef) -> Iterator[str]:
    assigned = [node for node in ast.walk(function) if isinstance(node, (ast.Assign, ast.AugAssign))]
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _LOG_WARNING.search(ast.unparse(node.func)) and node.args:
            names = {name.id for name in ast.walk(node.args[0]) if isinstance(name, ast.Name)}
            assigned_texts = [one.value for one in assigned if names.intersection(ast.unparse(one).split(" ", 1)[:1])]
            values = [getattr(part, "value", "") for text in [*assigned_texts, node.args[0]] for part in ast.walk(text)]
            yield "".join(value for value in values if isinstance(value, str))


class LogTableTests(SynchronousTestCase):
    def test_written(self) -> None:
        """Each line that the table explains is one that the package can write."""
        written = texts()
        self.assertEqual([], [piece for piece in pieces() if piece not in written])
        self.assertGreater(len(rows()), 40)
        self.assertGreater(len(pieces()), len(rows()) - 10)

    def test_explained(self) -> None:
        """The table explains each warning and each error that the worker logs."""
        shown, logged = pieces(), warnings_logged()
        self.assertEqual([], [text for text in logged if not any(piece in text for piece in shown)])
        self.assertGreater(len(logged), 50)
