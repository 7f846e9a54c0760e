"""promtool takes the metrics, the alerts and the queries of the dashboard."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.monitoring.test_documents import PROMETHEUS, dashboard
from tests.monitoring.test_metrics import whole

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


def promtool(*arguments: str, text: bytes = b"", place: Path = PROMETHEUS) -> str:
    """What promtool says; fails unless it is content."""
    words = ["promtool", *arguments]
    ended = subprocess.run(words, input=text, capture_output=True, cwd=place, timeout=240, check=False)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    return said


def test_metrics() -> None:
    """It finds no fault with names, types and help of every metric that there may be."""
    metrics = whole()
    metrics.observer.refused("MAX_RUNNING")
    metrics.observer.call_answered("StartJob", "OK", 0.0, 0.0)
    assert promtool("check", "metrics", text=generate_latest(metrics.registry)) == ""


def test_rules() -> None:
    """The alerts and the configuration are accepted."""
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@pytest.mark.slow
def test_alerts() -> None:
    """Alerts fire when they should."""
    assert "SUCCESS" in promtool("test", "rules", "alerts-test.yml")


def test_dashboard(tmp_path: Path) -> None:
    """Every query of the dashboard is PromQL, once its variables are replaced as Grafana replaces them."""
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    queries = [query.replace("$__rate_interval", "1m").replace("$instance", ".*") for query in queries]
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # as YAML
    assert f"{len(rules)} rules found" in promtool("check", "rules", "rules.yml", place=tmp_path)
