"""Two runs held against each other: the ratio of every percentile with its interval, and one of four words.

The ratio is B / A, from the two intervals that the runs have already (MOVER on logs). Against a margin, the smallest
ratio that anyone would act on, it is REGRESSED, IMPROVED, EQUIVALENT or INCONCLUSIVE; where higher is better the
direction flips. Of one run each this is descriptive: that these two differed, not why.

The gate is p95 of TTFT and of end to end, of every endpoint and step, and what else was asked for. Its rows are judged
together: one of them is REGRESSED or IMPROVED only if it is so after Holm's adjustment for their number. `p` is the
probability of such a ratio, or one further out, if the truth were the margin.

Latencies are of `ok` answers only. Where the two sides answered different shares of their requests (by more than 1
point), what is left on one side is not what is left on the other, and nothing is claimed; where their answers differ in
length by more than 10 %, nothing is claimed of end to end times.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from latbench.analysis.differences import Difference, Summary, pairs
from latbench.analysis.intervals import Ends, holm, mover
from latbench.analysis.stats import PERCENTILES, wilson
from latbench.analysis.thresholds import missing
from latbench.metrics.catalogue import BY_NAME, METRICS, Metric
from latbench.model.errors import UserError
from latbench.model.sample import Outcome
from latbench.scenario.grammar import nearest
from latbench.scenario.thresholds import POOLED

REGRESSED, IMPROVED, EQUIVALENT, INCONCLUSIVE = "REGRESSED", "IMPROVED", "EQUIVALENT", "INCONCLUSIVE"
MARGIN = 1.05
SHARE_MARGIN = 0.01
"""By how much the shares of answered requests may differ, and error rates before it is worth a word: 1 point."""

LENGTH_MARGIN = 0.1
PRIMARY = (("ttft", "p95"), ("e2e", "p95"))
_REPEATS = {"ttft_response_ms": "ttft_ms", "e2e_response_ms": "e2e_ms", "time_to_first_text_ms": "ttft_ms"}
_DEPENDS_ON_LENGTH = frozenset({"e2e", "e2e_response"})
_ALPHA = 0.05
_Z975 = 1.959963984540054
_MOST_NEEDED = 10_000_000

Gate = tuple[str, str]
"""A metric and a percentile of it."""


class Row(msgspec.Struct):
    """One percentile on both sides. `n` are values, or windows; `need` as many on each side would decide.

    `p_holm` is `p` for what is in the gate, adjusted for the number of its rows. `why` says what speaks against a
    claim.
    """

    endpoint: str
    step: int
    metric: str
    percentile: str
    unit: str
    a: float | None
    b: float | None
    n: tuple[int, int]
    ratio: float | None = None
    ci95: tuple[float | None, float | None] | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: str = INCONCLUSIVE
    gate: bool = False
    need: int | None = None
    why: str = ""


class Share(msgspec.Struct):
    """A share of the requests on both sides, and their difference B - A with its 95 % interval."""

    endpoint: str
    step: int
    what: str
    a: float | None
    b: float | None
    n: tuple[int, int]
    difference: float | None = None
    ci95: tuple[float, float] | None = None
    verdict: str = INCONCLUSIVE


class Comparison(msgspec.Struct):
    """All of it. `claim` says in a word what it can claim: `descriptive` or `windows`; `caveat` why."""

    a: dict[str, Any]
    b: dict[str, Any]
    claim: str
    caveat: str
    margin: float
    differences: list[Difference]
    forced: bool
    endpoints: list[tuple[str, str]]
    steps: list[tuple[int, str]]
    rows: list[Row]
    shares: list[Share]
    schema_version: int = 1

    @property
    def gate(self) -> str:
        """What the gate says: REGRESSED if one of its rows is, else INCONCLUSIVE if one is or there are none."""
        verdicts = {row.verdict for row in self.rows if row.gate} or {INCONCLUSIVE}
        return next((word for word in (REGRESSED, INCONCLUSIVE) if word in verdicts), EQUIVALENT)


def parse_gate(text: str) -> Gate:
    """`tpot p95`. Raises ValueError with advice."""
    name, _, percentile = " ".join(text.split()).partition(" ")
    names = [metric.name for metric in METRICS if metric.name != POOLED]
    if name not in names:
        raise ValueError(f'"{text}": no metric "{name}"; {nearest(name, names)}')
    if percentile not in PERCENTILES:
        raise ValueError(f'"{text}": which percentile? one of {", ".join(PERCENTILES)}, as in "{name} p95"')
    return name, percentile


def compare(
    a: Summary,
    b: Summary,
    differing: Sequence[Difference],
    *,
    margin: float = MARGIN,
    gates: Sequence[Gate] = (),
    forced: bool = False,
) -> Comparison:
    """Two runs. Raises UserError where they have no endpoint or no step in common."""
    gate, rows, shares = {*PRIMARY, *gates}, list[Row](), list[Share]()
    steps = [*zip(a["steps"], b["steps"], strict=False)]
    if not steps:
        raise UserError("one of the two runs has no step: there is nothing to compare")
    for name, other in pairs(a, b):
        for ours, theirs in steps:
            blocks = ours["endpoints"][name], theirs["endpoints"][other]
            rows += _rows(name, ours["index"], *blocks, margin, gate)
            shares += _shares(name, ours["index"], *blocks)
    adjust(rows)
    caveat = "one run each shows whether these two runs differ, not why, nor that they would again"
    return Comparison(
        side(a), side(b), "descriptive", caveat, margin, list(differing), forced,
        pairs(a, b), [(ours["index"], ours["words"]) for ours, _ in steps], rows, shares,
    )  # fmt: skip


def side(summary: Summary) -> dict[str, Any]:
    """What names one side."""
    run = {key: summary["run"][key] for key in ("id", "name", "scenario", "started_at", "window")}
    return run | {"validity": summary["validity"]["verdict"]}


# --- percentiles ------------------------------------------------------------------------------------------------------


def shown(tables: Sequence[Mapping[str, Any]], gate: "set[Gate] | None" = None) -> Iterator[tuple[Metric, str]]:
    """The percentiles that are worth a row where `tables` are the metrics of each side.

    Left out are what no side has, and what repeats another metric: from due where it equals from sent, first text where
    it is the first output. Gaps between chunks have no interval: those of one answer are no independent values.
    """
    for metric in METRICS:
        own = [table[metric.json_name] for table in tables]
        plain = [table[_REPEATS.get(metric.json_name, metric.json_name)] for table in tables]
        repeated = metric.json_name in _REPEATS and own == plain
        if metric.name == POOLED or repeated or not any(one["n"] for one in own):
            continue
        more = (percentile for name, percentile in sorted(gate or ()) if name == metric.name)
        for percentile in dict.fromkeys((*metric.shown, *more)):
            yield metric, percentile


def _rows(
    name: str, step: int, a: Mapping[str, Any], b: Mapping[str, Any], margin: float, gate: "set[Gate]"
) -> Iterator[Row]:
    for metric, percentile in shown((a["metrics"], b["metrics"]), gate):
        ours, theirs = a["metrics"][metric.json_name], b["metrics"][metric.json_name]
        row = Row(
            name, step, metric.name, percentile, metric.unit, ours[percentile], theirs[percentile],
            (ours["n"], theirs["n"]), gate=(metric.name, percentile) in gate,
        )  # fmt: skip
        ends = [_ends(table, percentile) for table in (ours, theirs)]
        base, new = ends
        ratio = None if base is None or new is None else mover(base, new)
        if ratio is not None:
            judge(row, ratio, margin, normal_p)
        row.why = _against(metric, a, b) or _missing(percentile, ours, theirs, ratio)
        if row.why:
            row.verdict = INCONCLUSIVE
        if row.ratio is None:
            row.need = _needed_to_exist(percentile, ours, theirs)
        yield row


def _ends(table: Mapping[str, Any], percentile: str) -> Ends | None:
    low, high = table["ci95"].get(percentile) or (None, None)
    return None if table[percentile] is None else (table[percentile], low, high)


def judge(row: Row, ratio: Ends, margin: float, p_value: Callable[[Ends, float], float | None]) -> None:
    """Give a row its ratio B / A, with interval, p, verdict, and how many values would decide."""
    row.ratio, row.ci95 = ratio[0], ratio[1:]
    worse = flipped(ratio) if BY_NAME[row.metric].higher_is_better else ratio
    row.verdict = verdict(worse[1], worse[2], margin)
    row.p = p_value(worse, math.log(margin))
    if row.verdict == INCONCLUSIVE:
        row.need = needed(worse, margin, min(row.n))


def flipped(ratio: Ends) -> Ends:
    """The ratio the other way round."""
    value, low, high = ratio
    return 1 / value, None if high is None else 1 / high, None if low is None else 1 / low


def verdict(low: float | None, high: float | None, margin: float) -> str:
    """The word for the interval of a ratio above 1 of which B is worse."""
    if low is not None and low > margin:
        return REGRESSED
    if high is not None and high < 1 / margin:
        return IMPROVED
    if low is not None and high is not None and low >= 1 / margin and high <= margin:
        return EQUIVALENT
    return INCONCLUSIVE


def normal_p(worse: Ends, log_margin: float) -> float | None:
    """Two-sided, from where the interval ends: below 0.05 where it ends beyond the margin. None without that end."""
    moved, width = beyond(worse, log_margin)
    if moved <= 0:
        return 1.0
    if width is None:
        return None
    return math.erfc(_Z975 * moved / width / math.sqrt(2)) if width else 0.0


def beyond(worse: Ends, log_margin: float) -> tuple[float, float | None]:
    """How far a ratio is beyond the margin, in logs (below 0: not), and how far its interval reaches back from it."""
    value, low, high = worse
    end = low if value > 1 else high
    return abs(math.log(value)) - log_margin, None if end is None else abs(math.log(value / end))


def needed(worse: Ends, margin: float, n: int) -> int | None:
    """About how many values on each side would decide: intervals narrow with their root. None where nobody can say."""
    value, low, high = worse
    if low is None or high is None or not low or not n:
        return None
    gap, width = beyond(worse, math.log(margin))
    if gap < 0:  # to be called equivalent, the farther end has to come inside
        gap, width = -gap, max(math.log(high / value), math.log(value / low))
    if not gap or not width:
        return None
    factor = (width / gap) ** 2
    return math.ceil(n * factor) if n * factor <= _MOST_NEEDED else None


def adjust(rows: Sequence[Row]) -> None:
    """Judge the rows of the gate together: what is different only by itself is not."""
    gate = [row for row in rows if row.gate]
    for row, p in zip(gate, holm([1.0 if row.p is None else row.p for row in gate]).tolist(), strict=True):
        row.p_holm = p
        if row.verdict in (REGRESSED, IMPROVED) and p >= _ALPHA:
            row.verdict, row.why = INCONCLUSIVE, f"by itself, but not as one of {len(gate)} rows of the gate (Holm)"


# --- what speaks against a claim --------------------------------------------------------------------------------------


def _missing(percentile: str, a: Mapping[str, Any], b: Mapping[str, Any], ratio: Ends | None) -> str:
    for letter, table in (("A", a), ("B", b)):
        if lacking := missing(table, percentile):
            return f"{letter}: {lacking}"
    return "a value of 0 has no ratio" if ratio is None else ""


def _needed_to_exist(percentile: str, *tables: Mapping[str, Any]) -> int | None:
    """About how many values have the percentile, if they count for as much as these do."""
    short = [(table["n"], *table["need"][percentile]) for table in tables if percentile in table["need"]]
    return max((math.ceil(n * least / have) for n, least, have in short if have), default=None)


def _against(metric: Metric, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    ours, theirs = answered(a), answered(b)
    if ours is not None and theirs is not None and abs(ours - theirs) > SHARE_MARGIN:
        return f"A answered {ours:.1%} of its requests, B {theirs:.1%}: what is left is not alike".replace("%", " %")
    lengths = [_length(block) for block in (a, b)]
    if metric.name in _DEPENDS_ON_LENGTH and all(lengths):
        shorter, longer = sorted(lengths)
        if longer > shorter * (1 + LENGTH_MARGIN):
            return f"answers differ in length: A {lengths[0]:.4g} tokens, B {lengths[1]:.4g}"
    return ""


def answered(block: Mapping[str, Any]) -> float | None:
    """The share of what was sent that is `ok`."""
    return None if block["error_rate"] is None else 1 - block["error_rate"]


def _length(block: Mapping[str, Any]) -> float:
    """Output tokens of a mean answer; 0 where that is not known."""
    tokens, ok = block["tokens"]["output"], block["outcomes"][Outcome.OK]
    return tokens / ok if tokens and ok else 0.0


# --- shares -----------------------------------------------------------------------------------------------------------


def counts(block: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """What is compared of shares: how many requests, of how many that were sent and not cancelled by us."""
    outcomes: Mapping[str, int] = block["outcomes"]
    sent = sum(outcomes.values()) - outcomes[Outcome.DROPPED] - outcomes[Outcome.CANCELLED]
    return {
        "error rate": (sent - outcomes[Outcome.OK], sent),
        "rate-limited": (outcomes[Outcome.RATE_LIMITED], sent),
    }


def _shares(name: str, step: int, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Share]:
    """Differences of proportions by MOVER from Wilson's intervals (Newcombe)."""
    for (what, ours), theirs in zip(counts(a).items(), counts(b).values(), strict=True):
        found = Share(name, step, what, None, None, (ours[1], theirs[1]))
        first, second = wilson(*ours), wilson(*theirs)
        if first is not None and second is not None:
            found.a, found.b = ours[0] / ours[1], theirs[0] / theirs[1]
            moved = found.difference = found.b - found.a
            low = moved - math.hypot(found.b - second[0], first[1] - found.a)
            high = moved + math.hypot(second[1] - found.b, found.a - first[0])
            found.ci95, found.verdict = (low, high), share_verdict(low, high)
        yield found


def share_verdict(low: float, high: float) -> str:
    """The word for a difference of shares of which more is worse."""
    if low > SHARE_MARGIN:
        return REGRESSED
    if high < -SHARE_MARGIN:
        return IMPROVED
    return EQUIVALENT if low >= -SHARE_MARGIN and high <= SHARE_MARGIN else INCONCLUSIVE
