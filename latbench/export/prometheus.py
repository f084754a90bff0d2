"""A snapshot as Prometheus scrapes it: merged counts become cumulative buckets; nothing is observed here.

`prometheus_client` takes a fifth of a second to import: this room is imported when somebody wants an exporter. Native
histograms cannot be scraped with these versions; `remote_write.py` sends them.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from latbench.metrics.distribution import Distribution
from latbench.metrics.series import Point, Series, Snapshot

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

INFINITY = "+Inf"


class SnapshotCollector(Collector):
    """Families of the snapshot that `take` gives, one at each scrape. Timestamps are the scraper's."""

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def collect(self) -> Iterator[Metric]:
        """In the order in which the series were put into the snapshot."""
        for series, points in self._take().points.items():
            family = family_of(series)
            for labels, point in points.items():
                add_point(family, labels, point)
            yield family


def family_of(series: Series) -> Family:
    """An empty family. Label values are escaped by the library; they are never an endpoint's words."""
    if series.kind == "histogram":
        return HistogramMetricFamily(series.name, series.help, labels=series.labels)
    if series.kind == "counter":
        return CounterMetricFamily(series.name, series.help, labels=series.labels)
    return GaugeMetricFamily(series.name, series.help, labels=series.labels)


def add_point(family: Family, labels: tuple[str, ...], point: Point, at_s: float | None = None) -> None:
    """Add a point, with a timestamp of its own if it has one."""
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(point, Distribution)
        family.add_metric(labels, list(buckets(point)), point.total, timestamp=at_s)
    else:
        assert not isinstance(point, Distribution)
        family.add_metric(labels, point, timestamp=at_s)


def buckets(distribution: Distribution) -> Iterator[tuple[str, float]]:
    """Cumulative counts by the text of their bound, the last one without a bound."""
    for bound, count in distribution.cumulative():
        yield str(bound), float(count)  # as the library writes them: `1.0`
    yield INFINITY, float(distribution.n)


def registry_of(take: Callable[[], Snapshot]) -> CollectorRegistry:
    """A registry that holds the snapshot and nothing of this process."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(take))
    return registry
