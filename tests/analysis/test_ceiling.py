"""The ceiling from simulated limiters: what it is called, its rate and interval, and when nothing is said.

`_sweep` over 100 seeds, 600 runs of five minutes, with limits of 20-600 requests/min or the like in tokens, a load of
1.1-2.5 times the limit, Poisson or in bursts of 20 (2026-11):

    delay before the limiter    verdict right    unknown    wrong    interval covers the truth
    none                        576 of 600       24         0        575 of 576
    exponential, mean 30 ms     535 of 600       65         0        532 of 535

By limiter (bucket, fixed window, sliding window): right 195, 194, 187 without delay and 168, 184, 183 with it.
"""

from collections import Counter, deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.analysis.ceiling import (
    BEFORE_REFUSALS,
    BEHAVIOURS,
    LEAST,
    MOST_ATTEMPTS,
    UNKNOWN,
    Ceiling,
    ceiling,
    keys_shared,
)

Limiter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def poisson(rng: np.random.Generator, rpm: float, seconds: float) -> np.ndarray:
    at = np.cumsum(rng.exponential(60 / rpm, int(rpm / 60 * seconds * 1.3 + 50)))
    return at[at < seconds]


def bursty(rng: np.random.Generator, rpm: float, seconds: float, size: int = 20) -> np.ndarray:
    bursts = [at + np.cumsum(rng.exponential(0.05, rng.poisson(size))) for at in poisson(rng, rpm / size, seconds)]
    at = np.sort(np.concatenate([np.empty(0), *bursts]))
    return at[at < seconds]


def bucket(rate: float, burst: float) -> Limiter:
    def taken(at: np.ndarray, cost: np.ndarray) -> np.ndarray:
        level, last, found = burst, 0.0, []
        for now, price in zip(at, cost, strict=True):
            level, last = min(burst, level + rate * (now - last)), now
            found.append(level >= price)
            level -= price if found[-1] else 0
        return np.array(found, dtype=bool)

    return taken


def fixed(limit: float, length: float, phase: float = 0.0) -> Limiter:
    def taken(at: np.ndarray, cost: np.ndarray) -> np.ndarray:
        window, used, found = None, 0.0, []
        for now, price in zip(at, cost, strict=True):
            if (number := np.floor((now - phase) / length)) != window:
                window, used = number, 0.0
            found.append(used + price <= limit)
            used += price if found[-1] else 0
        return np.array(found, dtype=bool)

    return taken


def sliding(limit: float, length: float) -> Limiter:
    def taken(at: np.ndarray, cost: np.ndarray) -> np.ndarray:
        inside: deque[tuple[float, float]] = deque()
        used, found = 0.0, []
        for now, price in zip(at, cost, strict=True):
            while inside and inside[0][0] <= now - length:
                used -= inside.popleft()[1]
            found.append(used + price <= limit)
            if found[-1]:
                inside.append((now, price))
                used += price
        return np.array(found, dtype=bool)

    return taken


def measured(at: np.ndarray, cost: np.ndarray, limiter: Limiter, delay: np.ndarray | None = None) -> Ceiling:
    """What is made of attempts that were sent `delay` before they reached the limiter."""
    taken = limiter(at, cost)
    sent = at if delay is None else at - delay
    order = np.argsort(sent, kind="stable")
    return ceiling(sent[order] * 1e9, taken[order], cost[order])


def covers(found: Ceiling, per_min: float) -> bool:
    assert found.ci95 is not None
    assert found.rate_per_min is not None
    assert found.ci95[0] <= found.rate_per_min <= found.ci95[1]
    return found.ci95[0] <= per_min * (1 + 1e-9) and found.ci95[1] >= per_min * (1 - 1e-9)


@pytest.mark.parametrize("arrivals", [poisson, bursty])
def test_a_bucket_of_requests(arrivals: Callable[..., np.ndarray]) -> None:
    at = arrivals(np.random.default_rng(3), 300, 240)
    found = measured(at, np.ones(len(at)), bucket(2.0, 25.0))
    assert found.behaviour == "bucket"
    assert found.disagreements == 0
    assert covers(found, 120)
    assert found.rate_per_min == pytest.approx(120, rel=0.01)
    assert found.burst == pytest.approx(25, abs=1.5)
    assert found.window_s is None
    assert found.accepted + found.refused == len(at)
    assert found.accepted_per_min == pytest.approx(120, rel=0.1)


def test_a_bucket_that_is_often_full() -> None:
    at = bursty(np.random.default_rng(5), 60, 1200, size=40)
    found = measured(at, np.ones(len(at)), bucket(2.0, 10.0))
    assert found.behaviour == "bucket"
    assert covers(found, 120)
    assert found.accepted_per_min is not None
    assert found.accepted_per_min < 60  # the demand, not the limit


@pytest.mark.parametrize("length", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("phase", [0.0, 0.31, 0.77])
def test_a_fixed_window_at_any_phase(length: float, phase: float) -> None:
    at = poisson(np.random.default_rng(7), 600, 300)
    limit = 5 * length
    found = measured(at, np.ones(len(at)), fixed(limit, length, phase * length))
    assert (found.behaviour, found.window_s, found.burst) == ("fixed_window", length, None)
    assert found.rate_per_min == 300
    assert covers(found, 300)


def test_a_sliding_window() -> None:
    at = poisson(np.random.default_rng(9), 300, 300)
    found = measured(at, np.ones(len(at)), sliding(20, 10))
    assert (found.behaviour, found.window_s, found.rate_per_min) == ("sliding_window", 10.0, 120.0)
    assert covers(found, 120)


def test_tokens() -> None:
    rng = np.random.default_rng(11)
    at = poisson(rng, 200, 300)
    cost = np.exp(rng.normal(7, 0.6, len(at))).round()
    for limiter, behaviour in (
        (bucket(2000, 30_000), "bucket"),
        (fixed(120_000, 60, 17), "fixed_window"),
        (sliding(120_000, 60), "sliding_window"),
    ):
        found = measured(at, cost, limiter)
        assert found.behaviour == behaviour
        assert found.rate_per_min == pytest.approx(120_000, rel=0.02)
        assert covers(found, 120_000)


@pytest.mark.parametrize("seed", [0, 3, 4, 5])
def test_cheap_attempts_do_not_hide_where_a_window_begins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = poisson(rng, 300, 200)
    cost = np.exp(rng.normal(7, 1.5, len(at))).round()  # many fit in after a refusal, in the middle of a window
    found = measured(at, cost, fixed(600_000, 60, 33.3))
    assert (found.behaviour, found.disagreements) == ("fixed_window", 0)
    assert covers(found, 600_000)


@pytest.mark.parametrize("seed", [4, 5, 9])
def test_delays_do_not_pull_down_the_rate_of_a_window(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = bursty(rng, 800, 300)
    found = measured(at, np.ones(len(at)), fixed(66, 10, 3.3), rng.exponential(0.03, len(at)))
    assert found.behaviour == "fixed_window"
    assert found.rate_per_min == pytest.approx(396, rel=0.003)
    assert covers(found, 396)


@pytest.mark.parametrize("seed", range(4))
def test_delays_on_the_way_widen_the_interval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = poisson(rng, 400, 300)
    delay = rng.exponential(0.02, len(at))
    for limiter, behaviour in ((fixed(40, 10, 3), "fixed_window"), (bucket(4, 30), "bucket")):
        found = measured(at, np.ones(len(at)), limiter, delay)
        assert found.behaviour in (behaviour, UNKNOWN)
        if found.behaviour != UNKNOWN:
            assert found.disagreements
            assert covers(found, 240)


def test_too_little_data_gives_no_verdict() -> None:
    nothing = ceiling(np.empty(0), np.empty(0, dtype=bool), np.empty(0))
    assert (nothing.behaviour, nothing.accepted_per_min, nothing.rate_per_min) == (UNKNOWN, None, None)
    at = np.arange(100.0)
    taken = np.ones(100, dtype=bool)
    assert ceiling(at * 1e9, taken, np.ones(100)).why == "too few refusals: 0, 10 are needed"
    taken[[5]] = False
    assert ceiling(at * 1e9, taken, np.ones(100)).accepted_per_min is None
    taken[-LEAST:] = False
    taken[5] = True
    found = ceiling(at * 1e9, taken, np.ones(100))
    assert found.why == "too few attempts taken after the first refusal: 0, 10 are needed"
    assert (found.behaviour, found.ci95, found.accepted, found.refused) == (UNKNOWN, None, 90, 10)
    together = ceiling(np.zeros(40), np.arange(40) % 2 == 0, np.ones(40))
    assert (together.behaviour, together.accepted_per_min) == (UNKNOWN, None)


def test_windows_that_were_not_seen_to_end_are_not_claimed() -> None:
    at = poisson(np.random.default_rng(1), 300, 100)
    found = measured(at, np.ones(len(at)), fixed(100, 60, 10))
    assert found.behaviour != "fixed_window"


def test_what_no_limiter_explains_gives_no_verdict() -> None:
    rng = np.random.default_rng(13)
    at = poisson(rng, 200, 300)
    found = ceiling(at * 1e9, rng.random(len(at)) < 0.6, np.ones(len(at)))
    assert found.behaviour == UNKNOWN
    assert found.why.startswith("no limiter explains it")
    assert found.disagreements
    seen = rng.random(len(at)) < 0.5  # the rest is traffic that is not ours
    taken = bucket(2, 20)(at, np.ones(len(at)))
    assert ceiling(at[seen] * 1e9, taken[seen], np.ones(seen.sum())).behaviour == UNKNOWN


def test_two_limiters_that_explain_it_equally_well_give_no_verdict() -> None:
    # One burst a minute, twice the limit: a bucket that is full again and any window take the same ones.
    at = np.sort(np.concatenate([60.0 * minute + np.arange(20) * 0.01 for minute in range(8)]))
    found = measured(at, np.ones(len(at)), fixed(10, 60, 30))
    assert found.behaviour == UNKNOWN
    assert "explain it about equally well" in found.why


def test_a_long_run_is_cut() -> None:
    at = np.arange(MOST_ATTEMPTS * 2) * 0.5
    taken = np.arange(len(at)) % 2 == 0
    found = ceiling(at * 1e9, taken, np.ones(len(at)))
    assert found.accepted + found.refused == MOST_ATTEMPTS
    assert "(looked at 20,000 of 40,000 attempts, from number 1 on)" in found.why


@pytest.mark.parametrize("stray", [[], [100]])
def test_a_long_run_that_meets_its_limit_late_is_cut_around_that(stray: list[int]) -> None:
    """20,000 attempts below the limit, then a load above it; a single early refusal does not draw the cut to itself."""
    rng = np.random.default_rng(3)
    quiet = np.cumsum(rng.exponential(2.0, 20_000))
    at = np.concatenate((quiet, quiet[-1] + np.cumsum(rng.exponential(0.25, 3_000))))
    taken, cost = bucket(2.0, 25.0)(at, np.ones(len(at))), np.ones(len(at))
    taken[stray] = False
    found = ceiling(at * 1e9, taken, cost)
    assert found.behaviour == "bucket"
    assert covers(found, 120)
    assert "from number 3,001 on" in found.why


@pytest.mark.long
def test_keys_of_a_long_run_are_told_from_where_refusals_begin() -> None:
    rng = np.random.default_rng(3)
    at = np.concatenate((np.arange(20_000) * 2.0, 40_000 + np.cumsum(rng.exponential(0.25, 2_000))))
    taken, key = bucket(2.0, 25.0)(at, np.ones(len(at))), rng.integers(0, 2, len(at))
    assert keys_shared(at * 1e9, taken, np.ones(len(at)), key).verdict == "shared"


def test_a_cut_begins_shortly_before_the_refusals() -> None:
    taken = np.arange(60_000) < 30_000
    taken[30_000::2] = True
    found = ceiling(np.arange(60_000) * 1e8, taken, np.ones(60_000))
    assert f"from number {30_001 - BEFORE_REFUSALS + 1:,} on" in found.why
    assert found.refused == (MOST_ATTEMPTS - BEFORE_REFUSALS) // 2


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.booleans(), st.integers(1, 10**6), st.integers(0, 2)),
        max_size=120,
    )
)
def test_anything_gives_a_verdict(rows: list[tuple[int, bool, int, int]]) -> None:
    rows.sort(key=lambda row: row[0])
    times, taken, cost, key = (np.array([row[place] for row in rows]) for place in range(4))
    found = ceiling(times, taken.astype(bool), cost)
    assert found.behaviour in (*BEHAVIOURS, UNKNOWN)
    assert (found.ci95 is None) == (found.behaviour == UNKNOWN)
    left = np.where(cost % 3 == 0, np.nan, cost)
    assert keys_shared(times, taken.astype(bool), cost, key, left).verdict in ("shared", "separate", UNKNOWN)


def _sweep(seeds: range, delay_s: float, seconds: float = 300) -> dict[str, Counter[str]]:
    """Verdicts over random limits, loads, costs and phases, by the limiter behind them."""
    found: dict[str, Counter[str]] = {behaviour: Counter() for behaviour in BEHAVIOURS}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for behaviour in BEHAVIOURS:
            for arrivals in (poisson, bursty):
                rpm = float(np.exp(rng.uniform(np.log(20), np.log(600))))
                at = arrivals(rng, rpm * rng.uniform(1.1, 2.5), seconds)
                in_tokens = rng.random() < 0.5
                cost = np.exp(rng.normal(7, 0.6, len(at))).round() if in_tokens else np.ones(len(at))
                unit = float(np.exp(7.18)) if in_tokens else 1.0
                if behaviour == "bucket":
                    truth = rpm * unit
                    burst = max(unit * rng.uniform(1, rpm / 4 + 1), cost.max(initial=1))
                    limiter = bucket(truth / 60, burst)
                else:
                    length = float(rng.choice([10.0, 60.0]))
                    limit = float(np.floor(max(rpm * length / 60 * unit, cost.max(initial=1))))
                    truth = limit * 60 / length
                    phase = rng.uniform(0, length)
                    limiter = fixed(limit, length, phase) if behaviour == "fixed_window" else sliding(limit, length)
                verdict = measured(at, cost, limiter, rng.exponential(delay_s, len(at)) if delay_s else None)
                right = verdict.behaviour == behaviour
                word = "right" if right else UNKNOWN if verdict.behaviour == UNKNOWN else "wrong"
                found[behaviour][word] += 1
                if right:
                    found[behaviour]["covered"] += covers(verdict, truth)
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay_s", [0.0, 0.03])
def test_how_often_the_verdict_is_right(delay_s: float) -> None:
    """A part of the sweep whose figures stand at the top: never a wrong verdict, and intervals that hold the truth."""
    found = _sweep(range(20), delay_s)
    for counts in found.values():
        assert counts["wrong"] == 0, found
        assert counts["covered"] >= 0.95 * counts["right"], found
        assert counts["right"] >= (0.65 if delay_s else 0.85) * 40, found


# --- several keys


def two_keys(seed: int, *, limiter: Callable[[], Limiter], shared: bool, rpm: float = 200) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    at = poisson(rng, rpm, 300)
    key = rng.integers(0, 2, len(at))
    cost = np.ones(len(at))
    if shared:
        taken = limiter()(at, cost)
    else:
        taken = np.zeros(len(at), dtype=bool)
        for one in (0, 1):
            taken[key == one] = limiter()(at[key == one], cost[key == one])
    return at * 1e9, taken, cost, key


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("limiter", [lambda: bucket(1.0, 15.0), lambda: fixed(10, 10, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_keys_by_what_was_taken(seed: int, limiter: Callable[[], Limiter], shared: bool) -> None:
    found = keys_shared(*two_keys(seed, limiter=limiter, shared=shared))
    assert found.verdict in ("shared" if shared else "separate", UNKNOWN)
    assert (found.verdict == UNKNOWN) == (found.by is None)
    if seed == 0:
        assert found.verdict != UNKNOWN, found


def test_a_key_that_never_reached_its_limit_agrees_with_limits_of_its_own() -> None:
    at, _, cost, _ = two_keys(1, limiter=lambda: bucket(1, 1), shared=True)
    key = (np.arange(len(at)) % 10 == 0).astype(int)
    taken = np.ones(len(at), dtype=bool)
    taken[key == 0] = bucket(1.0, 15.0)(at[key == 0] / 1e9, cost[key == 0])
    assert keys_shared(at, taken, cost, key).verdict == "separate"


def test_a_key_that_got_nothing_after_its_first_refusal_has_a_limit_of_its_own() -> None:
    """All in one instant: one key refused every time, another never."""
    at, taken = np.zeros(21), np.arange(21) >= 11
    key = np.repeat([0, 1, 2], [10, 1, 10])
    assert keys_shared(at, taken, np.ones(21), key).verdict == "separate"


def reported(at: np.ndarray, key: np.ndarray, *, shared: bool, rate: float, size: float) -> np.ndarray:
    """What is left after each attempt of a bucket, in whole requests; nothing is ever refused."""
    level: dict[int, tuple[float, float]] = {}
    left = []
    for now, one in zip(at / 1e9, key, strict=True):
        which = 0 if shared else int(one)
        before, last = level.get(which, (size, 0.0))
        level[which] = (min(size, before + rate * (now - last)) - 1, now)
        left.append(np.floor(level[which][0]))
    return np.array(left)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_keys_by_headers(seed: int, shared: bool) -> None:
    at, _, cost, key = two_keys(seed, limiter=lambda: bucket(1, 1), shared=True, rpm=300)
    left = reported(at, key, shared=shared, rate=1.5, size=4000)
    found = keys_shared(at, np.ones(len(at), dtype=bool), cost, key, left)
    assert (found.verdict, found.by) == ("shared" if shared else "separate", "headers")
    windows = left + 300 * np.floor(at / 60e9)  # the figure jumps each minute
    again = keys_shared(at, np.ones(len(at), dtype=bool), cost, key, windows)
    assert again.verdict == found.verdict


def test_a_limit_that_is_always_full_says_nothing_about_keys() -> None:
    at, _, cost, key = two_keys(2, limiter=lambda: bucket(1, 1), shared=True, rpm=100)
    left = np.full(len(at), 499.0)
    found = keys_shared(at, np.ones(len(at), dtype=bool), cost, key, np.where(np.arange(len(at)) == 0, 500.0, left))
    assert (found.verdict, found.by) == (UNKNOWN, None)


def test_headers_that_contradict_what_was_taken_give_no_verdict() -> None:
    at, taken, cost, key = two_keys(0, limiter=lambda: bucket(1.0, 15.0), shared=True)
    apart = np.empty(len(at))
    for one in (0, 1):  # what is left of a limit of its own: falls by what this key used and nothing else
        mine = key == one
        apart[mine] = 4000 - np.cumsum(taken[mine])
    found = keys_shared(at, taken, cost, key, apart)
    assert found.verdict == UNKNOWN
    assert found.why.startswith("headers say separate")


def test_headers_that_agree_decide() -> None:
    at, taken, cost, key = two_keys(0, limiter=lambda: bucket(1.0, 15.0), shared=True)
    left = 4000 - np.cumsum(taken).astype(float)
    assert keys_shared(at, taken, cost, key, left).by == "headers"
    assert keys_shared(at, taken, cost, key, np.full(len(at), np.nan)).by == "acceptance"


def test_keys_without_data() -> None:
    at, taken, cost, key = two_keys(0, limiter=lambda: bucket(1.0, 15.0), shared=True)
    assert keys_shared(at, taken, cost, np.zeros(len(at))).why == "fewer than two keys with 10 attempts"
    assert keys_shared(at, np.ones(len(at), dtype=bool), cost, key).why.startswith("too few refusals")
    few = keys_shared(at, np.ones(len(at), dtype=bool), cost, key, np.where(np.arange(len(at)) < 5, 9.0, np.nan))
    assert few.why == "too few reports of what is left"
    rng = np.random.default_rng(0)
    noise = keys_shared(at, rng.random(len(at)) < 0.6, cost, key)
    assert (noise.verdict, noise.by) == (UNKNOWN, None)
    same = keys_shared(at, np.ones(len(at), dtype=bool), cost, key, rng.normal(1000, 300, len(at)))
    assert same.verdict == UNKNOWN
