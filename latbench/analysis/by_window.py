"""Peak against off-peak: the windows of a scenario, each of them one value, however many requests it holds.

Requests of one window share the hour, the neighbours and the deployment; thousands of them say much about that window
and little about peak and off-peak. So the unit is the window: the logs of its percentile. Where at least three days
have both, the days are pairs and what a day's windows have in common drops out; else Welch's t. With fewer than three
windows on a side nothing is claimed, and it is said how many are missing. Runs of one window and UTC day count as one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance
from typing import Any

from latbench.analysis.compare import (
    PRIMARY,
    Comparison,
    Gate,
    Row,
    Share,
    adjust,
    beyond,
    counts,
    judge,
    share_verdict,
    shown,
)
from latbench.analysis.differences import Summary, differences
from latbench.analysis.intervals import Ends

LEAST, HONEST = 3, 5
"""Windows on each side: without the first number no interval, below the second a wide one."""

Days = Mapping[str, float]
"""A value of each day."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two means with its 95 % interval; `freedom` and the standard error are those of its t."""

    mean: float
    low: float
    high: float
    error: float
    freedom: float

    @classmethod
    def of(cls, mean: float, error: float, freedom: float) -> "Difference":
        from scipy import special  # not at the top: it takes a third of a second

        half = float(special.stdtrit(freedom, 0.975)) * error
        return cls(mean, mean - half, mean + half, error, freedom)

    def p(self, moved: float) -> float:
        """Two-sided, of a t that is `moved` from the margin."""
        from scipy import special

        if moved <= 0:
            return 1.0
        return 2 * float(special.stdtr(self.freedom, -moved / self.error)) if self.error else 0.0


def difference(a: Days, b: Days) -> Difference | None:
    """The mean of `b` less that of `a`: over the days that have both where there are enough, else over all (Welch)."""
    both = sorted(set(a) & set(b))
    if len(both) >= LEAST:
        by_day = [b[day] - a[day] for day in both]
        return Difference.of(fmean(by_day), math.sqrt(variance(by_day) / len(both)), len(both) - 1)
    if min(len(a), len(b)) < LEAST:
        return None
    parts = [variance(side.values()) / len(side) for side in (a, b)]
    spread = sum(parts)
    weights = sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    freedom = spread**2 / weights if weights else len(a) + len(b) - 2
    return Difference.of(fmean(b.values()) - fmean(a.values()), math.sqrt(spread), freedom)


def comparable(newest: Summary, others: Sequence[Summary]) -> list[Summary]:
    """Of other runs, those that measured the same thing as the newest one, and are valid."""
    return [one for one in others if not any(found.blocks for found in differences(newest, one))]


def by_window(a: Sequence[Summary], b: Sequence[Summary], *, margin: float, gates: Sequence[Gate] = ()) -> Comparison:
    """The runs of two windows; at least one each, all comparable."""
    gate, rows, shares = {*PRIMARY, *gates}, list[Row](), list[Share]()
    steps = min((one["steps"] for one in (*a, *b)), key=len)
    names = [name for name in a[-1]["endpoints"] if all(name in one["endpoints"] for one in (*a, *b))]
    for name in names:
        for at, step in enumerate(steps):
            first, second = ([(_day(one), one["steps"][at]["endpoints"][name]) for one in side] for side in (a, b))
            rows += _rows(name, step["index"], first, second, margin, gate)
            shares += _shares(name, step["index"], first, second)
    adjust(rows)
    claim, caveat = _claim(a, b)
    return Comparison(
        _side(a), _side(b), claim, caveat, margin, _unlike((*a, *b)), False,
        [(name, name) for name in names], [(step["index"], step["words"]) for step in steps], rows, shares,
    )  # fmt: skip


_Blocks = Sequence[tuple[str, Mapping[str, Any]]]


def _day(summary: Summary) -> str:
    return str(summary["run"]["started_at"])[:10]


def _side(runs: Sequence[Summary]) -> dict[str, Any]:
    run = runs[-1]["run"]
    ids = [one["run"]["id"] for one in runs]
    return {"window": run["window"], "scenario": run["scenario"], "runs": ids, "windows": len(set(map(_day, runs)))}


def _unlike(runs: Sequence[Summary]) -> list[Any]:
    """What differs from run to run, each thing once; the windows are meant to."""
    ordered = sorted(runs, key=lambda one: str(one["run"]["started_at"]))
    found = (one for pair in pairwise(ordered) for one in differences(*pair))
    return list({one.what: one for one in found if one.what not in ("window", "labels")}.values())


def _claim(a: Sequence[Summary], b: Sequence[Summary]) -> tuple[str, str]:
    days = [{_day(one) for one in side} for side in (a, b)]
    both = len(days[0] & days[1])
    if both >= LEAST:
        return "windows", f"paired by day over {both} days" + _few(both)
    missing = {_side(side)["window"]: LEAST - len(its) for side, its in zip((a, b), days, strict=True)}
    if all(count <= 0 for count in missing.values()):
        least = min(map(len, days))
        return "windows", f"Welch's t over {len(days[0])} and {len(days[1])} windows" + _few(least)
    more = " and ".join(f"{count} more of {window}" for window, count in missing.items() if count > 0)
    return "descriptive", f"too few windows for a claim: {more} needed, and better {HONEST} of each, on the same days"


def _few(windows: int) -> str:
    return f"; with fewer than {HONEST} the intervals are wide" if windows < HONEST else ""


def _mean_by_day(found: Sequence[tuple[str, float]]) -> dict[str, float]:
    days: dict[str, list[float]] = {}
    for day, value in found:
        days.setdefault(day, []).append(value)
    return {day: fmean(values) for day, values in days.items()}


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(name: str, step: int, a: _Blocks, b: _Blocks, margin: float, gate: "set[Gate]") -> list[Row]:
    tables = [block["metrics"] for _, block in (*a, *b)]
    return [
        _row(name, step, metric.name, percentile, metric.unit, _logs(a, metric.json_name, percentile),
             _logs(b, metric.json_name, percentile), margin, gate)
        for metric, percentile in shown(tables, gate)
    ]  # fmt: skip


def _row(
    name: str, step: int, metric: str, percentile: str, unit: str, a: Days, b: Days, margin: float, gate: "set[Gate]"
) -> Row:
    first, second = (math.exp(fmean(side.values())) if side else None for side in (a, b))
    row = Row(name, step, metric, percentile, unit, first, second, (len(a), len(b)), gate=(metric, percentile) in gate)
    found = difference(a, b)
    if found is not None:
        row.a, row.b = _of_the_pairs(a, b, row)
        judge(row, (math.exp(found.mean), math.exp(found.low), math.exp(found.high)), margin, _p_of(found))
    else:
        row.ratio = second / first if first and second else None
        row.why = f"{min(row.n)} windows on a side, at least {LEAST} are needed"
        row.need = LEAST
    return row


def _of_the_pairs(a: Days, b: Days, row: Row) -> tuple[float | None, float | None]:
    """The centres of what was compared: of the days that have both, where these are the pairs."""
    both = set(a) & set(b)
    if len(both) < LEAST:
        return row.a, row.b
    row.n = len(both), len(both)
    return math.exp(fmean(a[day] for day in both)), math.exp(fmean(b[day] for day in both))


def _p_of(found: Difference) -> Callable[[Ends, float], float | None]:
    def p(worse: Ends, log_margin: float) -> float | None:
        return found.p(beyond(worse, log_margin)[0])

    return p


def _logs(blocks: _Blocks, metric: str, percentile: str) -> dict[str, float]:
    """The log of a percentile by day, of the windows that have it."""
    values = ((day, block["metrics"][metric][percentile]) for day, block in blocks)
    return _mean_by_day([(day, math.log(value)) for day, value in values if value])


def _shares(name: str, step: int, a: _Blocks, b: _Blocks) -> list[Share]:
    found = []
    for what in counts(a[0][1]):
        sides = [
            _mean_by_day([(day, count / of) for day, block in side for count, of in [counts(block)[what]] if of])
            for side in (a, b)
        ]
        first, second = (fmean(side.values()) if side else None for side in sides)
        share = Share(name, step, what, first, second, (len(sides[0]), len(sides[1])))
        moved = difference(*sides)
        if moved is not None:
            share.difference, share.ci95 = moved.mean, (moved.low, moved.high)
            share.verdict = share_verdict(moved.low, moved.high)
        found.append(share)
    return found
