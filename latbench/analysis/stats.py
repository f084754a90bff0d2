"""Order statistics: a percentile is an observed value, and it is null where there are too few values for it.

The percentile k (per mille) of n values is the one of rank ceil(n*k/1000), computed in integers: `99.9 / 100` is not
0.999 as a float, and one rank in a heavy tail moved p99.9 by 3 %. Below the smallest n of the two-sided 95 % limit, a
sample says nothing about how large (for low percentiles, how small) the true percentile may be; then the figure is
null and `need` holds [smallest n, n]. Undefined values are NaN and are not counted.

Shares have Wilson's interval: it stays within 0 and 1, and is right at both ends.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

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


def rank(n: int, k_per_mille: int) -> int:
    """The 1-based rank of a percentile among n > 0 sorted values."""
    return max(1, -(-n * k_per_mille // 1000))


def smallest_n(k_per_mille: int) -> int:
    """How many values a percentile needs: two-sided 95 %, so 6 for p50 and 368 for p99; low ones mirror high ones."""
    towards_tail = max(k_per_mille, 1000 - k_per_mille)
    return math.ceil(math.log(0.025) / math.log(towards_tail / 1000))


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


def describe(values: np.ndarray, *, higher_is_better: bool = False) -> dict[str, Any]:
    """A metric as `summary.json` holds it, in the unit of the values. NaN and infinity are not counted.

    `ci95` is null throughout: intervals are not built yet. `raw` has p1 and p5 too where higher is better, since the
    slow tail is there.
    """
    ordered = np.sort(values[np.isfinite(values)])
    n = len(ordered)
    return _table(
        n,
        float(ordered.mean()) if n else None,
        float(ordered[0]) if n else None,
        float(ordered[-1]) if n else None,
        lambda k: percentile(ordered, k),
        _RAW_OF_RATES if higher_is_better else _RAW,
    )


def describe_histogram(histogram: Histogram) -> dict[str, Any]:
    """The same of a histogram, in ms. Percentiles, and so `raw`, are within 0.1 %; n, mean, min and max are exact."""
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
) -> dict[str, Any]:
    table: dict[str, Any] = {"n": n, "mean": mean, "min": low}
    for name, k in PERCENTILES.items():
        table[name] = at(k) if n >= NEED[name] else None
    table["max"] = high
    table["ci95"] = dict.fromkeys(PERCENTILES)
    table["need"] = {name: [least, n] for name, least in NEED.items() if n < least}
    table["raw"] = {name: at(PERCENTILES[name]) for name in raw}
    return table
