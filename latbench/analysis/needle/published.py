"""What dashboards see of needle trials: their series, from the block of a summary. Known when a run is over.

Labels are bins: the part of the code as `40-60` (per cent) or `all`, the length that was asked for. Never seeds, names
or exact depths.
"""

from collections.abc import Mapping
from typing import Any

from latbench.metrics import series
from latbench.metrics.series import Snapshot

ALL = "all"
TTFT = ("mean", "p50", "p95")
RULES = ("point", "certified", "worst_stratum", "relative")


def publish(snapshot: Snapshot, scope: tuple[str, ...], found: Mapping[str, Any]) -> None:
    """Put an endpoint's needle block into a snapshot. `scope` has the values of `series.SCOPE`."""
    for one in found["lengths"]:
        of_length = (*scope, one["kind"], str(one["length"]))
        for cell in one["depths"]:
            where = (*of_length, f"{cell['from'] * 100:.0f}-{cell['to'] * 100:.0f}")
            _figures(snapshot, where, cell)
            for outcome, count in cell["outcomes"].items():
                snapshot.set(series.NEEDLE_TRIALS, (*where, outcome), count)
        _figures(snapshot, (*of_length, ALL), one)
    for context in found["effective_context"]:
        for rule in RULES:
            if (walk := context[rule]) is not None:
                snapshot.set(series.NEEDLE_CONTEXT, (*scope, context["kind"], rule), walk["tokens"] or 0)


def _figures(snapshot: Snapshot, where: tuple[str, ...], found: Mapping[str, Any]) -> None:
    if found["accuracy"] is not None:
        snapshot.set(series.NEEDLE_ACCURACY, where, found["accuracy"])
        snapshot.set(series.NEEDLE_LOWER, where, found["lower"])
        snapshot.set(series.NEEDLE_UPPER, where, found["upper"])
    for which in TTFT:
        ttft_ms = found["ttft_ms"][which]
        snapshot.set(series.NEEDLE_TTFT, (*where, which), None if ttft_ms is None else ttft_ms / 1000)
