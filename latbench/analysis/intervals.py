"""Intervals of percentiles from requests that are not independent, and what is judged with them.

The interval of a percentile is made of two order statistics: no shape of the distribution is assumed. Which two follows
from the exact limits of a share (Clopper and Pearson), at the effective sample size: requests that follow one another
share the server's queue, and n of them tell as much as n/tau independent ones. Tau is the autocorrelation time of the
series "at or below the percentile", in the order in which the requests were due, after the effective sample size of a
quantile in Vehtari et al. 2021, with the window of Sokal 1997. Ignoring dependence, what is called a 95 % interval may
hold the truth half of the time; `benchmarks/coverage.py` measures how often these do.

Where the sample says nothing about one side the end is None, never the maximum in disguise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_WINDOW = 5.0  # Sokal's: sum lags until there are so many times tau of them
_DIRECT_LAGS = 16
_VALUES_A_LAG = 5000  # more lags where there are many values: a transform of them costs as much as some hundred lags
_LAGS_A_SUM = 16  # no window of L lags means tau > L/5: sums of L/16 values are short against it
_BATCH = 5
_NOISE = 1e-12

Ends = tuple[float, float | None, float | None]
"""An estimate and the ends of its interval; None is an end that is not defined."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile with its interval.

    `low` of a low percentile and `high` of a high one are None where too few values lie beyond. `n` values in a row
    tell as much as `n_eff` independent ones: `n / tau`.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    n_eff: float
    tau: float

    @property
    def ends(self) -> Ends:
        """What `mover` takes."""
        return self.estimate, self.low, self.high


def rank(n: int, k_per_mille: int) -> int:
    """The 1-based rank of a percentile among n > 0 sorted values: ceil(n*k/1000), computed in integers."""
    return max(1, -(-n * k_per_mille // 1000))


def smallest_n(k_per_mille: int, confidence: float = 0.95) -> int:
    """How many independent values both ends of an interval need: 6 for p50, 368 for p99; low ones mirror high ones."""
    towards_tail = max(k_per_mille, 1000 - k_per_mille)
    return math.ceil(math.log((1 - confidence) / 2) / math.log(towards_tail / 1000))


def tau(series: np.ndarray) -> float:
    """The integrated autocorrelation time of a series, at least 1: how many of its values tell as much as one.

    tau(W) = 1 + 2 * (the sum of the first W autocorrelations), at the smallest W >= 5 * tau(W). 1 for a series without
    variation.
    """
    if not len(series) or series.min() == series.max():
        return 1.0
    lags = min(len(series) - 1, _DIRECT_LAGS + len(series) // _VALUES_A_LAG)
    found = _tau_of_few_lags(series, lags) if series.dtype == np.bool_ else None
    if found is None:
        found = _tau_of_sums(np.asarray(series, dtype=np.float64) - np.mean(series), max(1, lags // _LAGS_A_SUM))
    return max(1.0, found)


def _tau_of_few_lags(indicator: np.ndarray, lags: int) -> float | None:
    """Tau lag by lag, None where its window is wider than so many of them: most end after five."""
    n, hits = len(indicator), int(np.count_nonzero(indicator))
    mean, found = hits / n, 1.0
    for lag in range(1, lags + 1):
        both = int(np.count_nonzero(indicator[lag:] & indicator[:-lag]))
        at_the_ends = int(np.count_nonzero(indicator[:lag])) + int(np.count_nonzero(indicator[-lag:]))
        covariance = both - mean * (2 * hits - at_the_ends) + (n - lag) * mean**2
        found += 2 * covariance / (hits * (1 - mean))
        if lag >= _WINDOW * found:
            return found
    return None


def _tau_of_sums(centred: np.ndarray, size: int) -> float:
    """Tau of a series whose tau is known to be three times `size` or more, by the sums of so many values in a row.

    The variance of its mean is that of the mean of the sums: a transform of all values would tell no more.
    """
    if size == 1:
        return _tau_of_all_lags(centred)
    sums = centred[: len(centred) // size * size].reshape(-1, size).sum(axis=1)
    sums -= sums.mean()
    return _tau_of_all_lags(sums) * float(sums @ sums) / len(sums) / (size * float(centred @ centred) / len(centred))


def _tau_of_all_lags(centred: np.ndarray) -> float:
    """Tau by the autocorrelations of all lags at once; of the last lag where no window is wide enough."""
    n = len(centred)
    size = 1 << (2 * n - 1).bit_length()  # of a number with large factors it takes several times as long
    transform = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(transform.real**2 + transform.imag**2, size)[:n]
    running = 1 + 2 * np.cumsum(correlation[1:] / correlation[0])
    wide = np.arange(1, n) >= _WINDOW * running
    return float(running[np.argmax(wide)] if wide.any() else running[-1])


def interval(values_in_due_order: np.ndarray, k_per_mille: int, confidence: float = 0.95) -> Interval | None:
    """The percentile k (per mille) of values in the order in which they were due; None of no values.

    Values that are not finite are left out. `estimate` is the observed value of rank ceil(n*k/1000).
    """
    values = values_in_due_order[np.isfinite(values_in_due_order)]
    return interval_of(values, np.sort(values), k_per_mille, confidence) if len(values) else None


def interval_of(values: np.ndarray, ordered: np.ndarray, k_per_mille: int, confidence: float = 0.95) -> Interval:
    """The same where the values, finite and at least one, have been sorted already: `ordered`."""
    n = len(values)
    estimate = ordered[rank(n, k_per_mille) - 1]
    within = values <= estimate
    if estimate == ordered[-1]:  # many equal values at the top: those below it tell them apart
        within = values < estimate
    time = tau(within)
    n_eff = n / time
    low, high = ranks(n, n_eff, k_per_mille, confidence)
    enough = math.floor(n_eff) >= smallest_n(k_per_mille, confidence)
    return Interval(
        float(estimate),
        float(ordered[low - 1]) if enough or k_per_mille > 500 else None,
        float(ordered[high - 1]) if enough or k_per_mille < 500 else None,
        n,
        n_eff,
        time,
    )


def ranks(n: int, n_eff: float, k_per_mille: int, confidence: float) -> tuple[int, int]:
    """The ranks of the two order statistics, for a percentile of n values that count for `n_eff`."""
    share = k_per_mille / 1000
    low, high = _share_limits(n_eff * share, n_eff * (1 - share), confidence)
    return max(1, math.floor(n * low)), min(n, math.ceil(n * high) + 1)


def clopper_pearson(count: int, of: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """The exact two-sided interval of the share `count` of `of`, for gates; None of nothing."""
    return _share_limits(count, of - count, confidence) if of else None


def _share_limits(hits: float, misses: float, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's limits; effective numbers need not be whole."""
    # Imported here because it takes a third of a second, which nobody who starts a run should wait for.
    from scipy import special

    beyond = (1 - confidence) / 2
    low = float(special.betaincinv(hits, misses + 1, beyond)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, misses, 1 - beyond)) if misses else 1.0
    return low, high


def mover(base: Ends, new: Ends) -> Ends | None:
    """The ratio new/base with its interval, from two separate ones: MOVER (Zou and Donner 2008) on logs.

    An end that needs an undefined end, or one that is not above 0, is None. None where an estimate is not above 0.
    """
    if base[0] <= 0 or new[0] <= 0:
        return None
    (centre_a, low_a, high_a), (centre_b, low_b, high_b) = _logs(base), _logs(new)
    moved = centre_b - centre_a
    low = high = None
    if low_b is not None and high_a is not None:
        low = math.exp(moved - math.hypot(centre_b - low_b, high_a - centre_a))
    if high_b is not None and low_a is not None:
        high = math.exp(moved + math.hypot(high_b - centre_b, centre_a - low_a))
    return math.exp(moved), low, high


def _logs(ends: Ends) -> Ends:
    estimate, *others = ends
    low, high = (math.log(end) if end is not None and end > 0 else None for end in others)
    return math.log(estimate), low, high


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number (Holm 1979), in the order given."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(given) - np.arange(len(given))) * given[order]))
    return adjusted


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """The same of those that are not None, which stay None."""
    known = iter(holm([value for value in p_values if value is not None]).tolist())
    return [None if value is None else next(known) for value in p_values]


def mser5(values_in_due_order: np.ndarray) -> tuple[int, bool]:
    """How many values at the beginning are warm-up, and whether no steady state was found.

    MSER-5 (White, Cobb and Spratt 2000): in means of 5 values, cut where the rest has the smallest standard error. A
    cut in the middle, which is as far as it looks, is none: the series never settles. So it is of fewer than 10 values.
    """
    batches = len(values_in_due_order) // _BATCH
    middle = batches // 2
    if not middle:
        return 0, True
    means = np.asarray(values_in_due_order[: batches * _BATCH], dtype=np.float64).reshape(batches, _BATCH).mean(axis=1)
    centred = means - means.mean()
    left = batches - np.arange(batches)
    squares = np.cumsum(centred[::-1] ** 2)[::-1] - np.cumsum(centred[::-1])[::-1] ** 2 / left
    squares[squares < _NOISE * float(means @ means)] = 0.0  # what is constant must not be told apart by rounding
    cut = int(np.argmin((squares / left**2)[: middle + 1]))
    return cut * _BATCH, cut == middle
