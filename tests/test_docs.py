"""The documentation names modules and rooms as they are."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.test_rooms import ROOMS
from txworker.config import values

TOP = Path(__file__).resolve().parent.parent
PAGES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").glob("*.md"))]
ROOTS = (TOP, TOP / "txworker", TOP / "docs")

_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]+/[\w-]+\.(?:py|proto|md|sh)")
_LINK = re.compile(r"\]\(([^)#\s:]*)(?:#([\w-]+))?\)")
_VALUE = re.compile(r"[….:]|\([A-Z ]*|\S*[\d\[\]]\S*|\b[A-Z]{4,}\b")
"""What stands for a value in a log line that a page shows."""

_SURE = 12
"""Characters of a log line that are not there by chance."""

_SYMBOL = re.compile(r"(\w+)(?:\(|$)")
_ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| ", re.MULTILINE)


def architecture() -> str:
    """The page."""
    return (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")


def rooms_table() -> list[tuple[str, str]]:
    """Each room of the page's table, and the words that say what it imports."""
    table = architecture().partition("| room | imports of other rooms |")[2].partition("\n\n")[0]
    return _ROW.findall(table)


def texts() -> str:
    """Every string in the package, with gaps where values are put in."""
    sources = (path.read_text(encoding="utf-8") for path in (TOP / "txworker").rglob("*.py"))
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def anchor(heading: str) -> str:
    """What a link to a heading says, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class DocsTests(SynchronousTestCase):
    def test_files(self) -> None:
        """Every file that a page names by a path is there: below the project, the package or docs."""
        missing = [
            f"{page.name}: {name}"
            for page in PAGES
            for code in _CODE.findall(page.read_text(encoding="utf-8"))
            if _FILE.fullmatch(name := code)
            if not any((root / name).exists() for root in ROOTS)
        ]
        self.assertEqual([], missing)

    def test_where_to_find_what(self) -> None:
        """What a cell of the first table names beside a module is in that module."""
        table = architecture().partition("| where is … |")[2].partition("\n\n")[0]
        cells = [_CODE.findall(cell) for line in table.splitlines() for cell in line.split(" | ")]
        found = [(names[0], name) for names in cells if names and names[0].endswith(".py") for name in names[1:]]
        missing = []
        for module, name in found:
            symbol = _SYMBOL.search(name)
            if not name.endswith(".py") and symbol and symbol[1] not in (TOP / "txworker" / module).read_text():
                missing.append(f"{module}: {name}")
        self.assertEqual([], missing)
        self.assertGreater(len(found), 5)

    def test_links(self) -> None:
        """Every link leads to a file that is there, and to a heading in it."""
        broken = []
        for page in PAGES:
            for file, heading in _LINK.findall(page.read_text(encoding="utf-8")):
                target = (page.parent / file) if file else page
                if not target.exists():
                    broken.append(f"{page.name}: {file}")
                elif heading and heading not in map(anchor, re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)):
                    broken.append(f"{page.name}: {file}#{heading}")
        self.assertEqual([], broken)

    def test_keys(self) -> None:
        """The README's table has every key of the configuration, and worker.toml shows it."""
        readme = (TOP / "README.md").read_text(encoding="utf-8").partition("## Configuration")[2].partition("\n## ")[0]
        keys = {key.rpartition(".")[2] for row in readme.splitlines() for key in _CODE.findall(row.partition(" | ")[0])}
        keys |= {key.split(".")[1] for key in re.findall(r"`(\w+\.\w+)\.\*`", readme)}
        example = (TOP / "worker.toml").read_text(encoding="utf-8")
        sections = (
            values.GrpcServer,
            values.Scheduler,
            values.Jobs,
            values.Worker,
            values.Log,
            values.Web,
            values.Tracing,
        )
        for section in sections:
            for key in (field.name for field in fields(section)):
                if key not in ("host", "port"):  # together they are addr
                    self.assertIn(key, keys)
                    self.assertIn(key, example)

    def test_log_lines(self) -> None:
        """Each line that the operator's table explains is one that the package can write."""
        page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
        rows = page.partition("## What the log says")[2].splitlines()[4:]
        lines = [line for row in rows for line in _CODE.findall(row.partition(" | ")[0])]
        written = texts()
        pieces = [piece.strip() for line in lines for piece in _VALUE.split(line) if len(piece) >= _SURE]
        self.assertEqual([], [piece for piece in pieces if piece not in written])
        self.assertGreater(len(pieces), len(rows) - 10)

    def test_rooms(self) -> None:
        """The table of rooms has every room, in the order of levels."""
        self.assertEqual(list(ROOMS), [room for room, _ in rooms_table()])

    def test_imports(self) -> None:
        """It says of each room what tests/test_rooms.py allows it to import."""
        for room, words in rooms_table():
            named = set(_CODE.findall(words))
            expected = set(ROOMS) - {room} - named if words.startswith("all but") else named
            self.assertEqual(ROOMS[room], expected, room)

    def test_modules_of_rooms(self) -> None:
        """The modules that a room's row names are in that room."""
        table = architecture().partition("| room | imports of other rooms |")[2].partition("\n\n")[0]
        for line in table.splitlines():
            if row := _ROW.match(line):
                for name in re.findall(r"`(\w+\.py)`", line):
                    self.assertTrue((TOP / "txworker" / row[1] / name).exists(), f"{row[1]}/{name}")
