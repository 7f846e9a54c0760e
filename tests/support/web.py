"""Asks a worker's HTTP server."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import LIMIT, Daemon

WEB = '[web]\naddr = "127.0.0.1:0"\n'
"""A section of a worker.toml."""


class Answer(NamedTuple):
    """Status and body."""

    status: int
    text: str


def web_addr(worker: Daemon) -> str:
    """host:port, as the log has it."""
    found = re.search(r"Metrics and health are on http://(\S+)/\.", worker.log())
    assert found, worker.log()
    return found[1]


def ask(worker: Daemon, path: str) -> Answer:
    """The answer to a GET."""
    try:
        with urllib.request.urlopen(f"http://{web_addr(worker)}{path}", timeout=LIMIT) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())


def metrics(worker: Daemon) -> dict[str, float]:
    """Every sample of a scrape; the names have their labels, as name{label="value"}, in order."""
    found = {}
    for family in text_string_to_metric_families(ask(worker, "/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{sample.labels[name]}"' for name in sorted(sample.labels))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found
