"""The `rate_limits` block of the summary: what was refused, what was asked for, and what the limit turned out to be.

Its rows are attempts, not requests: one request that was refused twice and then answered is two hits. Waits are counted
apart from latency. A ceiling is measured for each kind of limit that was hit, from the attempts that it took and
refused (`ceiling.py`); where the endpoint does not say which limit it was, it is tried as a limit of requests, and
a verdict is given only if that explains the refusals. Demand is held against the interval of the ceiling, not against
its middle, and against nothing that was merely promised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from latbench.analysis import stats
from latbench.analysis.ceiling import UNKNOWN, Ceiling, ceiling, keys_shared
from latbench.analysis.words import OUTCOMES, RATE_LIMITED
from latbench.metrics.catalogue import NS_PER_S
from latbench.model.sample import Outcome

MOST_BARS = 240
"""How many entries the series of hits has at most: its bins grow until it fits."""

# What the limiter let through, whatever became of it then. An overloaded endpoint may have refused before its limiter
# or after: both are tried.
_TAKEN = [
    OUTCOMES.index(outcome)
    for outcome in (
        Outcome.OK,
        Outcome.STREAM_ERROR,
        Outcome.TRUNCATED,
        Outcome.MALFORMED,
        Outcome.TIMEOUT,
        Outcome.STALLED,
        Outcome.HTTP_ERROR,
        Outcome.CANCELLED,
    )
]
_OVERLOADED = OUTCOMES.index(Outcome.OVERLOADED)
_REQUEST_KINDS = ("requests", UNKNOWN)
_TOKEN_KINDS = ("tokens", "input_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Attempts:
    """Attempts as columns of equal length, in any order.

    `outcome` and `next_outcome` are places in `words.OUTCOMES`, the latter that of the request's next attempt and -1
    where there was none. `kind` is a place in `kinds`, and only read of hits. NaN in `sent_ns`: never sent; in
    `asked_ns`: no wait was asked for; in `waited_ns`: nobody waited after this attempt. `tokens` has a column for
    each of `tokens`, `input_tokens` and `output_tokens` that is known: what the endpoint counts, NaN where nobody knows
    (refused attempts report no usage: an estimate of the prompt and `max_tokens` serves). `headroom` maps a kind to the
    columns of limit and remaining, NaN where the response said nothing.
    """

    sent_ns: np.ndarray
    outcome: np.ndarray
    kind: np.ndarray
    kinds: Sequence[str]
    asked_ns: np.ndarray
    waited_ns: np.ndarray
    next_outcome: np.ndarray
    key: np.ndarray
    tokens: Mapping[str, np.ndarray] = field(default_factory=dict)
    headroom: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def pick(self, rows: np.ndarray) -> "Attempts":
        """Some of the attempts, by row numbers or truth values."""
        return Attempts(
            self.sent_ns[rows],
            self.outcome[rows],
            self.kind[rows],
            self.kinds,
            self.asked_ns[rows],
            self.waited_ns[rows],
            self.next_outcome[rows],
            self.key[rows],
            {name: column[rows] for name, column in self.tokens.items()},
            {name: (limit[rows], left[rows]) for name, (limit, left) in self.headroom.items()},
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """The peak that a scenario states; tokens are those of prompt and answer together."""

    rpm: float
    tokens_per_request: float | None = None


def rate_limits(
    attempts: Attempts,
    *,
    whole: Attempts | None = None,
    promised: Mapping[str, float | None] | None = None,
    demand: Demand | None = None,
    endpoints: int = 1,
    fitted: bool = True,
) -> dict[str, Any]:
    """The block of an endpoint, or of a provider over its endpoints: everything about the given attempts.

    The ceiling is measured from the `whole` of them, warm-up included: what was used before counts for a limiter.
    `promised` are the scenario's `limits` by name (`rpm`, `tpm`, …). Null stands for what nothing is known about: the
    keys of several `endpoints`, each of which counts its own from 0; ceiling, keys and demand unless they are to be
    `fitted`, which takes seconds, and which a part of a run (a step) is not enough for.
    """
    hit = attempts.outcome == RATE_LIMITED
    counted = hits(attempts)
    by_kind: dict[str, int] = counted["by_kind"]
    whole = attempts if whole is None else whole
    ceilings: dict[str, Ceiling] = {}
    keys = None
    if fitted:
        ceilings = {kind: found for kind in by_kind if (found := _ceiling(whole, kind)) is not None}
        keys = _keys(whole, by_kind) if endpoints == 1 else None
    # One limiter was fitted to all keys. Where each has its own, that is the sum of these.
    together = keys["count"] if keys is not None and keys["verdict"] == "separate" else None
    return counted | {
        "per_second": _per_second(attempts.sent_ns[hit]),
        "audit": _audit(attempts, hit),
        "headroom": _headroom(attempts),
        "ceiling": {kind: _as_data(found, together) for kind, found in ceilings.items()} if fitted else None,
        "keys": keys,
        "promised": dict(promised) if promised else None,
        "demand": None if demand is None or not fitted else _held_against(demand, ceilings, promised or {}),
    }


def hits(attempts: Attempts) -> dict[str, Any]:
    """What is counted of rate limits wherever anything is: hits, their kinds, the waits asked for and waited."""
    hit = attempts.outcome == RATE_LIMITED
    numbers, counts = np.unique(attempts.kind[hit], return_counts=True)
    by_kind = {attempts.kinds[int(number)]: int(count) for number, count in zip(numbers, counts, strict=True)}
    asked_s = np.sort(attempts.asked_ns[hit & np.isfinite(attempts.asked_ns)]) / NS_PER_S
    return {
        "hits": int(np.count_nonzero(hit)),
        "by_kind": dict(sorted(by_kind.items())),
        "retry_after_s": {"p50": stats.percentile(asked_s, 500), "max": stats.percentile(asked_s, 1000)},
        "waited_s": float(np.nansum(attempts.waited_ns)) / NS_PER_S,
    }


def _per_second(sent_ns: np.ndarray) -> dict[str, Any]:
    """The most hits in one second, and [begin in s, hits] of every bin of `bin_s` seconds that has any."""
    seconds = np.floor(sent_ns[np.isfinite(sent_ns)] / NS_PER_S).astype(np.int64)
    if not len(seconds):
        return {"max": 0, "bin_s": 1, "series": []}
    width = 1
    while len(np.unique(seconds // width)) > MOST_BARS:
        width *= 2
    begins, counts = np.unique(seconds // width * width, return_counts=True)
    return {
        "max": int(np.unique(seconds, return_counts=True)[1].max()),
        "bin_s": width,
        "series": [[int(begin), int(count)] for begin, count in zip(begins, counts, strict=True)],
    }


def _audit(attempts: Attempts, hit: np.ndarray) -> dict[str, int]:
    """Whether the waits that were asked for were long enough, of those that were waited for in full.

    What was asked and followed, and then ended otherwise than taken or refused by the limit (dropped, say), is neither
    long enough nor too short.
    """
    asked = hit & np.isfinite(attempts.asked_ns)
    with np.errstate(invalid="ignore"):
        followed = asked & (attempts.waited_ns >= attempts.asked_ns) & (attempts.next_outcome >= 0)
    return {
        "asked": int(np.count_nonzero(asked)),
        "followed": int(np.count_nonzero(followed)),
        "long_enough": int(np.count_nonzero(followed & np.isin(attempts.next_outcome, _TAKEN))),
        "too_short": int(np.count_nonzero(followed & (attempts.next_outcome == RATE_LIMITED))),
    }


def _headroom(attempts: Attempts) -> dict[str, dict[str, float | None]]:
    """The smallest limit that any response reported, and the least that was left, by kind of limit."""
    found = {}
    for kind, (limit, left) in attempts.headroom.items():
        if np.isfinite(limit).any() or np.isfinite(left).any():
            found[kind] = {"limit": _least(limit), "least_remaining": _least(left)}
    return found


def _least(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else None


# --- the ceiling


def _of_limit(
    attempts: Attempts, kind: str, took: Sequence[int] = _TAKEN
) -> tuple[Attempts, np.ndarray, np.ndarray] | None:
    """The attempts at one limit in the order in which they were sent, whether they were taken, and their cost.

    `took` are the outcomes of those that the limiter let through. None for a kind that has no rate, and for tokens
    that nobody knows. An attempt of no known cost, or of none at all, is taken to cost what the others do.
    """
    if kind not in (*_REQUEST_KINDS, *_TOKEN_KINDS):
        return None
    number = list(attempts.kinds).index(kind) if kind in attempts.kinds else -1
    refused = (attempts.outcome == RATE_LIMITED) & (attempts.kind == number)
    rows = np.flatnonzero(np.isfinite(attempts.sent_ns) & (refused | np.isin(attempts.outcome, took)))
    mine = attempts.pick(rows[np.argsort(attempts.sent_ns[rows], kind="stable")])
    cost = np.ones(len(rows))
    if kind in _TOKEN_KINDS:
        known = mine.tokens.get(kind, np.full(len(rows), np.nan))
        stated = np.isfinite(known) & (known > 0)
        if not stated.any():
            return None
        cost = np.where(stated, known, np.median(known[stated]))
    return mine, mine.outcome != RATE_LIMITED, cost


def _ceiling(attempts: Attempts, kind: str) -> Ceiling | None:
    """The ceiling without the overloaded attempts; with them as taken ones where that disagrees with fewer."""
    without = _fitted(attempts, kind, _TAKEN)
    if without is None or not without.disagreements or not np.any(attempts.outcome == _OVERLOADED):
        return without
    counted = _fitted(attempts, kind, [*_TAKEN, _OVERLOADED])
    if counted is None or counted.disagreements is None or counted.disagreements >= without.disagreements:
        return without
    return replace(counted, why=f"{counted.why}, overloaded ones counted as taken")


def _fitted(attempts: Attempts, kind: str, took: Sequence[int]) -> Ceiling | None:
    found = _of_limit(attempts, kind, took)
    if found is None:
        return None
    mine, taken, cost = found
    return ceiling(mine.sent_ns, taken, cost)


def _as_data(found: Ceiling, together: int | None) -> dict[str, Any]:
    """`together` is the number of keys with limits of their own whose sum this is; null where that is not known."""
    data = asdict(found) | {"keys_together": together}
    data["ci95"] = None if found.ci95 is None else list(found.ci95)
    return data


def _keys(attempts: Attempts, by_kind: Mapping[str, int]) -> dict[str, Any] | None:
    """Whether several keys share a limit, asked of the kind that was hit most; null for a single key.

    Without a hit the headers can still tell.
    """
    keys = len(np.unique(attempts.key))
    if keys < 2:
        return None
    tried = (*sorted(by_kind, key=lambda kind: -by_kind[kind]), "requests")
    kind, (mine, taken, cost) = next(
        (kind, found) for kind in tried if (found := _of_limit(attempts, kind)) is not None
    )
    left = mine.headroom[kind][1] if kind in mine.headroom else None
    return {"count": keys, "kind": kind} | asdict(keys_shared(mine.sent_ns, taken, cost, mine.key, left))


# --- demand


def _held_against(
    demand: Demand, ceilings: Mapping[str, Ceiling], promised: Mapping[str, float | None]
) -> dict[str, Any]:
    """What the demand needs of each limit, whether the measured ceiling holds it, and a line of words.

    `verdict` is `holds`, `falls_short`, `inconclusive` (the need is inside the interval) or `unknown` (not measured).
    """
    needs = [("requests", demand.rpm, "rpm")]
    if demand.tokens_per_request is not None:
        needs.append(("tokens", demand.rpm * demand.tokens_per_request, "tpm"))
    rows = []
    for kind, need, name in needs:
        known = ceilings.get(kind)
        if kind == "requests" and (known is None or known.rate_per_min is None):
            known = ceilings.get(UNKNOWN)
        rows.append(
            {
                "kind": kind,
                "needs_per_min": need,
                "ceiling_per_min": None if known is None else known.rate_per_min,
                "promised_per_min": promised.get(name),
                "verdict": _verdict(need, known),
            }
        )
    return {
        "rpm": demand.rpm,
        "tokens_per_request": demand.tokens_per_request,
        "needs": rows,
        "words": _sentence(demand, rows),
    }


def _verdict(need: float, known: Ceiling | None) -> str:
    if known is None or known.ci95 is None:
        return UNKNOWN
    low, high = known.ci95
    return "holds" if low >= need else "falls_short" if high < need else "inconclusive"


def _sentence(demand: Demand, rows: Sequence[Mapping[str, Any]]) -> str:
    """The scarcest of the measured limits; the last one (tokens, where they are stated) if none was measured."""
    measured = [row for row in rows if row["ceiling_per_min"] is not None]
    row = (
        min(measured, key=lambda one: one["ceiling_per_min"] / (one["needs_per_min"] or 1e-9)) if measured else rows[-1]
    )
    words = f"your peak of {_short(demand.rpm)} requests/min"
    if row["kind"] == "tokens":
        words += f" at {demand.tokens_per_request:,.0f} tokens needs {_short(row['needs_per_min'])} TPM"
    if row["ceiling_per_min"] is not None:
        return f"{words}; measured ceiling {_short(row['ceiling_per_min'])}"
    words += "; no ceiling measured"
    return words if row["promised_per_min"] is None else f"{words}, promised {_short(row['promised_per_min'])}"


def _short(number: float) -> str:
    """Three digits: `630K`, `1.2M`; below ten thousand as it is."""
    if number < 10_000:
        return f"{number:,.0f}"
    rounded = float(f"{number:.3g}")
    return f"{rounded / 1e6:g}M" if rounded >= 1e6 else f"{rounded / 1e3:g}K"
