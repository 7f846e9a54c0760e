"""Who may import whom: down the levels, never up, never sideways (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).resolve().parent.parent

LEVELS = {
    "printable": -1,
    "descriptors": 1,
    "jobs": 0,
    "waiting": 0,
    "directory": 0,
    "logs": 0,
    "ratelimit": 0,
    "config": 1,
    "output": 1,
    "linux": 0,
    "shim": 1,
    "leftovers": 1,
    "process": 1,
    "store": 1,
    "pb": 1,
    "wire": 1,
    "ports": 2,
    "catalog": 2,
    "active": 2,
    "launching": 2,
    "worker": 2,
    "changes": 1,
    "viewers": 1,
    "cores": 0,
    "memory": 0,
    "recovery": 1,
    "retention": 2,
    "rpc": 3,
    "scheduler": 3,
    "service": 4,
    "assembly": 4,
    "processes": 4,
    "clockwatch": 4,
    "restart": 4,
    "drain": 4,
    "handover": 4,
    "lifetime": 4,
}

SAME_LEVEL = {
    ("wire", "pb"),
    ("ratelimit", "logs"),
    ("process", "shim"),
    ("process", "leftovers"),
    ("worker", "ports"),
    ("retention", "ports"),
    ("active", "ports"),
    ("worker", "active"),
    ("worker", "catalog"),
    ("worker", "launching"),
    ("launching", "active"),
    ("launching", "ports"),
    ("catalog", "ports"),
    ("catalog", "active"),
}
"""wire is the one room whose business is pb; level 2 sees the world through ports."""

TOP_LEVEL = 4
"""One piece: its rooms import each other freely."""

FOR_THE_WORKER = {"changes", "recovery", "viewers"}
"""Waiting and words, which need no port; everything else of level 1 is handed to level 2."""

FOR_DOORS = {"txworker.output.tail", "txworker.wire", "txworker.pb"}
"""All that level 3 takes of level 1."""

THIRD_PARTIES = {
    "grpc": {"rpc", "scheduler", "wire", "cli", "pb"},
    "grpc_health": {"rpc", "scheduler"},
    "grpc_reflection": {"rpc"},
    "grpc_status": {"wire", "cli"},
    "sqlite3": {"store"},
    "tomli": {"config"},
    "subprocess": set(),
}
"""Where alone these may be imported."""

WITHOUT_TWISTED = (
    "txworker.jobs",
    "txworker.wire",
    "txworker.output.tail",
    "txworker.config",
    "txworker.cli",
    "txworker.printable",
    "txworker.linux",
    "txworker.shim",
)


def imports(source: str) -> set[str]:
    """The full names of the modules that a source imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module != "txworker" else {f"txworker.{alias.name}" for alias in node.names}
            if node.module.count(".") == 1 and node.module.startswith("txworker."):
                found |= {f"{node.module}.{alias.name}" for alias in node.names if alias.name.islower()}
    return found


def mistakes(module: str, source: str) -> list[str]:
    """What a module imports and should not."""
    room = module.split(".")[1]
    wrong = [name for name in imports(source) if not _allowed(module, room, name)]
    return [f"{module} imports {name}" for name in sorted(wrong)]


def _allowed(module: str, room: str, name: str) -> bool:
    first = name.split(".")[0]
    if first != "txworker":
        twisted_here = not any(module == one or module.startswith(f"{one}.") for one in WITHOUT_TWISTED)
        return room in THIRD_PARTIES.get(first, {room}) and (first != "twisted" or twisted_here)
    other = name.split(".")[1]
    if other == room or (room, other) in SAME_LEVEL or LEVELS.get(room) == LEVELS.get(other) == TOP_LEVEL:
        return True
    if room == "cli":
        return other in ("pb", "printable")
    if LEVELS[room] == 2 and LEVELS[other] == 1:
        return other in FOR_THE_WORKER
    if LEVELS[room] == 3 and LEVELS[other] == 1:
        return any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in FOR_DOORS)
    return LEVELS[other] < LEVELS[room]


class RoomsTests(SynchronousTestCase):
    def test_every_import(self) -> None:
        """No room reaches up, sideways, or past its neighbour."""
        found: list[str] = []
        for path in sorted((TOP / "txworker").rglob("*.py")):
            parts = path.relative_to(TOP).with_suffix("").parts
            if (len(parts) > 2 and parts[1] == "pb") or parts[-1] in ("__main__",) or parts == ("txworker", "__init__"):
                continue
            name = ".".join(part for part in parts if part != "__init__")
            found += mistakes(name, path.read_text(encoding="utf-8"))
        self.assertEqual([], found)

    def test_one_logger(self) -> None:
        """Every room's lines are those of txworker.logs, whose fields are printable."""
        log = ("txworker/logs.py", "txworker/service.py")
        names = (
            "from twisted.logger import Logger",
            "twisted.python import log",
            "twisted.python.log",
            "import logging",
        )
        found = [
            str(path.relative_to(TOP))
            for path in (TOP / "txworker").rglob("*.py")
            if any(name in path.read_text(encoding="utf-8") for name in names)
        ]
        self.assertEqual(sorted(log), sorted(found))

    def test_it_would_be_seen(self) -> None:
        """Each rule has an import that breaks it."""
        table = [
            ("txworker.jobs.job", "import twisted.internet.defer"),
            ("txworker.jobs.job", "from txworker.output.tail import Tail"),
            ("txworker.process.run", "from txworker.output.recorder import Recorder"),
            ("txworker.process.run", "from txworker import output"),
            ("txworker.output.tail", "from twisted.internet import defer"),
            ("txworker.worker", "from txworker.store.memory import MemoryStore"),
            ("txworker.worker", "import grpc"),
            ("txworker.rpc.streams", "from txworker.output.recorder import Recorder"),
            ("txworker.rpc.streams", "from txworker.store.memory import MemoryStore"),
            ("txworker.rpc.server", "from txworker.scheduler import Link"),
            ("txworker.process.child", "import sqlite3"),
            ("txworker.config", "from txworker.jobs import Job; import grpc"),
            ("txworker.cli.main", "from txworker.wire.jobs import job_to_pb"),
            ("txworker.worker", "from txworker.service import makeService"),
        ]
        for module, source in table:
            self.assertEqual(1, len(mistakes(module, source)), (module, source, mistakes(module, source)))
