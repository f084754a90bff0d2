"""The schedule: medians, determinism, the knee."""

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim import draws
from latbench.sim.timing import Timing

MS = 1_000_000
TIMING = Timing(seed=3, ttft_ns=200 * MS, itl_ns=15 * MS, prefill_rate=8000.0, jitter=0.2, slowdown=0.02)
STEADY = Timing(seed=3, ttft_ns=200 * MS, itl_ns=15 * MS, prefill_rate=8000.0, jitter=0.0, slowdown=0.02)


def test_without_jitter_the_formulas_hold_exactly() -> None:
    schedule = STEADY.schedule(1)
    assert schedule.ttft_ns(0, 1) == 200 * MS
    assert schedule.ttft_ns(8000, 1) == 1200 * MS
    assert schedule.ttft_ns(8000, 11) == 1440 * MS
    assert [schedule.itl_ns(1), schedule.itl_ns(11)] == [15 * MS, 18 * MS]


def test_nobody_active_counts_as_one() -> None:
    assert STEADY.crowding(0) == STEADY.crowding(1) == 1.0


def test_medians_and_spread_of_the_noise() -> None:
    firsts = [TIMING.schedule(number).ttft_ns(0, 1) for number in range(4000)]
    assert statistics.median(firsts) == pytest.approx(200 * MS, rel=0.02)
    schedule = TIMING.schedule(7)
    gaps = [schedule.itl_ns(1) for _ in range(4000)]
    assert statistics.median(gaps) == pytest.approx(15 * MS, rel=0.02)
    above = sum(gap > 15 * MS * 2.718281828**0.2 for gap in gaps) / len(gaps)
    assert above == pytest.approx(0.159, abs=0.02)  # one sigma of the logarithm
    assert len(set(gaps)) > 3900


def test_throughput_has_a_knee_at_the_slots() -> None:
    """Tokens per second of c streams rise with c, less and less; at the slots they stop, as no more are active."""

    def throughput(concurrency: int, slots: int = 16) -> float:
        active = min(concurrency, slots)
        return active / STEADY.schedule(0).itl_ns(active)

    rates = [throughput(concurrency) for concurrency in range(1, 40)]
    gains = [later - earlier for earlier, later in pairwise(rates[:16])]
    assert all(gain > 0 for gain in gains)
    assert gains == sorted(gains, reverse=True)
    assert len(set(rates[15:])) == 1


@given(st.integers(0, 2**70), st.integers(0, 10**9))
def test_a_schedule_depends_on_seed_and_number_only(seed: int, number: int) -> None:
    timing = Timing(seed=seed, ttft_ns=MS, itl_ns=MS, prefill_rate=1.0, jitter=0.5, slowdown=0.0)
    one, other = timing.schedule(number), timing.schedule(number)
    gaps = [one.itl_ns(1) for _ in range(5)]
    assert other.ttft_ns(0, 1) == one.ttft_ns(0, 1)  # drawn after the gaps there, before them here
    assert [other.itl_ns(1) for _ in range(5)] == gaps
    assert timing.schedule(number + 1).itl_ns(1) != gaps[0]


@given(st.integers(1, 10**6), st.floats(0, 1), st.integers(0, 1000))
def test_answers_keep_within_their_bounds(limit: int, early_stop: float, number: int) -> None:
    tokens = TIMING.schedule(number).answer_tokens(limit, early_stop)
    assert max(1, int(limit * (1 - early_stop))) <= tokens <= limit


def test_lengths_spread_evenly_over_the_share() -> None:
    lengths = [TIMING.schedule(number).answer_tokens(1000, 0.4) for number in range(2000)]
    assert statistics.mean(lengths) == pytest.approx(800, abs=10)
    assert TIMING.schedule(1).answer_tokens(1000, 0.0) == 1000


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_a_uniform_draw_is_never_an_end_of_its_range(key: int, draw: int) -> None:
    assert 0.0 < draws.uniform(key, draw) < 1.0


def test_normal_draws_are_standard() -> None:
    numbers = [draws.normal(draws.stream_key(1, 2, 3), draw) for draw in range(4000)]
    assert statistics.mean(numbers) == pytest.approx(0.0, abs=0.05)
    assert statistics.stdev(numbers) == pytest.approx(1.0, abs=0.05)
