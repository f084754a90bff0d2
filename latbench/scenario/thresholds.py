"""The grammar of thresholds: what must hold for a run to pass, one line each.

    ttft p95 < 800ms                      a percentile of a metric; `generation_tokens_per_s p5 > 20` for a rate
    ttft p99/p50 < 5                      the ratio of two percentiles of one metric
    error_rate < 1%                       a share of the requests; so are `good_share`, and an outcome held to per cent
    rate_limited == 0                     a number of requests, by outcome; also `errors` and `empty`
    goodput > 3/s                         what was delivered in a second
    usd_per_ok_request < 0.02             what it cost, in US dollars
    needle certified >= 32k               tokens up to which needle trials are certified, every kind of them
    needle accuracy lower > 80%           the one-sided 95 % limit of their accuracy, of every kind at every length
    [acme-large, task=review, step=0] …   only there; without it, every endpoint and step is held to it

Units are never guessed, and a name that nobody knows is answered with the nearest. What a threshold is held against,
and when it passes, is in `analysis/thresholds.py`.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from latbench.metrics.catalogue import BY_NAME, METRICS, Metric
from latbench.model.sample import Outcome
from latbench.scenario.grammar import nearest, parse_duration, parse_rate, parse_size


class Kind(StrEnum):
    """What is held to a limit."""

    PERCENTILE = "percentile"
    RATIO = "ratio"
    SHARE = "share"
    COUNT = "count"
    THROUGHPUT = "throughput"
    COST = "cost"
    CONTEXT = "context"
    ACCURACY = "accuracy"


PERCENTILES = ("p1", "p5", "p10", "p50", "p90", "p95", "p99", "p999")
SHARES = ("error_rate", "good_share")
COUNTS = (*(outcome.value for outcome in Outcome), "errors", "empty")
THROUGHPUT = ("goodput", "requests_per_s", "output_tokens_per_s")
COST = ("usd", "usd_per_ok_request", "usd_per_1k_tokens", "usd_per_1k_good", "usd_per_completed_task")
NEEDLE = "needle"
OF_NEEDLE = {"certified": Kind.CONTEXT, "accuracy lower": Kind.ACCURACY}
"""What of needle trials may be held to a limit. No point estimate: a few lucky answers would pass."""
POOLED = "inter_chunk"
"""Not among the names: the gaps inside one answer are no independent values of which a percentile could be judged."""

NAMES = (*(metric.name for metric in METRICS if metric.name != POOLED), *SHARES, *COUNTS, *THROUGHPUT, *COST, NEEDLE)
"""What may stand first in a threshold."""

NEED_AN_SLO = frozenset({"goodput", "good_share", "usd_per_1k_good"})

_EXAMPLE = 'such as "ttft p95 < 800ms" or "rate_limited == 0"'
_WHOLE = re.compile(
    r"(?:\[(?P<scope>.*)\])?\s*(?P<name>\w[\w-]*)(?:\s+(?P<at>[\w./]+(?: lower)?))?"
    r"\s*(?P<op><=|>=|==|<|>)\s*(?P<limit>[^\s<>=]+)"
)
_SCOPES = ("endpoint", "task", "step")
_NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True, slots=True)
class Threshold:
    """One threshold. `text` is what was written, with single spaces; it is parsed to the same again.

    `limit` is in `unit`: ms, tokens/s, "share" (0 to 1), "" (a number), "/s", "USD". A percentile is named in `at`, the
    lower one of a ratio in `over`. Where `endpoint`, `task` or `step` is None, it is not restricted to one.
    """

    text: str
    kind: Kind
    name: str
    op: str
    limit: float
    unit: str
    at: str | None = None
    over: str | None = None
    endpoint: str | None = None
    task: str | None = None
    step: int | None = None

    @property
    def metric(self) -> Metric:
        """The metric of a percentile or a ratio."""
        return BY_NAME[self.name]

    @property
    def caps(self) -> bool:
        """Whether the limit is an upper one."""
        return self.op in ("<", "<=", "==")

    def met(self, value: float) -> bool:
        """Whether a value is on the right side of the limit."""
        return {
            "<": value < self.limit,
            "<=": value <= self.limit,
            "==": value == self.limit,
            ">": value > self.limit,
            ">=": value >= self.limit,
        }[self.op]


def parse(written: str) -> Threshold:
    """The threshold that a text says. Raises ValueError with advice."""
    text = " ".join(written.split())
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" is no threshold; write what, a comparison (< <= > >= ==) and a limit, {_EXAMPLE}')
    name, at, op, limit = (match[part] for part in ("name", "at", "op", "limit"))
    try:
        kind, first, second = _subject(name, at, limit)
        number, unit = _limit(kind, name, limit)
        _check_comparison(kind, name, op)
        scope = _scope(match["scope"])
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from error
    return Threshold(text, kind, name, op, number, unit, first, second, *scope)


def _subject(name: str, at: str | None, limit: str) -> tuple[Kind, str | None, str | None]:
    """What kind of thing a name is, with the percentiles that it needs."""
    if name == POOLED:
        raise ValueError("gaps inside one answer are no independent values; hold tpot to a limit")
    if name not in NAMES:
        raise ValueError(f'nothing is called "{name}"; {nearest(name, NAMES)}')
    if name == NEEDLE:
        if at not in OF_NEEDLE:
            raise ValueError("which figure? write needle certified >= 32k, or needle accuracy lower > 80%")
        return OF_NEEDLE[at], at, None
    if at is not None and at.endswith(" lower"):
        raise ValueError(f"only needle accuracy has a lower limit; write {name} {at.removesuffix(' lower')}")
    if name not in BY_NAME:
        if at is not None:
            raise ValueError(f"{name} has no percentiles; leave {at} out")
        return _plain_kind(name, limit), None, None
    if at is None:
        raise ValueError(f"which percentile? write {name} p95, or {name} p99/p50")
    first, slash, second = at.partition("/")
    if not slash:
        return Kind.PERCENTILE, _percentile(first), None
    ratio = _percentile(first), _percentile(second)
    if ratio[0] == ratio[1]:
        raise ValueError(f"{at} is always 1")
    return Kind.RATIO, *ratio


def _plain_kind(name: str, limit: str) -> Kind:
    if name in SHARES or (name in COUNTS and name != "empty" and limit.endswith("%")):
        return Kind.SHARE
    if name in COUNTS:
        return Kind.COUNT
    return Kind.THROUGHPUT if name in THROUGHPUT else Kind.COST


def _percentile(word: str) -> str:
    name = "p999" if word == "p99.9" else word
    if name not in PERCENTILES:
        raise ValueError(f'no percentile "{word}"; {_nearest_percentile(word)}')
    return name


def _nearest_percentile(word: str) -> str:
    """As `nearest` for names: p96 is nearer to p95 than to p99, though a letter tells it from either."""
    if re.fullmatch(rf"p{_NUMBER}", word) is None:
        return f"there are: {', '.join(PERCENTILES)}"
    wanted = float(word[1:])
    return f'did you mean "{min(PERCENTILES[:-1], key=lambda name: abs(float(name[1:]) - wanted))}"?'


def _limit(kind: Kind, name: str, written: str) -> tuple[float, str]:
    """The number of a limit, in its unit."""
    if kind is Kind.PERCENTILE and BY_NAME[name].unit == "ms":
        if re.fullmatch(_NUMBER, written):
            raise ValueError(f"{written} of what? write {written}ms or {written}s")
        return _more_than_0(parse_duration(written) / 1e6), "ms"
    if kind in (Kind.SHARE, Kind.ACCURACY):
        return _share(written, name), "share"
    if kind is Kind.CONTEXT:
        return _more_than_0(parse_size(written)), "tokens"
    if kind is Kind.THROUGHPUT:
        bare = name.endswith("_per_s") and re.fullmatch(_NUMBER, written) is not None
        return parse_rate(f"{written}/s" if bare else written), "/s"
    if kind is Kind.COST:
        return _more_than_0(_plain(written.removeprefix("$"), "US dollars, such as 0.02")), "USD"
    if kind is Kind.COUNT:
        if not written.isascii() or not written.isdigit():
            raise ValueError(f"{written} is no number of requests; write a whole number, or a share such as 1%")
        return float(written), ""
    if kind is Kind.RATIO:
        return _more_than_0(_plain(written, "a number without a unit: a ratio has none")), ""
    unit = BY_NAME[name].unit
    if unit == "share":
        return _share(written, name), unit
    return _more_than_0(_plain(written.removesuffix("/s"), f"a number of {unit}")), unit


def _plain(written: str, wanted: str) -> float:
    if re.fullmatch(_NUMBER, written) is None:
        raise ValueError(f"the limit {written} must be {wanted}")
    return float(written)


def _more_than_0(limit: float) -> float:
    if not limit > 0:
        raise ValueError("the limit must be more than 0")
    return limit


def _share(written: str, name: str) -> float:
    match = re.fullmatch(rf"({_NUMBER})%", written)
    if match is None:
        raise ValueError(f"the limit {written} must be a share, such as 1%")
    share = float(match[1]) / 100
    if not 0 < share < 1:
        instead = 'write "errors == 0"' if name == "error_rate" else "name a number of requests instead"
        raise ValueError(f"no sample can show that a share is {match[1]} %; {instead}")
    return share


def _check_comparison(kind: Kind, name: str, op: str) -> None:
    if kind in (Kind.CONTEXT, Kind.ACCURACY) and op not in (">", ">="):
        raise ValueError(f"{name} has lower limits only; write >= or >")
    if op == "==" and kind is not Kind.COUNT:
        raise ValueError(f"only a number of requests can equal a limit; hold {name} to < or >")


def _scope(written: str | None) -> tuple[str | None, str | None, int | None]:
    """Endpoint, task and step of `acme-large, task=review, step=0`; a name alone is an endpoint's."""
    if written is None:
        return None, None, None
    found: dict[str, str] = {}
    # Names of endpoints may hold commas: only those before another key separate.
    for at, part in enumerate(re.split(rf",\s*(?=(?:{'|'.join(_SCOPES)})\s*=)", written.strip())):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not at and key not in _SCOPES:
            key, value = "endpoint", part.strip()
        elif not equals or not value:
            raise ValueError(f"[{written}] is not a place, such as [acme-large, task=review, step=0]")
        if key in found:
            raise ValueError(f"[{written}] names two {key}s")
        found[key] = value
    if not found.get("endpoint", "-"):
        raise ValueError("[] names no place; leave it out, or write [acme-large, task=review, step=0]")
    step = found.get("step")
    if step is not None and not (step.isascii() and step.isdigit()):
        raise ValueError(f"step={step} is no step; the first one is step=0")
    return found.get("endpoint"), found.get("task"), None if step is None else int(step)


def misplaced(
    threshold: Threshold,
    *,
    endpoints: Sequence[str],
    unpriced: Collection[str],
    tasks: Sequence[str],
    steps: int,
    slo: bool,
    needle: bool = False,
) -> str | None:
    """Why a scenario with these endpoints (some without a price), tasks and steps cannot be held to it.

    `slo` says whether it has one, `needle` whether it sends needle trials.
    """
    if threshold.endpoint is not None and threshold.endpoint not in endpoints:
        return f'no endpoint is called "{threshold.endpoint}"; {nearest(threshold.endpoint, endpoints)}'
    if threshold.task is not None and threshold.task not in tasks:
        return f'no task is called "{threshold.task}"; {nearest(threshold.task, tasks)}'
    if threshold.step is not None and threshold.step >= steps:
        return f"there is no step {threshold.step}; " + (
            "the only one is step=0" if steps == 1 else f"the last is step={steps - 1}"
        )
    if threshold.name == NEEDLE and not needle:
        return "the scenario sends no needle trials; give it a section needle, or leave this out"
    if threshold.name == NEEDLE and threshold.task is not None:
        return "needle trials have no tasks; leave the task out"
    if threshold.name in NEED_AN_SLO and not slo:
        return f"{threshold.name} needs an slo: without one no request is good"
    held = {threshold.endpoint} if threshold.endpoint is not None else set(endpoints)
    if threshold.kind is Kind.COST and (free := sorted(held & set(unpriced))):
        return f"{threshold.name} needs a price, and {', '.join(free)} has none"
    return None
