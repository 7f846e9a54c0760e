"""docs/metrics.md and docs/prometheus name the metrics that there are, and promtool takes what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.web.test_metrics import JOB, whole
from txworker.web.instruments import Described

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


def expressions() -> Iterator[str]:
    """Every query of the dashboard, with its variables replaced as Grafana replaces them."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")


def promtool(*arguments: str, text: bytes = b"", place: Path = PROMETHEUS) -> str:
    """What promtool says; fails unless it is content."""
    if shutil.which("promtool") is None:
        raise SkipTest("promtool is not installed (Debian: apt-get install prometheus)")
    words = ["promtool", *arguments]
    ended = subprocess.run(words, input=text, capture_output=True, cwd=place, timeout=60, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


class TableTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The table has every metric with its type, labels and help, in the order of the code."""
        rows = _ROW.findall((DOCS / "metrics.md").read_text(encoding="utf-8"))
        found = [Described(name, kind, tuple(re.findall(r"\w+", labels)), help) for name, kind, labels, help in rows]
        self.assertEqual(described(), found)

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

    def test_expressions(self) -> None:
        """Every query is PromQL."""
        rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
        place = Path(self.mktemp())
        place.mkdir()
        groups = [{"name": "dashboard", "rules": rules}]
        (place / "rules.yml").write_text(json.dumps({"groups": groups}))  # JSON is YAML
        self.assertIn(f"{len(rules)} rules found", promtool("check", "rules", "rules.yml", place=place))


class PromtoolTests(SynchronousTestCase):
    def test_metrics(self) -> None:
        """promtool finds no fault with names, types and help."""
        metrics = whole()
        metrics.observer.refused("MAX_RUNNING")
        metrics.observer.call_answered("StartJob", "OK", 0.0, 0.0)
        self.assertEqual("", promtool("check", "metrics", text=generate_latest(metrics.registry)))

    def test_rules(self) -> None:
        """The alerts and the configuration are accepted, and alerts fire when they should."""
        self.assertIn("SUCCESS", promtool("check", "rules", "alerts.yml"))
        self.assertIn("SUCCESS", promtool("check", "config", "prometheus.yml"))
        self.assertIn("SUCCESS", promtool("test", "rules", "alerts-test.yml"))
