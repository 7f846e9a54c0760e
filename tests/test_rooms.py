"""Which room may import which: down the levels, never up, never sideways (docs/architecture.md)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TOP = Path(__file__).resolve().parent.parent

ROOMS: dict[str, set[str]] = {
    "base": set(),
    "linux": set(),
    "jobs": {"base.printable"},
    "pb": set(),
    "ports": {"jobs", "base"},
    "shim": {"linux"},
    "config": {"jobs", "base"},
    "output": {"jobs", "base", "ports", "linux.pipes"},
    "store": {"jobs", "base", "ports", "linux.clock", "linux.procfs"},
    "leftovers": {"jobs", "base", "ports", "linux"},
    "process": {"jobs", "base", "ports", "linux", "leftovers", "shim.messages", "shim.feeding"},
    "worker": {"jobs", "base", "ports"},
    "rpc.wire": {"jobs", "pb"},
    "rpc.scheduler": {"base", "pb"},
    "rpc": {"jobs", "base", "ports", "rpc.wire", "pb", "output.tail", "worker"},
    "monitoring.tracing": {"jobs", "base", "ports"},
    "monitoring": {"jobs", "base", "ports"},
    "client": {"base.addresses", "base.printable", "pb"},
    "page": {"base", "client"},
    "daemon": {
        *("jobs", "base", "ports", "linux", "config", "output", "store", "leftovers", "process", "worker"),
        *("rpc", "rpc.scheduler", "monitoring", "monitoring.tracing", "page"),
    },
    "cli": {
        "base.addresses",
        "base.memory_path",
        "base.printable",
        "base.quantities",
        "base.standard_streams",
        "pb",
        "client",
        "page",
    },
}
"""From the lowest to the highest: each room, and all that it may import of the others: rooms, or modules of them.

A room inside another, such as rpc.wire, has a row of its own; what may import the outer one may not import it."""

INSIDE: dict[str, tuple[set[str], ...]] = {
    "leftovers": (
        {"tags", "survivors", "kill", "usage"},
        {"attribution", "recorded_jobs"},
        {"tag_cache", "clone_parent", "job_processes", "recovery"},
        {"descendants", "cleanup", "process_table_scan"},
        {"late_scan"},
        {"scan"},
    ),
    "process": (
        {"arguments", "bootstrap", "environ", "exec_diagnosis", "identity", "job_leftovers", "limits", "pipes"}
        | {"job_stdin", "shim_socket", "spawn_options", "timers", "watched_channel"},
        {"spawn_queue", "shim_waiting"},
        {"shim_connection", "shim_handshake"},
        {"launch_errors", "reactor_spawner", "reconnecting_shim", "time_limits", "transport"},
        {"state_machine"},
        {"job_process", "shim_spawner"},
        {"launcher"},
    ),
    "shim": (
        {"messages", "cgroup_moves", "children_limit", "events", "failures", "feeding", "fork_exec"},
        {"ends", "requests", "spawner", "terminal", "worker_connection"},
        {"reachability", "spawn_thread"},
        {"held_job", "reaping"},
        {"copying", "exits"},
        {"intermediate"},
        {"unattended"},
        {"loop"},
        {"main"},
    ),
}
"""The layers of the bigger rooms, from the lowest: a module imports lower ones only."""

THIRD_PARTIES: dict[str, set[str]] = {
    "twisted": {
        "base",
        "ports",
        "output",
        "store",
        "leftovers",
        "process",
        "worker",
        "rpc",
        "rpc.scheduler",
        "monitoring",
        "monitoring.tracing",
        "daemon",
        "client",
        "page",
    },
    "zope": {"base", "output", "process", "worker", "daemon", "page"},
    "grpc": {"rpc", "rpc.scheduler", "rpc.wire", "client", "cli", "pb"},
    "grpc_health": {"rpc", "rpc.scheduler", "cli"},
    "grpc_reflection": {"rpc"},
    "grpc_status": {"rpc.wire", "client", "cli"},
    "google": {"pb", "rpc.wire", "rpc", "rpc.scheduler", "client", "cli"},
    "prometheus_client": {"monitoring"},
    "opentelemetry": {"monitoring.tracing"},
    "sqlite3": {"store"},
    "tomli": {"config", "cli"},
    "rich": {"cli"},
    "subprocess": set(),
}
"""Where alone these may be imported."""

STANDARD_LIBRARY_ONLY = {"linux", "jobs", "shim"}
"""Rooms that import no third party at all."""

WITHOUT_TWISTED = {
    "txworker.output.tail",
    "txworker.base.printable",
    "txworker.base.quantities",
    "txworker.base.directory",
}
"""Modules without Twisted, in rooms that have it."""

Mistake = str


def modules() -> dict[str, Path]:
    """Every module of the package but generated ones, by its full name; a package is its __init__."""
    found = {}
    for path in sorted((TOP / "txworker").rglob("*.py")):
        parts = path.relative_to(TOP).with_suffix("").parts
        if len(parts) > 2 and parts[1] == "pb":
            continue
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


KNOWN = set(modules())


def imports(source: str) -> Iterator[str]:
    """The full names of the modules that a source imports, wherever in it; a relative import is "."."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func).rpartition(".")[2]:
            first = node.args[0] if node.args else None  # import_module(), __import__()
            yield str(first.value) if isinstance(first, ast.Constant) else "."


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    if node.level or not node.module:
        yield "."
        return
    for alias in node.names:
        deeper = f"{node.module}.{alias.name}"
        yield deeper if deeper in KNOWN or node.module == "txworker" else node.module


def importers(name: str) -> set[str]:
    """The modules that import something of that name from another."""
    return {
        module
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names)
    }


def mistakes(module: str, source: str) -> list[Mistake]:
    """What a module imports and should not."""
    return [f"{module} imports {name}" for name in sorted(set(imports(source))) if not _allowed(module, name)]


def room_of(module: str) -> str:
    """The innermost room that a module is in, for one below txworker."""
    parts = module.split(".")[1:]
    inner = ".".join(parts[:2])
    return inner if inner in ROOMS else parts[0]


def _allowed(module: str, name: str) -> bool:
    room = room_of(module)
    first, _, rest = name.partition(".")
    if first != "txworker":
        if first == "twisted" and module in WITHOUT_TWISTED:
            return False
        if room in STANDARD_LIBRARY_ONLY:
            return first in sys.stdlib_module_names and first not in THIRD_PARTIES
        return bool(first) and room in THIRD_PARTIES.get(first, {room})
    if rest and room_of(name) == room:
        return _allowed_inside(room, module, name)
    return any(f"{rest}.".startswith(f"{one}.") and room_of(name) == room_of(f"txworker.{one}") for one in ROOMS[room])


def _allowed_inside(room: str, module: str, name: str) -> bool:
    """Within a room: downwards only, where its layers are told; a package inside is one layer."""
    levels = {one: number for number, layer in enumerate(INSIDE.get(room, ())) for one in layer}
    here, there = module.split(".")[2:], name.split(".")[2:]
    if not levels or not here or not there:
        return True
    return there[0] == here[0] or levels[there[0]] < levels[here[0]]


class RoomsTests(SynchronousTestCase):
    def test_every_import(self) -> None:
        """No room reaches up, sideways, or past what it is allowed of another."""
        found: list[Mistake] = []
        for name, path in modules().items():
            if name not in ("txworker", "txworker.__main__"):  # __main__ is the command's
                found += mistakes(name, path.read_text(encoding="utf-8"))
        self.assertEqual([], found)

    def test_levels(self) -> None:
        """Every room imports rooms below it only, so there is no cycle."""
        order = list(ROOMS)
        for room, below in ROOMS.items():
            for other in below:
                self.assertLess(order.index(room_of(f"txworker.{other}")), order.index(room), (room, other))

    def test_every_module_has_its_place(self) -> None:
        """Nothing lies loose at the top, every room is known, and every module of a layered room has a layer."""
        loose = [name for name, path in modules().items() if name.count(".") == 1 and path.name != "__init__.py"]
        self.assertEqual(["txworker.__main__"], loose)
        self.assertEqual(set(ROOMS), {room_of(name) for name in KNOWN if "." in name} - {"__main__"} | {"pb"})
        for room, layers in INSIDE.items():
            found = {name.split(".")[2] for name in KNOWN if name.startswith(f"txworker.{room}.")}
            self.assertEqual(set.union(*layers), found)

    def test_jobs_are_changed_in_one_place(self) -> None:
        """Only worker/job_records.py applies facts to jobs; only the worker and its takeover tell it facts."""
        self.assertEqual({"txworker.jobs", "txworker.worker.job_records"}, importers("after"))
        self.assertEqual({"txworker.worker.worker", "txworker.worker.inherited_jobs"}, importers("JobRecords"))

    def test_one_logger(self) -> None:
        """Every room's lines are those of base/logs.py, whose fields are printable; log_file.py has the file only.

        exporting.py takes what OpenTelemetry logs, and client/ belongs to other programs.
        """
        log = (
            "txworker/base/log_file.py",
            "txworker/base/logs.py",
            "txworker/client/telling.py",
            "txworker/monitoring/tracing/exporting.py",
        )
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
            ("txworker.process.state_machine", "from txworker.output.recorder import Recorder"),
            ("txworker.process.state_machine", "from txworker import output"),
            ("txworker.process.state_machine", "from txworker.shim.loop import Loop"),
            ("txworker.output.tail", "from twisted.internet import defer"),
            ("txworker.worker.worker", "from txworker.store.jobs import JobStore"),
            ("txworker.worker.worker", "import grpc"),
            ("txworker.rpc.streams", "from txworker.output.recorder import Recorder"),
            ("txworker.rpc.streams", "from txworker.output import recorder"),
            ("txworker.rpc.streams", "from txworker import output"),
            ("txworker.rpc.streams", "import txworker.output"),
            ("txworker.rpc.streams", "import importlib; importlib.import_module('txworker.output.recorder')"),
            ("txworker.rpc.streams", "from ..output import recorder"),
            ("txworker.rpc.server", "from txworker.rpc.scheduler import Link"),
            ("txworker.rpc.wire.jobs", "from txworker.rpc.servicer import Servicer"),
            ("txworker.rpc.wire.jobs", "from twisted.internet import defer"),
            ("txworker.daemon.assembly", "from txworker.rpc.wire.jobs import job_to_pb"),
            ("txworker.monitoring.metrics", "from txworker.monitoring.tracing import Spans"),
            ("txworker.monitoring.metrics", "import opentelemetry"),
            ("txworker.process.child", "import sqlite3"),
            ("txworker.worker.worker", "import prometheus_client"),
            ("txworker.monitoring.reading", "from txworker.worker.worker import Worker"),
            ("txworker.config.load", "from txworker.jobs import Job; import grpc"),
            ("txworker.cli.main", "from txworker.rpc.wire.jobs import job_to_pb"),
            ("txworker.worker.worker", "from txworker.daemon.service import makeService"),
            ("txworker.page.routes", "from txworker.worker.catalog import Catalog"),
            ("txworker.page.routes", "import grpc"),
            ("txworker.shim.events", "from txworker.shim.loop import Loop"),
            ("txworker.shim.events", "import attrs"),
            ("txworker.process.timers", "from txworker.process.launcher import Launcher"),
        ]
        for module, source in table:
            self.assertEqual(1, len(mistakes(module, source)), (module, source, mistakes(module, source)))
