"""What a run is held to: pass, fail or inconclusive, from the interval of what was measured.

With an upper limit a threshold passes where the whole 95 % interval is below it, fails where none of it is, and is
inconclusive otherwise: too little data is not a pass. What is counted or summed is known, and held to its limit as it
is: numbers of requests, dollars.

- A percentile has the interval of `summary.json`, at the effective sample size. The exact binomial form (so many
  requests of n may be over the limit) would count requests as independent of each other, which under load they are not.
  Percentiles rise with their order, so the interval of a neighbour also bounds one that is not defined: where half of
  forty requests were surely too slow, p99 has failed although nobody knows it.
- The ratio of two percentiles of one metric: MOVER on logs. They are of the same requests and rise and fall together,
  so the interval is too wide rather than too narrow.
- A share: Clopper-Pearson, of requests that were sent.
- Needle trials: the certified length, or the one-sided limits of an accuracy, at 95 % each.
- What was delivered in a second: as exact as a Poisson count of the `ok` (or good) answers that it comes from. Arrivals
  at a given rate and closed loops scatter less, so this, too, is rather too wide.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from latbench.analysis.intervals import clopper_pearson, mover
from latbench.analysis.stats import PERCENTILES
from latbench.model.run import RunRecord
from latbench.model.sample import Outcome
from latbench.scenario.thresholds import Kind, Threshold, parse

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_MOST_NEEDED = 10_000_000
_DELIVERED = {
    "goodput": "goodput_per_s",
    "requests_per_s": "requests_per_s",
    "output_tokens_per_s": "output_tokens_per_s",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: a value, the ends of its interval (None: not known), of `n` values.

    `why` says what is missing where there is no value. An `exact` one needs no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str = ""
    exact: bool = False


def judge(run: RunRecord, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An entry for each threshold of the run, in each step and of each endpoint that it holds."""
    return [
        _entry(threshold, name, step, run.out_of_reach)
        for threshold in map(parse, run.thresholds)
        for step in steps
        if threshold.step in (None, step["index"])
        for name in step["endpoints"]
        if threshold.endpoint in (None, name)
    ]


def _entry(
    threshold: Threshold, name: str, step: Mapping[str, Any], out_of_reach: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    block = step["endpoints"][name]
    found = measured(threshold, block if threshold.task is None else block["by_task"].get(threshold.task))
    result, why = decide(threshold, found), found.why
    here = {"threshold": threshold.text, "endpoint": name, "step": step["index"]}
    for one in out_of_reach:
        if here.items() <= one.items():
            result, why = FAIL, one["why"]
    return {
        "expr": threshold.text,
        "endpoint": name,
        "step": step["index"],
        "task": threshold.task,
        "value": found.value,
        "ci95": None if found.exact or found.low is found.high is None else [found.low, found.high],
        "result": result,
        "limit": threshold.limit,
        "unit": threshold.unit,
        "n": found.n,
        "need": needed(threshold, found) if result == INCONCLUSIVE else None,
        "why": why or None,
    }


def decide(threshold: Threshold, found: Measured) -> str:
    """Pass, fail or inconclusive."""
    if found.exact:
        return INCONCLUSIVE if found.value is None else PASS if threshold.met(found.value) else FAIL
    good, bad = (found.high, found.low) if threshold.caps else (found.low, found.high)
    if good is not None and threshold.met(good):
        return PASS
    return FAIL if bad is not None and not threshold.met(bad) else INCONCLUSIVE


def measured(threshold: Threshold, block: Mapping[str, Any] | None) -> Measured:
    """What a threshold holds of an endpoint's block in a step, or of a slice of it; None where there is no such."""
    if block is None:
        return Measured(None, why="no request of that task was measured")
    match threshold.kind:
        case Kind.PERCENTILE:
            return _percentile(threshold, block["metrics"][threshold.metric.json_name])
        case Kind.RATIO:
            return _ratio(threshold, block["metrics"][threshold.metric.json_name])
        case Kind.SHARE:
            return _share(threshold.name, block)
        case Kind.COUNT:
            return Measured(_count(threshold.name, block), n=_sent(block), exact=True)
        case Kind.THROUGHPUT:
            return _delivered(threshold.name, block)
        case Kind.CONTEXT | Kind.ACCURACY:
            found = block.get("needle")
            if found is None:
                return Measured(None, why="no needle trial was sent")
            return _certified(threshold, found) if threshold.kind is Kind.CONTEXT else _accuracy(found)
    value = None if block["cost"] is None else block["cost"][threshold.name]
    return Measured(value, n=_sent(block), exact=True, why="its price is not known" if value is None else "")


# --- percentiles ------------------------------------------------------------------------------------------------------


def _percentile(threshold: Threshold, table: Mapping[str, Any]) -> Measured:
    at = threshold.at or ""
    low, high = _bounds(table, at)
    return Measured(table[at], low, high, table["n"], missing(table, at))


def _bounds(table: Mapping[str, Any], at: str) -> tuple[float | None, float | None]:
    """The interval of a percentile; an end that it has not is the next one of a lower, or of a higher percentile."""
    place = PERCENTILES[at]
    ends = {PERCENTILES[name]: _ends(table, name) for name in PERCENTILES}
    own_low, own_high = ends[place]
    lows = [low for k, (low, _) in ends.items() if k <= place and low is not None]
    highs = [high for k, (_, high) in ends.items() if k >= place and high is not None]
    low = own_low if own_low is not None else max(lows, default=None)
    return low, own_high if own_high is not None else min(highs, default=None)


def _ends(table: Mapping[str, Any], at: str) -> tuple[float | None, float | None]:
    low, high = table["ci95"].get(at) or (None, None)
    return low, high


def missing(table: Mapping[str, Any], *names: str) -> str:
    """What the data lack for these percentiles; empty where they lack nothing."""
    n = table["n"]
    if not n:
        return "no values"
    for name in names:
        if name in table["need"]:
            least, have = table["need"][name]
            count = "" if have == n else f" that count for {have}"
            return f"{name} needs at least {least} values, there are {n}{count}"
    return ""


def _ratio(threshold: Threshold, table: Mapping[str, Any]) -> Measured:
    above, over = threshold.at or "", threshold.over or ""
    new, base = ((table[name], *_ends(table, name)) for name in (above, over))
    if lacking := missing(table, above, over):
        return Measured(None, n=table["n"], why=lacking)
    found = mover(base, new)
    return Measured(None, n=table["n"], why="one of the two is 0") if found is None else Measured(*found, table["n"])


# --- what is counted --------------------------------------------------------------------------------------------------


def _sent(block: Mapping[str, Any]) -> int:
    outcomes: Mapping[str, int] = block["outcomes"]
    return sum(outcomes.values()) - outcomes[Outcome.DROPPED]


def _failed(block: Mapping[str, Any]) -> int:
    return _sent(block) - int(block["outcomes"][Outcome.OK]) - int(block["outcomes"][Outcome.CANCELLED])


def _count(name: str, block: Mapping[str, Any]) -> int:
    """A number of requests; of `rate_limited`, of attempts: one that was made again has been refused all the same."""
    if name == Outcome.RATE_LIMITED:
        return int(block["rate_limits"]["hits"])
    if name == "errors":
        return _failed(block)
    count: int = block["empty"] if name == "empty" else block["outcomes"][name]
    return count


def _share(name: str, block: Mapping[str, Any]) -> Measured:
    of = _sent(block)
    if name == "good_share":
        of = sum(block["outcomes"].values()) - int(block["outcomes"][Outcome.CANCELLED])
        count = block["good"]
    elif name in ("error_rate", "errors"):
        count = _failed(block)
    else:
        count = int(block["outcomes"][name])
        of = of if name != Outcome.DROPPED else sum(block["outcomes"].values())
    ends = clopper_pearson(count, of)
    if ends is None:
        return Measured(None, why="no request was sent")
    if name in ("error_rate", "errors") and (unknown := int(block["outcomes"][Outcome.CANCELLED])):
        # What we cancelled would have been answered, or not: nobody knows, and the upper limit counts on nothing.
        ends = ends[0], (clopper_pearson(count + unknown, of) or ends)[1]
    return Measured(count / of, *ends, n=of)


def _delivered(name: str, block: Mapping[str, Any]) -> Measured:
    value = None if block["throughput"] is None else block["throughput"][_DELIVERED[name]]
    n = block["good"] if name == "goodput" else int(block["outcomes"][Outcome.OK])
    if value is None:
        return Measured(None, n=n, why="the measured window is empty")
    count = block["throughput"]["n_eff"][_DELIVERED[name]]
    if not count:
        return Measured(value, why="no answer to tell from")
    low, high = poisson(count)
    return Measured(value, value * low / count, value * high / count, n=n)


def poisson(count: float) -> tuple[float, float]:
    """The exact 95 % interval of the mean of a Poisson count (Garwood); an effective count need not be whole."""
    from scipy import special  # not at the top: it takes a third of a second, and most runs do not need it

    low = float(special.gammaincinv(count, 0.025)) if count else 0.0
    return low, float(special.gammaincinv(count + 1, 0.975))


# --- needle trials ----------------------------------------------------------------------------------------------------


def _certified(threshold: Threshold, found: Mapping[str, Any]) -> Measured:
    """The certified length of the kind that has the shortest one.

    Where that falls short, it is as far as data reach: only a length whose accuracy is surely below what certifies, or
    that the endpoint refused, says that more trials would not help.
    """
    shortest = min(found["effective_context"], key=lambda one: one["certified"]["tokens"] or 0, default=None)
    if shortest is None:
        return Measured(None, why="no needle trial was answered")
    tokens = float(shortest["certified"]["tokens"] or 0)
    if threshold.met(tokens):
        return Measured(tokens, exact=True)
    kind, n = shortest["kind"], sum(one["answered"] for one in found["lengths"] if one["kind"] == shortest["kind"])
    beyond = [one for one in found["lengths"] if one["kind"] == kind and one["length"] > tokens]
    if not beyond:
        return Measured(tokens, low=tokens, n=n, why=f"{kind}: nothing longer was tested")
    stopped = beyond[0]
    where = f"{kind} at {stopped['length']:,} tokens"
    if shortest["refused"] == stopped["length"]:
        return Measured(tokens, exact=True, why=f"{where}: the endpoint refused it")
    right = f"{where}: {stopped['correct']} of {stopped['answered']} right"
    if stopped["upper"] < shortest["threshold"]:
        return Measured(tokens, exact=True, why=right)
    return Measured(tokens, low=tokens, n=n, why=f"{right}, too few trials to certify it")


def _accuracy(found: Mapping[str, Any]) -> Measured:
    """The accuracy of the kind and length with the lowest limit, between its one-sided limits."""
    worst = min(found["lengths"], key=lambda one: one["lower"], default=None)
    if worst is None or not worst["answered"]:
        return Measured(None, why="no needle trial was answered")
    where = f"{worst['kind']} at {worst['length']:,} tokens"
    return Measured(worst["accuracy"], worst["lower"], worst["upper"], worst["answered"], where)


# --- how many would decide --------------------------------------------------------------------------------------------


def needed(threshold: Threshold, found: Measured) -> int | None:
    """About how many values would decide: as many as make the interval end at the limit, narrowing with their root.

    None where nobody can say: the value is the limit, or there is none yet.
    """
    if found.exact or not found.n or found.value is None:
        return None
    far = found.high if found.value < threshold.limit else found.low
    if threshold.kind in (Kind.SHARE, Kind.ACCURACY):
        return _needed_for_share(found.value, threshold.limit)
    if not far or not found.value or found.value == threshold.limit:
        return None
    width, gap = math.log(far) - math.log(found.value), math.log(threshold.limit) - math.log(found.value)
    factor = (width / gap) ** 2
    return math.ceil(found.n * factor) if found.n * factor <= _MOST_NEEDED else None


def _needed_for_share(share: float, limit: float) -> int | None:
    """The smallest of a geometric row of numbers at which the interval of the share leaves the limit out."""
    if share == limit:
        return None
    row = (math.ceil(10 * 1.05**power) for power in range(300))
    for n in takewhile(lambda number: number <= _MOST_NEEDED, row):
        ends = clopper_pearson(round(share * n), n)
        if ends is not None and (ends[1] < limit or ends[0] > limit):
            return n
    return None
