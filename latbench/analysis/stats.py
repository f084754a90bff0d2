"""Order statistics: a percentile is an observed value, and it is null where there are too few values for it.

The percentile k (per mille) of n values is the one of rank ceil(n*k/1000), computed in integers: `99.9 / 100` is not
0.999 as a float, and one rank in a heavy tail moved p99.9 by 3 %. Below the smallest n of the two-sided 95 % limit, a
sample says nothing about how large (for low percentiles, how small) the true percentile may be; then the figure is
null and `need` holds [smallest n, what the values count for]. They count for their effective number
(`analysis/intervals.py`). Undefined values are NaN and are not counted.

Shares have Wilson's interval: it stays within 0 and 1, and is right at both ends.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from latbench.analysis.intervals import interval_of, rank, smallest_n
from latbench.metrics.catalogue import NS_PER_MS
from latbench.metrics.histogram import Histogram

PERCENTILES: dict[str, int] = {
    "p1": 10,
    "p5": 50,
    "p10": 100,
    "p50": 500,
    "p90": 900,
    "p95": 950,
    "p99": 990,
    "p999": 999,
}
"""Names and per mille of what every metric has in `summary.json`."""

_Z975 = 1.959963984540054
_RAW = ("p50", "p95", "p99")
_RAW_OF_RATES = ("p1", "p5", *_RAW)


NEED: dict[str, int] = {name: smallest_n(k) for name, k in PERCENTILES.items()}


def percentile(ordered: np.ndarray, k_per_mille: int) -> float | None:
    """The percentile of ascending values, whatever their number; None if there are none."""
    return float(ordered[rank(len(ordered), k_per_mille) - 1]) if len(ordered) else None


def wilson(count: int, of: int) -> tuple[float, float] | None:
    """The 95 % interval of the share `count` of `of`; None of nothing."""
    if not of:
        return None
    share, spread = count / of, _Z975**2 / of
    centre = (share + spread / 2) / (1 + spread)
    half = _Z975 * math.sqrt((share * (1 - share) + spread / 4) / of) / (1 + spread)
    # The formula is exact at 0 and 1, its floats are not.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def t975(freedom: int) -> float:
    """Student's t for a two-sided 95 % interval: Fisher's expansion, within 0.1 % from 7 degrees of freedom on."""
    z = _Z975
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(z + sum(term / freedom ** (at + 1) for at, term in enumerate(terms)))


def describe(values_in_due_order: np.ndarray, *, higher_is_better: bool = False) -> dict[str, Any]:
    """A metric as `summary.json` holds it, in the unit of the values. NaN and infinity are not counted.

    `ci95` holds the 95 % interval of each percentile, `n_eff` how many independent values the n count for there. `raw`
    has p1 and p5 too where higher is better, since the slow tail is there.
    """
    values = values_in_due_order[np.isfinite(values_in_due_order)]
    ordered = np.sort(values)
    n = len(ordered)
    found = {name: interval_of(values, ordered, k) for name, k in PERCENTILES.items()} if n else {}
    return _table(
        n,
        float(ordered.mean()) if n else None,
        float(ordered[0]) if n else None,
        float(ordered[-1]) if n else None,
        lambda k: percentile(ordered, k),
        _RAW_OF_RATES if higher_is_better else _RAW,
        n_eff={name: one.n_eff for name, one in found.items()},
        ci95={name: None if None in one.ends else [*one.ends[1:]] for name, one in found.items()},
    )


def describe_histogram(histogram: Histogram) -> dict[str, Any]:
    """The same of a histogram, in ms. Percentiles, and so `raw`, are within 0.1 %; n, mean, min and max are exact.

    There is no interval: what is pooled over requests is not independent within one of them, a histogram has forgotten
    which belonged together, and an interval as if it had not would be too narrow by an unknown factor.
    """
    return _table(
        histogram.n,
        _ms(histogram.mean_ns),
        _ms(histogram.min_ns),
        _ms(histogram.max_ns),
        lambda k: _ms(histogram.percentile(k)),
        _RAW,
    )


def _ms(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns / NS_PER_MS


def _table(
    n: int,
    mean: float | None,
    low: float | None,
    high: float | None,
    at: Callable[[int], float | None],
    raw: tuple[str, ...],
    n_eff: Mapping[str, float] = MappingProxyType({}),
    ci95: Mapping[str, Sequence[float | None] | None] = MappingProxyType({}),
) -> dict[str, Any]:
    """Without `n_eff` the values count for their number."""
    have = {name: math.floor(n_eff.get(name, n)) for name in PERCENTILES}
    table: dict[str, Any] = {"n": n, "mean": mean, "min": low}
    for name, k in PERCENTILES.items():
        table[name] = at(k) if have[name] >= NEED[name] else None
    table["max"] = high
    table["ci95"] = {name: ci95.get(name) for name in PERCENTILES}
    table["n_eff"] = {name: n_eff.get(name) for name in PERCENTILES}
    table["need"] = {name: [least, have[name]] for name, least in NEED.items() if have[name] < least}
    table["raw"] = {name: at(PERCENTILES[name]) for name in raw}
    return table
