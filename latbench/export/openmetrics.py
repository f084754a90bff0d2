"""Snapshots of past moments as one OpenMetrics text, each with its own timestamp.

`promtool tsdb create-blocks-from openmetrics` makes blocks of a Prometheus server from it. All points of a family stand
together and their times rise, as the format wants it.
"""

from collections.abc import Iterable, Sequence
from typing import TextIO

from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from latbench.export.prometheus import add_point, family_of
from latbench.metrics.series import SERIES, Point, Snapshot

END = "# EOF\n"


class _One(Collector):
    """A registry's view of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def write(moments: Sequence[tuple[float, Snapshot]], out: TextIO) -> None:
    """Write snapshots with their moments, seconds since 1970, which must rise."""
    for series in SERIES:
        points: dict[tuple[str, ...], list[tuple[float, Point]]] = {}
        for at_s, snapshot in moments:
            for labels, point in snapshot.points.get(series, {}).items():
                points.setdefault(labels, []).append((at_s, point))
        if not points:
            continue
        family = family_of(series)
        for labels, found in points.items():
            for at_s, point in found:
                add_point(family, labels, point, at_s)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_One(family))
        text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]  # the library leaves it untyped
        out.write(text.decode().removesuffix(END))
    out.write(END)
