"""How often the intervals of percentiles hold the truth, and how often two runs are told apart: by simulation.

Latencies are lognormal (log-sigma 0.5) and known to the last digit; they are independent, or follow one another as an
AR(1) series does (phi 0.6), as those of a loaded server do. `latbench/analysis/intervals.py` judges them as it judges a
run's. All is drawn from seeds, so that the same code gives the same table. Results: benchmarks/results/coverage.md.

    python benchmarks/coverage.py
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from latbench.analysis.intervals import Interval, interval, mover, ranks
from latbench.plan.power import MARGIN, RATIO, SIGMA, needed

RESULTS = Path(__file__).parent / "results" / "coverage.md"
SEED = 20_261_129
RUNS = 2000
PAIRS = 500
N = 3000
PHIS = (0.0, 0.6)
PERCENTILES = {"p50": 500, "p95": 950, "p99": 990}
COVERS = (0.92, 0.98)
MOST_DIFFERENT = 0.06
LEAST_FOUND = 0.95
_WARM_UP = 200


@dataclass(frozen=True)
class Row:
    """One line of a table: what was simulated, the share that was found, and whether that is as it should be."""

    what: str
    share: float
    detail: str
    holds: bool


def latencies(rng: np.random.Generator, n: int, phi: float, factor: float = 1.0) -> np.ndarray:
    """One run: `n` lognormal latencies of median `factor` in due order; `phi` correlates the logs of neighbours."""
    shocks = rng.standard_normal(n + _WARM_UP) * math.sqrt(1 - phi**2)
    series = np.asarray(lfilter([1.0], [1.0, -phi], shocks))[_WARM_UP:]
    return factor * np.exp(SIGMA * series)


def truth(k: int) -> float:
    """The percentile k (per mille) of all such latencies."""
    return math.exp(SIGMA * float(ndtri(k / 1000)))


def known(values: np.ndarray, k: int) -> Interval:
    """Their interval, which has both ends: there are enough values."""
    found = interval(values, k)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found


def covered(phi: float, n: int, run: int) -> list[tuple[bool, float, bool]]:
    """For each percentile of run number `run`: whether the interval holds the truth, its tau, and whether one would
    that took all requests for independent.
    """
    values = latencies(np.random.default_rng([SEED, int(phi * 10), run]), n, phi)
    ordered, found = np.sort(values), []
    for k in PERCENTILES.values():
        one, true = known(values, k), truth(k)
        low, high = (ordered[rank - 1] for rank in ranks(n, n, k, 0.95))
        assert one.low is not None
        assert one.high is not None
        found.append((one.low <= true <= one.high, one.tau, bool(low <= true <= high)))
    return found


def ratio(phi: float, n: int, k: int, factor: float, pair: int) -> tuple[float, float]:
    """The interval of new/base of two runs, of which the second is slower by `factor`."""
    rng = np.random.default_rng([SEED, int(phi * 10), k, round(factor * 1000), pair])
    base, new = (known(latencies(rng, n, phi, by), k) for by in (1.0, factor))
    found = mover(base.ends, new.ends)
    assert found is not None
    assert found[1] is not None
    assert found[2] is not None
    return found[1], found[2]


def coverage_rows(runs: int, n: int) -> Iterator[Row]:
    """The share of runs whose interval holds the truth."""
    for phi in PHIS:
        found = [covered(phi, n, run) for run in range(runs)]
        for at, name in enumerate(PERCENTILES):
            share = sum(run[at][0] for run in found) / runs
            middle = float(np.median([run[at][1] for run in found]))
            blind = sum(run[at][2] for run in found) / runs * 100
            detail = f"median tau {middle:.2f}; without regard to it {blind:.1f} %"
            yield Row(f"{_words(phi)}, {name}", share, detail, COVERS[0] <= share <= COVERS[1])


def alike_rows(pairs: int, n: int) -> Iterator[Row]:
    """The share of pairs of identical runs that are called different: 1 is outside the interval of the ratio."""
    for phi in PHIS:
        for name, k in PERCENTILES.items():
            found = [ratio(phi, n, k, 1.0, pair) for pair in range(pairs)]
            share = sum(not low <= 1 <= high for low, high in found) / pairs
            beyond = sum(low > MARGIN or high < 1 / MARGIN for low, high in found)
            detail = f"REGRESSED or IMPROVED at a margin of {MARGIN:g}: {beyond} of {pairs}"
            yield Row(f"{_words(phi)}, {name}", share, detail, share <= MOST_DIFFERENT)


def power_rows(pairs: int) -> Iterator[Row]:
    """The share of pairs, the second slower by `RATIO`, that are called REGRESSED at the n that `plan` names."""
    for name in ("p50", "p95"):
        k = PERCENTILES[name]
        n = needed(k)
        found = [ratio(0.0, n, k, RATIO, pair) for pair in range(pairs)]
        share = sum(low > MARGIN for low, _ in found) / pairs
        yield Row(f"{name}, n = {n:,} in each run", share, f"margin {MARGIN:g}", share >= LEAST_FOUND)


def _words(phi: float) -> str:
    return f"AR(1), phi {phi:g}" if phi else "independent"


def page(runs: int = RUNS, pairs: int = PAIRS, n: int = N) -> tuple[str, bool]:
    """The page of results, and whether all of them are as they should be."""
    held = f"95 % intervals of {runs:,} runs of {n:,} requests hold the truth"
    alike = f"Of {pairs:,} pairs of identical runs of {n:,} requests, called different"
    slower = f"Of {pairs:,} pairs with a true ratio of {RATIO:g}, called REGRESSED at the n that `plan` names"
    between = f"{COVERS[0] * 100:g} to {COVERS[1] * 100:g} %"
    tables = (
        (held, "held", between, list(coverage_rows(runs, n))),
        (alike, "different", f"at most {MOST_DIFFERENT * 100:g} %", list(alike_rows(pairs, n))),
        (slower, "found", f"at least {LEAST_FOUND * 100:g} %", list(power_rows(pairs))),
    )
    lines = [f"Lognormal latencies, log-sigma {SIGMA:g}, from fixed seeds: `python benchmarks/coverage.py`."]
    for title, found, wanted, rows in tables:
        lines += ["", f"**{title}**", "", f"| simulated | {found} | wanted | |", "|---|---:|---:|---|"]
        for row in rows:
            share = f"{row.share * 100:.1f} %{'' if row.holds else ' (!)'}"
            lines.append(f"| {row.what} | {share} | {wanted} | {row.detail} |")
    return "\n".join(lines) + "\n", all(row.holds for *_, rows in tables for row in rows)


def main() -> int:
    """Simulate, write and print the page; 1 where a figure is not as it should be."""
    text, holds = page()
    RESULTS.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
