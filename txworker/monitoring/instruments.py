"""Makes metrics in a registry, and keeps a description of each for docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Described(NamedTuple):
    """A metric: its full name as it is exposed, its type, the names of its labels, and its help."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


Readings = Mapping[str, float]
"""A value for each value of the metric's one label."""


class Instruments:
    """The registry's metrics. A read_…() metric calls its function at each scrape, in a thread of MetricsThreads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.described: list[Described] = []

    def counter(self, name: str, help: str, *labels: str) -> Counter:
        """A counter; its name ends with _total."""
        self._describe(name, "counter", help, labels)
        return Counter(name, help, labels, registry=self._registry)

    def gauge(self, name: str, help: str, *labels: str) -> Gauge:
        """A value that can go up and down."""
        self._describe(name, "gauge", help, labels)
        return Gauge(name, help, labels, registry=self._registry)

    def histogram(self, name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
        """Counts observations in buckets, of which `buckets` are the upper bounds."""
        self._describe(name, "histogram", help, labels)
        return Histogram(name, help, labels, buckets=buckets, registry=self._registry)

    def read_counter(self, name: str, help: str, read: Callable[[], float]) -> None:
        """A counter with the value that read() returns, which must never decrease."""
        self._describe(name, "counter", help, ())

        def collect() -> Metric:
            return CounterMetricFamily(name.removesuffix("_total"), help, value=read())

        self._registry.register(_Read(CounterMetricFamily(name.removesuffix("_total"), help), collect))

    def read_gauge(self, name: str, help: str, read: Callable[[], float | None]) -> None:
        """A gauge with the value that read() returns; None: there is none at present."""
        self._describe(name, "gauge", help, ())

        def collect() -> Metric:
            return GaugeMetricFamily(name, help, value=read())

        self._registry.register(_Read(GaugeMetricFamily(name, help), collect))

    def read_gauges(self, name: str, help: str, label: str, read: Callable[[], Readings]) -> None:
        """A gauge with one label; read() returns a value for each value of the label."""
        self._describe(name, "gauge", help, (label,))

        def collect() -> Metric:
            family = GaugeMetricFamily(name, help, labels=(label,))
            for value_of_label, value in read().items():
                family.add_metric((value_of_label,), value)
            return family

        self._registry.register(_Read(GaugeMetricFamily(name, help, labels=(label,)), collect))

    def constant(self, name: str, help: str, labels: Mapping[str, str]) -> None:
        """A gauge that is always 1 and carries its information in the labels."""
        self.gauge(name, help, *labels).labels(**labels).set(1)

    def _describe(self, name: str, kind: str, help: str, labels: Sequence[str]) -> None:
        self.described.append(Described(name, kind, tuple(labels), help))


class _Read(Collector):
    """described: the metric without values, by which a scrape of some names (`name[]`) finds it."""

    def __init__(self, described: Metric, collect: Callable[[], Metric]) -> None:
        self._described = described
        self._collect = collect

    def describe(self) -> Iterator[Metric]:
        """prometheus-client: the metric, without being read."""
        yield self._described

    def collect(self) -> Iterator[Metric]:
        """prometheus-client: the metric as it is now."""
        yield self._collect()
