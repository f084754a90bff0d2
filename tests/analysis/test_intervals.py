"""Intervals against scipy, the worked examples of the statistics reference, and the properties that it lists."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference
from scipy.signal import lfilter

from latbench.analysis.intervals import (
    Ends,
    clopper_pearson,
    holm,
    interval,
    mover,
    mser5,
    rank,
    smallest_n,
    tau,
)

PER_MILLE = (10, 50, 100, 500, 900, 950, 990, 999)


def near(found: float, wanted: float) -> bool:
    return found == pytest.approx(wanted, rel=1e-6)


# --- percentiles and how many values they need ------------------------------------------------------------------------


def test_the_smallest_n_of_the_reference() -> None:
    assert [smallest_n(k) for k in (500, 900, 950, 990, 999)] == [6, 36, 72, 368, 3688]
    assert [smallest_n(k, 0.99) for k in (500, 900, 950, 990, 999)] == [8, 51, 104, 528, 5296]
    assert [smallest_n(k) for k in (10, 50, 100)] == [smallest_n(k) for k in (990, 950, 900)]


# --- autocorrelation time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_tau_of_an_autoregressive_series(phi: float) -> None:
    shocks = np.random.default_rng(2024).standard_normal(200_000)
    assert tau(lfilter([1], [1, -phi], shocks)) == pytest.approx((1 + phi) / (1 - phi), rel=0.12)


def plain_tau(series: np.ndarray) -> float:
    """The definition, by all lags at once."""
    centred = series - series.mean()
    n = len(centred)
    if not centred.any():
        return 1.0
    transform = np.fft.rfft(centred, 2 * n)
    lags = np.fft.irfft(transform * np.conj(transform))[:n]
    running = 1 + 2 * np.cumsum(lags[1:] / lags[0])
    wide = np.arange(1, n) >= 5 * running
    return max(1.0, float(running[np.argmax(wide)] if wide.any() else running[-1]))


@given(st.integers(2, 3000), st.sampled_from((0.0, 0.5, 0.9, 0.99)), st.integers(0, 2**32 - 1))
def test_tau_is_that_of_the_definition_whichever_way_it_is_computed(n: int, phi: float, seed: int) -> None:
    series = lfilter([1], [1, -phi], np.random.default_rng(seed).standard_normal(n)) <= 0.5
    assert tau(series) == pytest.approx(plain_tau(series.astype(float)), rel=1e-6)


def test_tau_of_what_does_not_vary() -> None:
    assert [tau(np.array(series)) for series in ([], [True], [True] * 9)] == [1.0, 1.0, 1.0]


# --- the interval of a percentile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "k", "ranks"),
    [(1000, 950, (934, 964)), (1000, 990, (981, 997)), (10_000, 990, (9878, 9920)), (500, 500, (227, 274))],
)
def test_the_ranks_of_the_reference(n: int, k: int, ranks: tuple[int, int]) -> None:
    found = interval(np.random.default_rng(0).permutation(np.arange(1.0, n + 1)), k)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.estimate == n * k // 1000
    assert found.low <= ranks[0]
    assert found.high >= ranks[1]
    assert found.tau > 1 or (found.low, found.high) == ranks


@pytest.mark.parametrize(("n", "k"), [(500, 500), (1000, 950), (1000, 990), (10_000, 990)])
def test_independent_values_have_the_exact_interval_within_two_ranks(n: int, k: int) -> None:
    values = np.resize([1.0, 2.0], n).cumsum()  # rising: what scipy is given
    exact = reference.quantile_test(np.arange(1.0, n + 1), p=k / 1000).confidence_interval(0.95)
    for seed in range(30):
        found = interval(np.random.default_rng(seed).permutation(values), k)
        assert found is not None
        if found.tau == 1:
            low, high = (int(np.searchsorted(values, end)) + 1 for end in (found.low, found.high))
            assert abs(low - exact.low) <= 2
            assert abs(high - exact.high) <= 2
            return
    raise AssertionError("no permutation without autocorrelation")


def test_a_loaded_queue_tells_less_than_its_requests() -> None:
    """An M/M/1 queue at load 0.8: sojourn times are exponential with mean 5."""
    rng, n = np.random.default_rng(8), 20_000
    serve, gap = rng.exponential(1, n), rng.exponential(1 / 0.8, n)
    wait = np.zeros(n)
    for i in range(1, n):
        wait[i] = max(0, wait[i - 1] + serve[i - 1] - gap[i])
    for k in (500, 950, 990):
        found = interval(wait + serve, k)
        assert found is not None
        truth = -5 * math.log(1 - k / 1000)
        assert found.estimate == pytest.approx(truth, rel=0.25)
        assert found.low is not None
        assert found.high is not None
        assert found.low < truth < found.high
        assert found.n_eff < 1500


def test_an_end_that_the_sample_says_nothing_about_is_none() -> None:
    few = np.random.default_rng(1).permutation(np.arange(212.0))
    high, low, middle = (interval(few, k) for k in (990, 10, 500))
    assert high is not None
    assert low is not None
    assert middle is not None
    assert high.high is None
    assert high.low is not None
    assert low.low is None
    assert low.high is not None
    assert None not in middle.ends
    few = interval(np.array([1.0, 3.0, 2.0]), 500)
    assert few is not None
    assert few.ends == (2.0, None, None)


values = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=300)


@given(values, st.sampled_from(PER_MILLE))
def test_any_values_have_a_defined_answer(given_values: list[float], k: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = interval(np.array(given_values), k)
    finite = sorted(value for value in given_values if math.isfinite(value))
    assert (found is None) == (not finite)
    if found is not None:
        assert found.estimate == finite[rank(len(finite), k) - 1]
        assert found.low is None or (found.low <= found.estimate and found.low in finite)
        assert found.high is None or (found.high >= found.estimate and found.high in finite)
        assert found.tau >= 1
        assert found.n_eff == len(finite) / found.tau


@given(st.integers(400, 2000), st.sampled_from((500, 950, 990)), st.integers(0, 2**32 - 1))
def test_more_confidence_is_wider_and_more_data_narrower(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    given_values = rng.permutation(np.arange(float(n)))
    usual, sure = interval(given_values, k), interval(given_values, k, confidence=0.99)
    assert usual is not None
    assert sure is not None
    assert usual.low is not None
    assert sure.low is not None
    assert sure.low <= usual.low
    assert usual.high is None or sure.high is None or sure.high >= usual.high
    repeated = interval(rng.permutation(np.repeat(given_values, 20)), k)
    assert repeated is not None
    assert repeated.low is not None
    assert repeated.high is not None
    assert usual.high is None or repeated.high - repeated.low <= usual.high - usual.low + 2


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=200), st.sampled_from(PER_MILLE), st.integers(1, 50))
def test_an_interval_scales_and_shifts_with_its_values(given_values: list[int], k: int, by: int) -> None:
    array = np.array(given_values, dtype=float)
    plain = interval(array, k)
    for changed in (by * array, array + by):
        found = interval(changed, k)
        assert plain is not None
        assert found is not None
        same = dict(zip(given_values, changed.tolist(), strict=True))
        assert found.ends == tuple(None if end is None else same[int(end)] for end in plain.ends)
        assert found.n_eff == plain.n_eff


# --- shares -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from((0.9, 0.95, 0.99)))
def test_the_exact_interval_of_a_share(count: int, misses: int, confidence: float) -> None:
    of = count + misses
    found = clopper_pearson(count, of, confidence)
    if not of:
        assert found is None
        return
    wanted = reference.binomtest(count, of).proportion_ci(confidence, method="exact")
    assert found == (pytest.approx(wanted.low, abs=1e-9), pytest.approx(wanted.high, abs=1e-9))


def test_the_exact_intervals_of_the_reference() -> None:
    found = clopper_pearson(10, 100)
    assert found is not None
    assert near(found[0], 0.0490047)
    assert near(found[1], 0.1762226)
    none = clopper_pearson(0, 300, confidence=0.90)  # two-sided 90 % is one-sided 95 %
    assert none is not None
    assert none[1] == pytest.approx(0.0099361, abs=1e-6)


# --- comparing --------------------------------------------------------------------------------------------------------


def test_mover_of_the_reference() -> None:
    found = mover((1, 0.96, 1.05), (1.2, 1.13, 1.29))
    assert found is not None
    for value, wanted in zip(found, (1.2, 1.1106077, 1.3039107), strict=True):
        assert value is not None
        assert near(value, wanted)


@st.composite
def ends(draw: st.DrawFn) -> Ends:
    low, estimate, high = sorted(draw(st.tuples(*(st.floats(0.001, 1e6),) * 3)))
    return estimate, draw(st.sampled_from((low, None))), draw(st.sampled_from((high, None)))


@given(ends(), ends())
def test_swapping_the_sides_turns_a_ratio_over(base: Ends, new: Ends) -> None:
    there, back = mover(base, new), mover(new, base)
    assert there is not None
    assert back is not None
    for one, other in zip(there, (back[0], back[2], back[1]), strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or one == pytest.approx(1 / other)
    alike = mover(base, base)
    assert alike is not None
    assert alike[1] is None or alike[1] <= 1
    assert alike[2] is None or alike[2] >= 1


def test_a_ratio_without_logs_is_none() -> None:
    assert mover((0.0, 0.0, 1.0), (1.0, 0.9, 1.1)) is None
    assert mover((1.0, 0.9, 1.1), (-1.0, None, None)) is None
    found = mover((1.0, 0.0, 1.1), (1.2, 1.1, 1.3))
    assert found is not None
    assert found[1] is not None
    assert found[2] is None


def test_holm_of_the_reference() -> None:
    assert np.allclose(holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])
    fifteen = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    fifteen += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert (holm(fifteen) <= 0.05).sum() == 3
    assert holm([0.9, 0.8, 0.01]).tolist() == pytest.approx([1.0, 1.0, 0.03])
    assert holm([]).tolist() == []


# --- warm-up ----------------------------------------------------------------------------------------------------------


def test_mser5_of_the_reference() -> None:
    assert mser5(np.array([100.0] * 10 + [10, 11, 9, 10, 10] * 8)) == (10, False)
    assert mser5(np.array([10.0, 11, 9, 10, 10] * 10)) == (0, False)
    assert mser5(np.arange(100.0))[1] is True


@pytest.mark.parametrize("n", [0, 1, 9])
def test_mser5_of_too_few_values_finds_no_steady_state(n: int) -> None:
    assert mser5(np.ones(n)) == (0, True)


def plain_mser5(given_values: np.ndarray) -> tuple[int, bool]:
    """The definition."""
    k = len(given_values) // 5
    means = given_values[: k * 5].reshape(k, 5).mean(1)
    found = [((means[d:] - means[d:].mean()) ** 2).sum() / (k - d) ** 2 for d in range(k // 2 + 1)]
    cut = int(np.argmin(np.round(found, 9)))
    return cut * 5, cut == k // 2


@given(st.lists(st.integers(0, 1000), min_size=10, max_size=300))
def test_mser5_is_that_of_the_definition(given_values: list[int]) -> None:
    array = 5.0 * np.array(given_values)  # means of five are whole numbers
    assert mser5(array) == plain_mser5(array)


@given(st.floats(0.001, 1e6), st.integers(10, 500))
def test_what_never_changes_has_no_warm_up(value: float, n: int) -> None:
    assert mser5(np.full(n, value)) == (0, False)


def test_mser5_finds_a_ramp() -> None:
    cuts = []
    for seed in range(100):
        latencies = np.random.default_rng(seed).lognormal(0, 0.5, 1000)
        latencies[:100] *= np.linspace(4, 1, 100)
        cuts.append(mser5(latencies)[0])
    assert 40 <= np.median(cuts) <= 120
