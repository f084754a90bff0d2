"""Arrivals of an open loop: the right process, the same everywhere, and only ever cut by the end of the step."""

import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latbench.model.load import Burst, Closed, Constant, Gamma, Poisson, Ramp, Sessions, Shape, Step, ToolLoop, Trace
from latbench.plan.arrivals import MAX_ARRIVALS, _log, arrivals, digest, sequence

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
RATES = st.floats(0.01, 5000.0)
SEEDS = st.integers(0, 2**63 - 1)


def trace(*offsets_ns: int) -> Trace:
    nothing = np.zeros(len(offsets_ns), dtype="<i4").tobytes()
    return Trace("times.csv", np.array(offsets_ns, dtype="<i8").tobytes(), nothing, nothing)


def gaps_of(shape: Shape, requests: int = 100_000, seed: int = 11) -> np.ndarray:
    """Seconds between arrivals, the first from the start."""
    return np.diff(arrivals(Step(shape, requests=requests), seed, 0), prepend=0) / SECOND


LASTING: list[Shape] = [  # what does not depend on the duration
    Constant(170.0),
    Poisson(170.0),
    Gamma(170.0, 3.0),
    Gamma(170.0, 0.25),
    Burst(7, 90_000_001),
    trace(0, 0, 5, *range(5, 20 * SECOND, SECOND // 97)),
    Sessions(170.0, 3),
    ToolLoop(170.0, 3),
]


# --- constant --------------------------------------------------------------------------------------------------


@given(RATES, st.integers(0, 3000))
def test_constant_arrivals_are_the_exact_multiples(rate: float, requests: int) -> None:
    exact = [(2 * SECOND * k / Fraction(rate) + 1) // 2 for k in range(requests)]
    assert arrivals(Step(Constant(rate), requests=requests), 0, 0).tolist() == exact


def test_constant_arrivals_do_not_drift() -> None:
    offsets = arrivals(Step(Constant(3.3), requests=10_000_001), 0, 0)
    assert len(offsets) == 10_000_001
    for k in (*range(0, 10_000_001, 99_991), 10_000_000):
        assert abs(int(offsets[k]) - k * SECOND / Fraction(3.3)) <= Fraction(1, 2)
    assert set(np.unique(np.diff(offsets)).tolist()) == {303_030_303, 303_030_304}


@given(RATES, st.integers(0, 3 * SECOND))
def test_constant_arrivals_end_where_the_step_does(rate: float, duration_ns: int) -> None:
    offsets = arrivals(Step(Constant(rate), duration_ns=duration_ns), 0, 0).tolist()
    assert offsets == sorted(offsets)
    assert all(offset < duration_ns for offset in offsets)
    assert (2 * SECOND * len(offsets) / Fraction(rate) + 1) // 2 >= duration_ns  # the next one would be too late


def test_a_period_beyond_all_time_still_has_its_first_arrival() -> None:
    assert arrivals(Step(Constant(1e-12), requests=5), 0, 0).tolist() == [0]


# --- random shapes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_poisson_gaps_are_exponential(seed: int) -> None:
    assert stats.kstest(gaps_of(Poisson(40.0), seed=seed), stats.expon(scale=1 / 40).cdf).pvalue > 0.001


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
def test_gamma_gaps_have_their_mean_and_spread(cv: float) -> None:
    """Gaps of less than a microsecond are only counted: at 2.5 every fifteenth is shorter than a nanosecond tells."""
    gaps, short_s = gaps_of(Gamma(40.0, cv)), 1e-6
    exact = stats.gamma(cv**-2, scale=cv**2 / 40)
    below = float(exact.cdf(short_s))
    long = gaps[gaps > short_s]
    assert stats.kstest(long, lambda gap: (exact.cdf(gap) - below) / (1 - below)).pvalue > 0.001
    assert stats.binomtest(len(gaps) - len(long), len(gaps), below).pvalue > 0.001
    assert gaps.mean() * 40 == pytest.approx(1.0, abs=4 * cv / np.sqrt(len(gaps)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


def test_the_test_of_the_distributions_can_fail() -> None:
    exponential = stats.expon(scale=1 / 40).cdf
    for other in (Poisson(40.8), Gamma(40.0, 1.05), Constant(40.0)):
        assert stats.kstest(gaps_of(other), exponential).pvalue < 0.001


@pytest.mark.parametrize("shape", [Poisson(40.0), Gamma(40.0, 2.0)])
def test_one_gap_says_nothing_of_the_next(shape: Shape) -> None:
    gaps = gaps_of(shape)
    assert abs(stats.spearmanr(gaps[:-1], gaps[1:]).statistic) < 4 / np.sqrt(len(gaps))


@pytest.mark.parametrize(("start", "end"), [(5.0, 400.0), (400.0, 5.0), (0.0, 300.0), (300.0, 0.0), (150.0, 150.0)])
def test_a_ramp_has_the_rate_of_every_moment(start: float, end: float) -> None:
    """Its arrivals under the integral of its rate are a poisson process of rate 1, and so are those of its warm-up."""
    warmup_s, ramp_s = 20.0, 100.0
    step = Step(Ramp(start, end), warmup_ns=int(warmup_s * SECOND), duration_ns=int(ramp_s * SECOND))
    offsets = arrivals(step, 3, 0) / SECOND
    inside = np.clip(offsets - warmup_s, 0.0, None)
    units = start * np.minimum(offsets, warmup_s) + start * inside + (end - start) * inside**2 / (2 * ramp_s)
    assert stats.kstest(np.diff(units, prepend=0.0), stats.expon.cdf).pvalue > 0.001
    expected = start * warmup_s + (start + end) / 2 * ramp_s
    assert abs(len(offsets) - expected) < 4 * np.sqrt(expected)
    late = np.count_nonzero(offsets >= warmup_s + ramp_s / 2)
    expected_late = (start + 3 * end) / 8 * ramp_s
    assert abs(late - expected_late) < 4 * np.sqrt(expected_late)


def test_nothing_comes_after_a_ramp_however_many_are_wanted() -> None:
    step = Step(Ramp(100.0, 0.0), duration_ns=SECOND)
    assert arrivals(msgspec.structs.replace(step, requests=10_000), 0, 0).tolist() == arrivals(step, 0, 0).tolist()
    assert arrivals(Step(Ramp(0.0, 0.0), duration_ns=SECOND), 0, 0).tolist() == []


@given(SEEDS, RATES)
def test_twice_the_rate_is_half_the_time(seed: int, rate: float) -> None:
    once = arrivals(Step(Poisson(rate), requests=500), seed, 1)
    twice = arrivals(Step(Poisson(2 * rate), requests=500), seed, 1)
    assert np.abs(once - 2 * twice).max() <= 2
    assert arrivals(Step(Sessions(rate, 9), requests=500), seed, 1).tolist() == once.tolist()


def test_the_mean_rate_holds_for_hours() -> None:
    offsets = arrivals(Step(Poisson(200.0), duration_ns=5 * HOUR), 2, 0)
    assert abs(len(offsets) - 3_600_000) < 4 * np.sqrt(3_600_000)
    assert (np.diff(offsets) >= 0).all()


# --- burst and trace -------------------------------------------------------------------------------------------


def test_bursts_come_at_once_and_again() -> None:
    step = Step(Burst(3, 30 * SECOND), duration_ns=61 * SECOND)
    assert arrivals(step, 0, 0).tolist() == [0] * 3 + [30 * SECOND] * 3 + [60 * SECOND] * 3
    assert arrivals(Step(Burst(3, SECOND), duration_ns=SECOND), 0, 0).tolist() == [0] * 3
    assert arrivals(Step(Burst(3, SECOND), requests=4), 0, 0).tolist() == [0, 0, 0, SECOND]


def test_a_trace_is_replayed_up_to_the_end() -> None:
    offsets = (0, 5, 5, SECOND - 1, SECOND, 2 * SECOND)
    assert arrivals(Step(trace(*offsets), duration_ns=SECOND), 0, 0).tolist() == [0, 5, 5, SECOND - 1]
    assert arrivals(Step(trace(*offsets), requests=3), 0, 0).tolist() == [0, 5, 5]
    assert arrivals(Step(trace(*offsets), requests=30), 0, 0).tolist() == list(offsets)


# --- one plan --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", LASTING, ids=lambda shape: type(shape).__name__)
def test_longer_plans_begin_with_shorter_ones(shape: Shape) -> None:
    whole = arrivals(Step(shape, duration_ns=900 * SECOND), 5, 2)
    assert whole.dtype == np.int64
    assert (np.diff(whole) >= 0).all()
    assert whole[0] >= 0
    edge_ns = int(whole[len(whole) // 2])
    for end_ns in (0, 1, 8 * SECOND + 7, 450 * SECOND, edge_ns, edge_ns + 1):  # more than one block of gaps apart
        shorter = arrivals(Step(shape, warmup_ns=end_ns // 3, duration_ns=end_ns - end_ns // 3), 5, 2)
        assert shorter.tolist() == whole[whole < end_ns].tolist()
    for requests in (0, 1, 100, len(whole)):
        assert arrivals(Step(shape, requests=requests), 5, 2).tolist() == whole[:requests].tolist()
        both = arrivals(Step(shape, requests=requests, duration_ns=SECOND), 5, 2)
        assert both.tolist() == whole[whole < SECOND][:requests].tolist()


@pytest.mark.parametrize("shape", [Poisson(50.0), Gamma(50.0, 2.0), Ramp(50.0, 90.0)])
def test_steps_and_seeds_have_streams_of_their_own(shape: Shape) -> None:
    step = Step(shape, duration_ns=200 * SECOND)
    plans = [arrivals(step, seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 10), (10, 0))]
    assert len({digest(plan) for plan in plans}) == len(plans)
    gaps = [np.diff(plan)[:9000] for plan in plans]
    for one, other in pairwise(gaps):
        assert abs(stats.spearmanr(one, other).statistic) < 4 / np.sqrt(len(one))


def test_a_seed_gives_the_same_plan_in_every_release() -> None:
    """A change here changes what every stored seed means: say so in the changelog."""
    assert digest(arrivals(Step(Poisson(4.0), requests=1000), 7, 0)) == (
        "30f4918f96ce834eaf8a5ec9d3329dc52f76526ab7fe0fee0fe3bea710fc0e2b"
    )
    assert digest(arrivals(Step(Ramp(1.0, 9.0), duration_ns=100 * SECOND), 7, 1)) == (
        "e3dd729f75081b10043a4374af8fde137999ff247c85c237a10dd42271f49879"
    )


def test_the_plan_does_not_depend_on_the_processor() -> None:
    """numpy computes with other instructions where it has them, and its own logarithm is another one with each."""
    code = (
        "import numpy as np\n"
        "from latbench.model.load import Poisson, Ramp, Step\n"
        "from latbench.plan.arrivals import _log, arrivals, digest\n"
        "print(hash(_log(np.arange(1, 100_000) / 100_000).tobytes()),"
        " digest(arrivals(Step(Poisson(3.0), requests=300_000), 1, 0)),"
        " digest(arrivals(Step(Ramp(1.0, 900.0), duration_ns=10**11), 1, 0)))\n"
    )
    have = np._core._multiarray_umath  # type: ignore[attr-defined]
    features = " ".join(name for name in have.__cpu_dispatch__ if have.__cpu_features__.get(name))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": "1", "NPY_DISABLE_CPU_FEATURES": disabled},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for disabled in ("", features)
    }
    assert len(outputs) == 1


def test_the_logarithm_is_one() -> None:
    values = np.concatenate([np.arange(1, 100_000) / 100_000, [2.0**-53, 0.5**0.5, 1 - 2.0**-53, 1.0]])
    np.testing.assert_allclose(_log(values), np.log(values), rtol=1e-15, atol=0)


def test_a_digest_tells_plans_apart() -> None:
    offsets = arrivals(Step(Poisson(4.0), requests=100), 7, 0)
    assert digest(offsets) == digest(offsets.copy())
    assert len(digest(offsets)) == 64
    moved = offsets.copy()
    moved[50] += 1
    assert len({digest(offsets), digest(moved), digest(offsets[:-1])}) == 3


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        Step(Constant(1e6), duration_ns=21 * SECOND),
        Step(Constant(1.0), requests=MAX_ARRIVALS + 1),
        Step(Burst(1000, 1), duration_ns=SECOND),
        Step(Poisson(1e6), duration_ns=21 * SECOND),
        Step(Sessions(1.0, 2)),
    ],
)
def test_more_than_anybody_can_mean_is_refused(step: Step) -> None:
    with pytest.raises(ValueError, match="more than 20,000,000 arrivals: lower its rate, requests or duration"):
        arrivals(step, 0, 0)


def test_the_most_is_allowed() -> None:
    assert len(arrivals(Step(Burst(1000, 1), requests=MAX_ARRIVALS), 0, 0)) == MAX_ARRIVALS


def test_a_closed_loop_has_no_arrivals() -> None:
    with pytest.raises(ValueError, match="a closed loop has no arrivals"):
        arrivals(Step(Closed(4), requests=8), 0, 0)


def test_a_ramp_without_a_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="a ramp needs a duration"):
        arrivals(Step(Ramp(1.0, 2.0), requests=8), 0, 0)


def test_sequence_numbers_of_an_arrival() -> None:
    assert sequence(Step(Sessions(1.0, 6), requests=1)) == 6
    assert sequence(Step(ToolLoop(1.0, 5), requests=1)) == 5
    assert sequence(Step(Poisson(1.0), requests=1)) == 1
    assert sequence(Step(Closed(1), requests=1)) == 1
