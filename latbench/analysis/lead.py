"""The figures that lead an endpoint's block: those that the scenario names in `lead`, in its order."""

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.metrics.catalogue import BY_NAME, FIGURES, Metric

_SHOWN = ("p50", "p95")
_SHOWN_OF_RATES = ("p50", "p5")  # the slow tail of a rate is at the bottom
_FIGURES = {figure.name: figure for figure in FIGURES}


def lead(
    names: Sequence[str],
    slo: Mapping[str, float],
    metrics: Mapping[str, Any] | None,
    figures: Mapping[str, float | None],
) -> list[dict[str, Any]]:
    """One entry for each name. Over several steps there are no `metrics`, and fewer `figures`: those are left out."""
    found = []
    for name in names:
        metric = BY_NAME.get(name)
        if metric is None and name in figures:
            figure = _FIGURES[name]
            found.append(
                {"name": name, "label": figure.label, "unit": figure.unit, "value": figures[name], "limit": None}
            )
        elif metric is not None and metrics is not None:
            found.append(_of_metric(metric, metrics[metric.json_name], slo.get(name)))
    return found


def _of_metric(metric: Metric, table: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
    shown = _SHOWN_OF_RATES if metric.higher_is_better else _SHOWN
    return {
        "name": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        "n": table["n"],
        "percentiles": {name: table[name] for name in shown},
        "ci95": {name: table["ci95"][name] for name in shown},
        "need": {name: table["need"][name] for name in shown if name in table["need"]},
        "limit": limit,
    }
