"""What a rate limit does, from which attempts it took and which it refused.

Every limiter here adds up what it has taken, forgets it in its own way, and refuses what would go beyond a threshold:

- `bucket`: what was taken drains away at a steady rate, never below nothing (token bucket, leaky bucket, GCRA);
- `fixed_window`: all is forgotten at once, at the end of each window;
- `sliding_window`: each piece is forgotten when it is a window old.

So for one way of forgetting (a rate; a window and where it begins), the amount that each attempt would have brought the
limiter to follows from the attempts that were *observed* to be taken. No distribution and no model of our load is
needed. If the way is the right one, a single threshold parts the taken from the refused; else some are on the wrong
side, and these are counted as disagreements. The way with the fewest is the estimate:

- Rates of a bucket are searched on a grid that is refined around its best point; the threshold is the burst.
- Windows are the usual lengths (`WINDOWS_S`). Where one begins is read from the data: somewhere between the last
  refused and the next taken attempt, so the place that most such gaps share, modulo the length.

The 95 % interval of the rate holds every value whose disagreements are not more than the least number m plus twice its
root. With exact times m is 0 for the right limiter: then the interval has all rates that explain every single decision,
and so holds the truth. Delays on the way make m larger, and the interval wider; that of a fixed window then also holds
the interval of the windows' totals. In 1,200 simulated runs (figures: `tests/analysis/test_ceiling.py`) it covered the
truth in 1,107 of 1,111 verdicts, no verdict was wrong, and 89 were refused.

A verdict is refused (`unknown`, with the reason) rather than guessed: for too little data, where even the best way
disagrees too often (other traffic on the same limit, a limit of another kind, a wrong cost), and where two ways explain
the data about equally well. It is assumed that nothing was taken shortly before the first attempt, and that refused
attempts are not counted by the limiter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

NS_PER_S = 1e9
WINDOWS_S = (1.0, 2.0, 5.0, 6.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 3600.0)
BEHAVIOURS = ("bucket", "fixed_window", "sliding_window")
UNKNOWN = "unknown"

LEAST = 10
"""How many refused attempts, and attempts taken after the first of them, a verdict needs."""
LEAST_RESETS = 2
"""How many times a window has to have been seen to end after a refusal in it."""
MOST_ATTEMPTS = 20_000
"""More than these are not looked at: the figures would hardly move, and the search takes seconds."""
BEFORE_REFUSALS = 5_000
"""How many of them are from before the refusals begin: what was used then counts for a limiter."""
TOLERATED = 0.3
"""Disagreements, as a share of what calling all attempts the same would get wrong, beyond which nothing fits."""

# Of the rate at which attempts were taken while others were refused. A bucket that never ran empty has that very rate,
# and a rate slightly beside it is wrong ever after: the grid is fine there.
_GRID = np.unique(np.concatenate((np.geomspace(0.7, 8.0, 160), np.linspace(0.96, 1.04, 161))))
_ZOOMS = 4
_PHASES = 12
# Student's t, two-sided 95 %, by degrees of freedom from 0 (which never asks) to 30; beyond it is 2.
_T975 = (
    math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11,
    2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ceiling:
    """An estimate in units of the limit (requests or tokens).

    `burst` belongs to a bucket, `window_s` to windows. `why` says in words what decided, or why nothing did.
    `accepted_per_min` is no estimate but a count: what was taken per minute between the first and the last refusal. A
    limiter that was not kept busy can do more. Of a long run, all figures are of the attempts that were looked at.
    """

    behaviour: str
    why: str
    accepted: int
    refused: int
    rate_per_min: float | None = None
    ci95: tuple[float, float] | None = None
    burst: float | None = None
    window_s: float | None = None
    disagreements: int | None = None
    accepted_per_min: float | None = None


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Ascending times in seconds from the first, what was taken, and the cost of each."""

    at_s: np.ndarray
    taken: np.ndarray
    cost: np.ndarray

    @property
    def before(self) -> np.ndarray:
        """What all attempts before each one took."""
        used = np.cumsum(np.where(self.taken, self.cost, 0.0))
        return np.concatenate(([0.0], used))

    @property
    def trivial(self) -> int:
        """Disagreements of a limiter that always says the same."""
        return int(min(np.count_nonzero(self.taken), np.count_nonzero(~self.taken)))


@dataclass(frozen=True, slots=True)
class _Fit:
    behaviour: str
    wrong: int
    rate: float  # per second
    interval: tuple[float, float]
    burst: float | None = None
    window_s: float | None = None


def ceiling(times_ns: np.ndarray, accepted: np.ndarray, cost: np.ndarray) -> Ceiling:
    """The limit behind attempts at one limit: `times_ns` ascending, `accepted` truth values, `cost` of each above 0.

    `cost` is 1 for a limit of requests, and the tokens of each attempt for one of tokens. Attempts that were refused
    for another reason, or never reached the endpoint, must be left out.
    """
    part = _looked_at(accepted)
    attempts = _attempts(times_ns[part], accepted[part], cost[part])
    cut = _cut_in_words(part, len(accepted))
    taken, refused = int(np.count_nonzero(attempts.taken)), int(np.count_nonzero(~attempts.taken))
    observed = _accepted_per_min(attempts)

    def unknown(why: str, wrong: int | None = None) -> Ceiling:
        return Ceiling(UNKNOWN, why + cut, taken, refused, disagreements=wrong, accepted_per_min=observed)

    if why := _too_little(attempts):
        return unknown(why)
    fits = sorted(_fits(attempts), key=lambda fit: fit.wrong)
    best = fits[0]
    if best.wrong > TOLERATED * attempts.trivial:
        return unknown(
            f"no limiter explains it: the best one disagrees with {best.wrong} of {taken + refused} attempts",
            best.wrong,
        )
    if len(fits) > 1 and not _clearly_fewer(best.wrong, fits[1].wrong):
        also = fits[1]
        return unknown(
            f"{_words(best.behaviour)} and {_words(also.behaviour)} explain it about equally well "
            f"({best.wrong} and {also.wrong} disagreements)",
            best.wrong,
        )
    return Ceiling(
        behaviour=best.behaviour,
        why=f"{_words(best.behaviour)} disagrees with {best.wrong} of {taken + refused} attempts"
        + (f", {_words(fits[1].behaviour)} with {fits[1].wrong}" if len(fits) > 1 else "")
        + cut,
        accepted=taken,
        refused=refused,
        rate_per_min=best.rate * 60,
        ci95=(best.interval[0] * 60, best.interval[1] * 60),
        burst=best.burst,
        window_s=best.window_s,
        disagreements=best.wrong,
        accepted_per_min=observed,
    )


def _words(behaviour: str) -> str:
    return f"a {behaviour.replace('_', ' ')}"


def _attempts(times_ns: np.ndarray, accepted: np.ndarray, cost: np.ndarray) -> _Attempts:
    times = np.asarray(times_ns, dtype=np.float64)
    first = times[0] if len(times) else 0.0
    return _Attempts((times - first) / NS_PER_S, np.asarray(accepted, dtype=bool), np.asarray(cost, dtype=np.float64))


def _looked_at(accepted: np.ndarray) -> slice:
    """The places of the attempts that are looked at: all, or `MOST_ATTEMPTS` from shortly before refusals begin.

    They begin where the rest of the cut holds enough for a verdict: a stray refusal long before them does not count.
    """
    refused = np.flatnonzero(~np.asarray(accepted, dtype=bool))
    if len(accepted) <= MOST_ATTEMPTS or not len(refused):
        return slice(0, MOST_ATTEMPTS)
    together = refused[LEAST - 1 :] - refused[: max(len(refused) - LEAST + 1, 0)] < MOST_ATTEMPTS - BEFORE_REFUSALS
    begin = int(refused[int(np.argmax(together))]) if together.any() else int(refused[0])
    start = max(0, min(begin - BEFORE_REFUSALS, len(accepted) - MOST_ATTEMPTS))
    return slice(start, start + MOST_ATTEMPTS)


def _cut_in_words(part: slice, attempts: int) -> str:
    """What is added to the reason where not all attempts were looked at; else nothing."""
    if attempts <= MOST_ATTEMPTS:
        return ""
    return f" (looked at {MOST_ATTEMPTS:,} of {attempts:,} attempts, from number {part.start + 1:,} on)"


def _accepted_per_min(attempts: _Attempts) -> float | None:
    """What was taken per minute from the first refusal to the last; None where they are less than a second apart."""
    refused = np.flatnonzero(~attempts.taken)
    if len(refused) < 2:
        return None
    first, last = refused[0], refused[-1]
    seconds = float(attempts.at_s[last] - attempts.at_s[first])
    used = attempts.before
    return float(used[last] - used[first]) / seconds * 60 if seconds >= 1 else None


def _too_little(attempts: _Attempts) -> str | None:
    """Why these attempts are too few, in words; None where they are not."""
    refused = np.flatnonzero(~attempts.taken)
    if len(refused) < LEAST:
        return f"too few refusals: {len(refused)}, {LEAST} are needed"
    after = int(np.count_nonzero(attempts.taken[refused[0] :]))
    if after < LEAST:
        return f"too few attempts taken after the first refusal: {after}, {LEAST} are needed"
    return None


def _clearly_fewer(fewer: int, more: int) -> bool:
    """Whether one limiter's disagreements are so much fewer than another's that chance and delays are out of it."""
    return more >= 5 + 2 * fewer + 2 * math.sqrt(fewer)


def _fits(attempts: _Attempts) -> list[_Fit]:
    """The best limiter of each kind; windows only where enough of them were seen to end."""
    found = [_bucket(attempts)]
    found += [fit for fit in (_fixed(attempts), _sliding(attempts)) if fit is not None]
    return found


def _split(level: np.ndarray, taken: np.ndarray, spare: float | None = None) -> tuple[int, float, float]:
    """The threshold that best parts the levels of taken and of refused attempts.

    Returns how many are on the wrong side, and the least and largest threshold with not more of them; `spare` allows
    for more, by default none.
    """
    order = np.argsort(level, kind="stable")
    levels, kept = level[order], taken[order]
    # A threshold at position i takes the i attempts of the lowest levels.
    wrong = np.concatenate(([0], np.cumsum(~kept))) + (np.count_nonzero(kept) - np.concatenate(([0], np.cumsum(kept))))
    possible = np.concatenate(([True], np.diff(levels) > 0, [True]))  # equal levels cannot be parted
    wrong = np.where(possible, wrong, len(levels) + 1)
    least = int(wrong.min())
    good = np.flatnonzero(wrong <= least + (0 if spare is None else spare))
    low, high = good[0], good[-1]
    return least, float(levels[max(low - 1, 0)]), float(levels[min(high, len(levels) - 1)])


def _spare(wrong: int) -> float:
    return 2 * math.sqrt(wrong)


# --- the bucket


def _bucket_level(attempts: _Attempts, used: np.ndarray, rate: float) -> np.ndarray:
    """How full each attempt would make a bucket (0: empty) that drains at `rate` a second."""
    undrained = used - rate * attempts.at_s
    level: np.ndarray = undrained - np.minimum.accumulate(undrained) + attempts.cost
    return level


def _bucket(attempts: _Attempts) -> _Fit:
    used = attempts.before[:-1]

    def wrong(rate: float) -> int:
        return _split(_bucket_level(attempts, used, rate), attempts.taken)[0]

    refused = np.flatnonzero(~attempts.taken)
    span = max(float(attempts.at_s[-1] - attempts.at_s[refused[0]]), 1e-3)
    # A key that was only ever refused after its first refusal may still have a limit of its own: a very slow one.
    base = (float(attempts.before[-1] - used[refused[0]]) or float(attempts.cost.min())) / span
    rates = base * _GRID
    for _ in range(_ZOOMS):
        counts = np.array([wrong(rate) for rate in rates])
        best = np.flatnonzero(counts == counts.min())
        step = max(
            rates[min(best[-1] + 1, len(rates) - 1)] / rates[best[-1]], rates[best[0]] / rates[max(best[0] - 1, 0)]
        )
        low, rate, high = float(rates[best[0]]), float(rates[best[len(best) // 2]]), float(rates[best[-1]])
        rates = np.geomspace(low / step, high * step, 25)
    least, empty, full = _split(_bucket_level(attempts, used, rate), attempts.taken)
    limit = least + _spare(least)
    interval = (_edge(wrong, low, 0.5, limit), _edge(wrong, high, 2.0, limit))
    return _Fit("bucket", least, rate, interval, burst=(empty + full) / 2)


def _edge(wrong: Callable[[float], int], rate: float, factor: float, limit: float) -> float:
    """How far a rate can move towards `rate * factor` before the disagreements are more than `limit`."""
    within, step = 0.0, 1e-5
    while step < 1 and wrong(rate * factor**step) <= limit:
        within, step = step, step * 2
    beyond = step
    while beyond - within > 1e-6:
        middle = (within + beyond) / 2
        if wrong(rate * factor**middle) <= limit:
            within = middle
        else:
            beyond = middle
    return float(rate * factor**beyond)


# --- windows


def _fixed(attempts: _Attempts) -> _Fit | None:
    fits = [_fixed_of(attempts, length) for length in WINDOWS_S]
    return min((fit for fit in fits if fit is not None), key=lambda fit: fit.wrong, default=None)


def _fixed_of(attempts: _Attempts, length: float) -> _Fit | None:
    """The best of the likeliest beginnings, or None where too few windows of this length were seen to end."""
    used = attempts.before[:-1]
    fits = []
    for phase in _phases(attempts, length):
        number = np.floor((attempts.at_s - phase) / length).astype(np.int64)
        if _resets(number, attempts.taken) >= LEAST_RESETS:
            starts = np.flatnonzero(np.concatenate(([True], np.diff(number) > 0)))
            start_of = np.repeat(starts, np.diff(np.concatenate((starts, [len(number)]))))
            fit = _of_window("fixed_window", used - used[start_of] + attempts.cost, attempts, length)
            fits.append((fit, number))
    if not fits:
        return None
    fit, number = min(fits, key=lambda found: found[0].wrong)
    return _by_totals(fit, attempts, number, length) if fit.wrong else fit


def _by_totals(fit: _Fit, attempts: _Attempts, number: np.ndarray, length: float) -> _Fit:
    """The rate from the totals of the windows that refused something.

    Delays on the way put attempts into the window before or behind: that moves the level of all that follow, and the
    threshold with it, but the totals only scatter. A window takes its limit, less what was left when the smallest of
    the refused did not fit any more.
    """
    full = np.unique(number[~attempts.taken])
    full = full[(full > number[0]) & (full < number[-1])]
    totals = np.array([attempts.cost[(number == one) & attempts.taken].sum() for one in full])
    if len(totals) < LEAST_RESETS:
        return fit
    left = float(np.mean([attempts.cost[(number == one) & ~attempts.taken].min() for one in full]))
    left = 0.0 if (attempts.cost == attempts.cost[0]).all() else left
    centre = float(totals.mean()) + left / 2
    half = left / 2 + _T975[min(len(totals) - 1, len(_T975) - 1)] * float(totals.std(ddof=1)) / math.sqrt(len(totals))
    low, high = min(fit.interval[0], (centre - half) / length), max(fit.interval[1], (centre + half) / length)
    return replace(fit, rate=centre / length, interval=(low, high))


def _resets(number: np.ndarray, taken: np.ndarray) -> int:
    """How many windows refused something and were followed by one that took something."""
    refusing, taking = np.unique(number[~taken]), np.unique(number[taken])
    return int(np.count_nonzero(np.isin(refusing + 1, taking)))


def _phases(attempts: _Attempts, length: float) -> list[float]:
    """Where windows may begin, modulo their length: the middles of what most gaps from refused to taken share.

    The best one need not be the right one: an attempt that is cheaper than those refused before it makes a gap too.
    """
    refused_last = np.flatnonzero(~attempts.taken[:-1] & attempts.taken[1:])
    from_s, to_s = attempts.at_s[refused_last], attempts.at_s[refused_last + 1]
    short = to_s - from_s < length
    from_s, to_s = from_s[short] % length, to_s[short] % length
    over = int(np.count_nonzero(to_s < from_s))
    # +1 where a gap begins and -1 where it ends; one over the end of the window begins again at 0.
    places = np.concatenate((from_s, to_s, np.zeros(over), [length]))
    change = np.concatenate((np.ones(len(from_s)), -np.ones(len(to_s)), np.ones(over), [0]))
    order = np.lexsort((-change, places))
    places, shared = places[order], np.cumsum(change[order])[:-1]
    best = np.argsort(-shared, kind="stable")[:_PHASES]
    return [float(places[place] + places[place + 1]) / 2 for place in best]


def _sliding(attempts: _Attempts) -> _Fit | None:
    span = float(attempts.at_s[-1])
    used = attempts.before
    fits = []
    for length in (one for one in WINDOWS_S if (LEAST_RESETS + 1) * one <= span):
        forgotten = used[np.searchsorted(attempts.at_s, attempts.at_s - length, side="right")]
        fits.append(_of_window("sliding_window", used[:-1] - forgotten + attempts.cost, attempts, length))
    return min(fits, key=lambda fit: fit.wrong, default=None)


def _of_window(behaviour: str, level: np.ndarray, attempts: _Attempts, length: float) -> _Fit:
    least, low, _ = _split(level, attempts.taken)
    _, lowest, highest = _split(level, attempts.taken, _spare(least))
    return _Fit(behaviour, least, low / length, (lowest / length, highest / length), window_s=length)


# --- several keys


@dataclass(frozen=True, slots=True)
class KeysShared:
    """Whether keys draw on one limit: `shared`, `separate` or `unknown`; `by` is `headers`, `acceptance` or None."""

    verdict: str
    why: str
    by: str | None = None


LEAST_PAIRS = 20
"""How many pairs of reports of the same key a verdict from headers needs."""


def keys_shared(
    times_ns: np.ndarray,
    accepted: np.ndarray,
    cost: np.ndarray,
    key: np.ndarray,
    remaining: np.ndarray | None = None,
) -> KeysShared:
    """Whether several keys have limits of their own, from attempts as `ceiling` takes them, with the key of each.

    `remaining` is what each response said to be left (NaN where it said nothing). With one shared limit a key's figure
    also falls by what the *other* keys used since its last report, and with separate ones it does not: the slope of the
    fall over the others' use is 1 or 0, and its 95 % interval has to be on one side of a half. Reports of a full limit
    are left out, for it hides what was used.

    Without such headers, or where they do not decide: one limiter for all keys is held against one for each, by their
    disagreements with what was taken. Where both ways give a verdict and the two differ, it is `unknown`.
    """
    part = _looked_at(accepted)
    attempts, keys = _attempts(times_ns[part], accepted[part], cost[part]), np.asarray(key)[part]
    used_keys = [one for one in np.unique(keys) if np.count_nonzero(keys == one) >= LEAST]
    if len(used_keys) < 2:
        return KeysShared(UNKNOWN, f"fewer than two keys with {LEAST} attempts")
    by_headers = None
    if remaining is not None:
        by_headers = _by_headers(attempts, keys, np.asarray(remaining, dtype=np.float64)[part])
    by_acceptance = _by_acceptance(attempts, keys)
    if by_headers is None or by_headers.verdict == UNKNOWN:
        return by_acceptance if by_headers is None or by_acceptance.verdict != UNKNOWN else by_headers
    if by_acceptance.verdict not in (UNKNOWN, by_headers.verdict):
        why = f"headers say {by_headers.verdict} ({by_headers.why}), what was taken says {by_acceptance.verdict}"
        return KeysShared(UNKNOWN, f"{why} ({by_acceptance.why})")
    return by_headers


def _by_headers(attempts: _Attempts, keys: np.ndarray, remaining: np.ndarray) -> KeysShared:
    used = attempts.before
    full = float(np.nanmax(remaining)) if np.isfinite(remaining).any() else 0.0
    rows = []
    for one in np.unique(keys):
        mine = np.flatnonzero((keys == one) & np.isfinite(remaining))
        own = np.concatenate(([0.0], np.cumsum(np.where(attempts.taken & (keys == one), attempts.cost, 0.0))))
        last, this = mine[:-1], mine[1:]
        own_use = own[this + 1] - own[last + 1]
        others = (used[this + 1] - used[last + 1]) - own_use
        fall = remaining[last] - remaining[this] - own_use
        seen = remaining[this] + np.where(attempts.taken[this], attempts.cost[this], 0.0) < full
        rows.append(np.column_stack((fall, others, attempts.at_s[this] - attempts.at_s[last]))[seen])
    fall, others, seconds = np.concatenate(rows).T
    found = _slope(fall, others, seconds)
    if found is None:
        return KeysShared(UNKNOWN, "too few reports of what is left")
    slope, error = found
    low, high = slope - 1.96 * error, slope + 1.96 * error
    why = f"what is left falls by {slope:.2f} [{low:.2f}, {high:.2f}] for each unit that other keys use"
    verdict = "shared" if low > 0.5 else "separate" if high < 0.5 else UNKNOWN
    return KeysShared(verdict, why, "headers" if verdict != UNKNOWN else None)


def _slope(fall: np.ndarray, others: np.ndarray, seconds: np.ndarray) -> tuple[float, float] | None:
    """The slope of `fall` over `others` beside what comes back with time, and its standard error.

    Outliers are left out, three times over: at the end of a window the figure jumps. None for too few pairs, or where
    the others' use does not differ.
    """
    kept = np.ones(len(fall), dtype=bool)
    for _ in range(4):
        if np.count_nonzero(kept) < LEAST_PAIRS or np.ptp(others[kept]) == 0:
            return None
        design = np.column_stack((others, seconds, np.ones(len(fall))))
        inverse = np.linalg.pinv(design[kept].T @ design[kept])
        weights = inverse @ design[kept].T @ fall[kept]
        residual = fall - design @ weights
        spread = 1.4826 * float(np.median(np.abs(residual[kept])))
        freedom = np.count_nonzero(kept) - 3
        error = math.sqrt(float(inverse[0, 0]) * float((residual[kept] ** 2).sum()) / freedom)
        kept = np.abs(residual) <= max(3 * spread, 1e-9)
    return float(weights[0]), error


def _by_acceptance(attempts: _Attempts, keys: np.ndarray) -> KeysShared:
    if why := _too_little(attempts):
        return KeysShared(UNKNOWN, why)
    together = min(fit.wrong for fit in _fits(attempts))
    apart = dict.fromkeys(BEHAVIOURS, 0)
    for one in np.unique(keys):
        mine = keys == one
        own = _Attempts(attempts.at_s[mine], attempts.taken[mine], attempts.cost[mine])
        if own.taken.all():  # a limit that was not reached agrees with everything
            continue
        fits = {fit.behaviour: fit.wrong for fit in _fits(own)}
        for behaviour in BEHAVIOURS:
            apart[behaviour] += fits.get(behaviour, own.trivial)
    separate = min(apart.values())
    why = f"one limiter for all disagrees with {together} attempts, one for each key with {separate}"
    allowed = TOLERATED * attempts.trivial
    if together <= allowed and _clearly_fewer(together, separate):
        return KeysShared("shared", why, "acceptance")
    if separate <= allowed and _clearly_fewer(separate, together):
        return KeysShared("separate", why, "acceptance")
    return KeysShared(UNKNOWN, why)
