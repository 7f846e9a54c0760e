"""docs/metrics.md and docs/prometheus name the metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.monitoring.test_metrics import JOB, sources, whole
from txworker.monitoring.instruments import Described
from txworker.monitoring.metrics import Metrics
from txworker.worker.readiness import CAUSES, STOPPING

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PROMETHEUS = DOCS / "prometheus"

_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$", re.MULTILINE)
_METRIC = re.compile(r"\b(?:txworker|process)_\w+")
_SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def described() -> list[Described]:
    """What the code says of each metric."""
    return whole().instruments.described


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads((PROMETHEUS / "dashboard.json").read_text(encoding="utf-8"))
    return found


class TableTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The table has every metric with its type, labels and help, in the order of the code."""
        rows = _ROW.findall((DOCS / "metrics.md").read_text(encoding="utf-8"))
        found = [Described(name, kind, tuple(re.findall(r"\w+", labels)), help) for name, kind, labels, help in rows]
        self.assertEqual(described(), found)

    def test_not_everywhere(self) -> None:
        """The sentence about metrics that some workers do not have names exactly those."""
        bare = Metrics()
        bare.read(sources(shim=None, registered=None, certificate_expiry=None))
        lacking = {metric.name for metric in described()} - {metric.name for metric in bare.instruments.described}
        page = (DOCS / "metrics.md").read_text(encoding="utf-8")
        named = [set(_METRIC.findall(line)) for line in page.splitlines() if "are there only if" in line]
        self.assertEqual([lacking], named)

    def test_described_as_exposed(self) -> None:
        """What the table says is what a scrape gets: the same names and types, no other label, and nothing more."""
        metrics = whole()
        metrics.observer.refused("MAX_RUNNING")
        metrics.observer.ended(JOB, 0)
        metrics.observer.call_answered("StartJob", "OK", 0.0, 0.0)
        metrics.observer.stream_opened("WatchJobs")
        families = [family for family in metrics.registry.collect() if family.name.startswith("txworker_")]
        exposed = {
            Described(
                family.name + ("_total" if family.type == "counter" else ""),
                family.type,
                tuple(name for name in family.samples[0].labels if name != "le"),
                family.documentation,
            )
            for family in families
        }
        self.assertEqual(set(described()), exposed)

    def test_names_that_are_used(self) -> None:
        """Every metric that an alert, its test, the dashboard or the page names is there."""
        known = {metric.name for metric in described()}
        known |= {family.name for family in whole().registry.collect()} | {"process_cpu_seconds_total"}
        texts = [path.read_text(encoding="utf-8") for path in sorted(PROMETHEUS.iterdir())]
        texts += re.findall(r"`(.*?)`", (DOCS / "metrics.md").read_text(encoding="utf-8"))
        used = {name for text in texts for name in _METRIC.findall(text)} - {"process_"}
        self.assertEqual(set(), {name for name in used if name not in known and _SUFFIXES.sub("", name) not in known})
        self.assertGreater(len(used), 30)


class AlertTests(SynchronousTestCase):
    def test_causes(self) -> None:
        """There is an alert for each cause for which a worker takes no jobs, except that it is stopping."""
        alerts = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
        selected = re.findall(r'txworker_not_ready\{cause=~?"([\w|]+)"\}', alerts)
        self.assertEqual(set(CAUSES) - {STOPPING}, {cause for causes in selected for cause in causes.split("|")})


class DashboardTests(SynchronousTestCase):
    def test_panels(self) -> None:
        """Panels have ids of their own, and none covers another one."""
        panels = dashboard()["panels"]
        self.assertEqual(len(panels), len({panel["id"] for panel in panels}))
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            columns = range(place["x"], place["x"] + place["w"])
            cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
            self.assertEqual(set(), cells & taken, panel["title"])
            taken |= cells
        self.assertEqual(24, 1 + max(x for x, _ in taken))
