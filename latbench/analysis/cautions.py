"""Where the intervals of an endpoint stand on thin ground: warnings that travel with the figures, each with advice."""

import math
from collections.abc import Mapping
from typing import Any

from latbench.analysis.stats import PERCENTILES
from latbench.metrics.catalogue import METRICS

MAX_TAU = 10.0
LEAST_BEYOND = 10.0


def cautions(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the percentiles that reports show and that are defined: what is to be said of their intervals.

    Each has `code`, `value` (the worst), `limit`, `where` (percentiles by metric) and `advice`. An interval covers a
    little too little where tau is above `MAX_TAU`, or where fewer than `LEAST_BEYOND` independent values lie beyond.
    """
    dependent: dict[str, dict[str, float]] = {}
    few: dict[str, dict[str, float]] = {}
    constant: dict[str, dict[str, float]] = {}
    for metric in METRICS:
        table = metrics[metric.json_name]
        for name in metric.shown:
            ends, n_eff = table["ci95"][name], table["n_eff"][name]
            if ends is None:
                continue
            if table["min"] == table["max"]:
                constant.setdefault(metric.name, {})[name] = table["min"]
                continue
            if table["n"] / n_eff > MAX_TAU:
                dependent.setdefault(metric.name, {})[name] = table["n"] / n_eff
            beyond = n_eff * _tail(name)
            if beyond < LEAST_BEYOND:
                few.setdefault(metric.name, {})[name] = beyond
    return [
        *_one(
            "dependent",
            dependent,
            MAX_TAU,
            "so many requests tell as much as one, as where they wait in one queue: intervals may be too narrow;"
            " measure for longer, or with less load",
        ),
        *_one("few_beyond", few, LEAST_BEYOND, _more(few)),
        *_one("constant", constant, None, "every value is the same: the interval is that value, and says nothing"),
    ]


def _tail(name: str) -> float:
    """The share of values beyond a percentile, on its far side."""
    return min(PERCENTILES[name], 1000 - PERCENTILES[name]) / 1000


def _more(few: Mapping[str, Mapping[str, float]]) -> str:
    least = max((LEAST_BEYOND / _tail(name) for found in few.values() for name in found), default=0)
    return (
        "so few independent values lie beyond: intervals are wide, and may still be too narrow;"
        f" {math.ceil(least):,} independent requests would do"
    )


def _one(code: str, found: Mapping[str, Mapping[str, float]], limit: float | None, advice: str) -> list[dict[str, Any]]:
    """The warning of one kind, if there is one."""
    if not found:
        return []
    every = [value for values in found.values() for value in values.values()]
    worst = min(every) if code == "few_beyond" else max(every)
    where = {name: list(values) for name, values in found.items()}
    return [{"code": code, "value": worst, "limit": limit, "where": where, "advice": advice}]
