"""The documentation names modules and rooms as they are."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.test_rooms import ROOMS
from txworker.config import load, values
from txworker.jobs import JobState, errors
from txworker.pb import control_pb2, worker_pb2
from txworker.rpc.wire.status import code_of

TOP = Path(__file__).resolve().parent.parent
PAGES = [*sorted(TOP.glob("*.md")), *sorted((TOP / "docs").glob("*.md"))]
ROOTS = (TOP, TOP / "txworker", TOP / "docs")

_CODE = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(r"[\w./-]+/[\w-]+\.(?:py|proto|md|sh)")
_LINK = re.compile(r"\]\(([^)#\s:]*)(?:#([\w-]+))?\)")


_NAME = r"`([A-Za-z_][\w.]*)(?:\([^`]*\))?`"
_MODULE = r"`([\w/]+\.py)`"
_NAME_IN_MODULE = re.compile(rf"{_NAME} (?:in |\(){_MODULE}")
_MODULE_WITH_NAME = re.compile(rf"{_MODULE}: {_NAME}")
_CALL = re.compile(r"(\w+)\((?!\d\)).*\)")  # but no page of a manual: kill(2)
_MEMBER = re.compile(r"([A-Z]\w*[a-z]\w*)\.(\w+)(?:\(.*\))?")
_SYMBOL = re.compile(r"(\w+)(?:\(|$)")
_BESIDE_STORE = re.compile(r"\{(?:path|damaged|self\._path)(?:\.name)?\}\.(\w+)")
_DEFAULT = re.compile(r"^\| ((?:`[\w.]+`(?:, )?)+) \| `([^`|]*)` \|", re.MULTILINE)
_ROW = re.compile(r"^\| `([\w.]+)` \| (.*?) \| ", re.MULTILINE)


def architecture() -> str:
    """The page."""
    return (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")


def operations() -> str:
    """The operators' page of tasks."""
    return (TOP / "docs" / "operations.md").read_text(encoding="utf-8")


def debugging() -> str:
    """The operators' page of what went wrong."""
    return (TOP / "docs" / "debugging.md").read_text(encoding="utf-8")


def sources() -> str:
    """Every module of the package."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((TOP / "txworker").rglob("*.py")))


def identifiers(module: Path) -> set[str]:
    """Every name that a module defines or uses; words of its docstrings and comments do not count."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        named = (getattr(node, key, None) for key in ("id", "attr", "name", "arg"))
        found.update(name for name in named if isinstance(name, str))
    return found


def modules_named(name: str) -> list[Path]:
    """The modules with that path below a root, or with that name anywhere in the package."""
    found = [root / name for root in ROOTS if (root / name).exists()]
    return found or list((TOP / "txworker").rglob(name))


def is_file(name: str) -> bool:
    """Whether that is a file of the project, such as README.md."""
    return any((root / name).exists() for root in ROOTS)


def _errors() -> list[type[errors.TxWorkerError]]:
    """Every error that a client may get."""
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    return [error for error in classes if issubclass(error, errors.TxWorkerError)]


def rooms_table() -> list[tuple[str, str]]:
    """Each room of the page's table, and the words that say what it imports."""
    table = architecture().partition("| room | imports of other rooms |")[2].partition("\n\n")[0]
    return _ROW.findall(table)


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

    def test_modules(self) -> None:
        """Every module that a page names without a path is there, somewhere."""
        modules = {
            path.name for room in ("txworker", "tests", "bench", "scripts") for path in (TOP / room).rglob("*.py")
        }
        missing = [
            f"{page.name}: {name}"
            for page in PAGES
            for name in _CODE.findall(page.read_text(encoding="utf-8"))
            if re.fullmatch(r"\w+\.py", name) and name not in modules
        ]
        self.assertEqual([], missing)

    def test_names_in_modules(self) -> None:
        """A name that a page puts into a module ("`name` in `module.py`", "`module.py`: `name`") is in its code."""
        found = [
            (page.name, module, name.rpartition(".")[2])
            for page in PAGES
            for text in [page.read_text(encoding="utf-8")]
            for module, name in [
                *_MODULE_WITH_NAME.findall(text),
                *((module, name) for name, module in _NAME_IN_MODULE.findall(text)),
            ]
        ]
        missing = [
            where for where in found if not any(where[2] in identifiers(path) for path in modules_named(where[1]))
        ]
        self.assertEqual([], missing)
        self.assertGreater(len(found), 20)

    def test_functions_and_members(self) -> None:
        """Every `function()` and `Class.member` that a page names is in the code."""
        known = set().union(*map(identifiers, (TOP / "txworker").rglob("*.py")))
        codes = {code for page in PAGES for code in _CODE.findall(page.read_text(encoding="utf-8"))}
        named = [found for code in codes if (found := _CALL.fullmatch(code) or _MEMBER.fullmatch(code))]
        missing = [found[0] for found in named if not known.issuperset(found.groups()) and not is_file(found[0])]
        self.assertEqual([], missing)
        self.assertGreater(len(named), 20)

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

    def test_figures(self) -> None:
        """The README's figures are those of the page that has all of them."""
        table = (TOP / "README.md").read_text(encoding="utf-8").partition("## How fast")[2].partition("\n## ")[0]
        figures = re.findall(r"^\| .* \| ([^|]*[0-9][^|]*) \|$", table, re.MULTILINE)
        page = (TOP / "docs" / "performance.md").read_text(encoding="utf-8")
        self.assertEqual([], [figure for figure in figures if figure not in page])
        self.assertGreater(len(figures), 3)

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

    def test_defaults(self) -> None:
        """The README's table has the defaults that the code has, where these are values and not words."""
        rows = _DEFAULT.findall((TOP / "README.md").read_text(encoding="utf-8"))
        self.assertGreater(len(rows), 20)
        Path("empty.toml").touch()
        config = load(Path("empty.toml"))
        for names, shown in rows:
            section = names.partition(".")[0].strip("`")
            for name in _CODE.findall(names):
                value = getattr(getattr(config, section), name.rpartition(".")[2])
                self.assertEqual(shown, json.dumps(value.name if isinstance(value, Path) else value).removesuffix(".0"))

    def test_methods(self) -> None:
        """The README names every method of the worker's interface, and of the operator's."""
        section = (TOP / "README.md").read_text(encoding="utf-8").partition("## The interface")[2].partition("\n## ")[0]
        services = (worker_pb2.DESCRIPTOR, "Worker"), (control_pb2.DESCRIPTOR, "Control")
        methods = [method.name for file, name in services for method in file.services_by_name[name].methods]
        self.assertEqual([], [name for name in methods if f"`{name}`" not in section])

    def test_signals(self) -> None:
        """The operator's table of signals has each that the worker handles, and KILL."""
        table = operations().partition("| signal |")[2].partition("\n\n")[0]
        rows = {name for row in table.splitlines()[2:] for name in re.findall(r"SIG\w+", row.split("|")[1])}
        handled = set(
            re.findall(r"^    signals\.(SIG\w+),", (TOP / "txworker/daemon/signals.py").read_text(), re.MULTILINE)
        )
        self.assertEqual(handled | {"SIGKILL"}, rows)

    def test_refusals(self) -> None:
        """Each reason of an error has a row, with the statuses that the worker answers and no other."""
        table = debugging().partition("| reason |")[2].partition("\n\n")[0]
        cells = [row.split(" | ") for row in table.splitlines()[2:]]
        further = re.findall(r'OutOfResources\([^()]*, "([A-Z_]+)"\)', sources())
        self.assertGreater(len(further), 3)
        answered = {(error.reason, code_of(error.__new__(error)).name) for error in _errors()}
        answered |= {(reason, code_of(errors.OutOfResources("")).name) for reason in further}
        shown = [reason for names, *_ in cells for reason in _CODE.findall(names)]
        self.assertEqual(sorted({reason for reason, _ in answered}), sorted(shown))
        for names, statuses, *_ in cells:
            expected = {code for reason, code in answered if reason in _CODE.findall(names)}
            self.assertEqual(expected, set(re.findall(r"[A-Z_]+", statuses)), names)

    def test_states(self) -> None:
        """Each state of a job has a row."""
        table = debugging().partition("| state |")[2].partition("\n\n")[0]
        self.assertEqual([state.name for state in JobState], [_CODE.findall(row)[0] for row in table.splitlines()[2:]])

    def test_causes(self) -> None:
        """Each cause for which a worker takes no jobs has a row."""
        table = debugging().partition("| cause |")[2].partition("\n\n")[0]
        rows = {cause for row in table.splitlines()[2:] for cause in _CODE.findall(row.split(" | ")[0])}
        metrics = (TOP / "docs" / "metrics.md").read_text(encoding="utf-8")
        sentence = metrics.partition("`cause` of a worker that is not ready: ")[2].partition(".\n")[0]
        self.assertEqual(set(re.findall(r"`(\w+)`", sentence)), rows)

    def test_attributes_of_spans(self) -> None:
        """The page about tracing has each attribute that a span may have."""
        code = (TOP / "txworker" / "monitoring" / "tracing" / "spans.py").read_text(encoding="utf-8")
        attributes = set(re.findall(r'"((?:rpc|network|error|process|txworker)\.[\w.]+)"', code))
        page = (TOP / "docs" / "tracing.md").read_text(encoding="utf-8")
        self.assertEqual([], sorted(attributes - set(_CODE.findall(page))))
        self.assertGreater(len(attributes), 8)

    def test_files_of_the_store(self) -> None:
        """The page of files has each that the store makes beside its own."""
        modules = (TOP / "txworker" / "store").glob("*.py")
        made = {suffix for path in modules for suffix in _BESIDE_STORE.findall(path.read_text(encoding="utf-8"))}
        page = (TOP / "docs" / "files.md").read_text(encoding="utf-8")
        self.assertEqual([], sorted(suffix for suffix in made if not re.search(rf"`[^`]*\.{suffix}\b", page)))
        self.assertGreater(len(made), 6)

    def test_alerts(self) -> None:
        """Each alert has a row that says what to do."""
        table = operations().partition("| alert |")[2].partition("\n\n")[0]
        rows = [name for row in table.splitlines()[2:] for name in _CODE.findall(row.split(" | ")[0])]
        alerts = (TOP / "docs" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
        self.assertEqual(sorted(re.findall(r"- alert: (\w+)", alerts)), sorted(rows))

    def test_configurations(self) -> None:
        """What the operators' pages show of the configuration is good."""
        for page in ("operations.md", "limits.md", "tls.md", "containers.md"):
            for text in re.findall(r"^```toml\n(.*?)^```", (TOP / "docs" / page).read_text(), re.MULTILINE | re.DOTALL):
                Path("worker.toml").write_text(text)
                load(Path("worker.toml"))

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
                    self.assertTrue((TOP / "txworker" / row[1].replace(".", "/") / name).exists(), f"{row[1]}/{name}")
