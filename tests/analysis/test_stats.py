"""Order statistics against sorting, numpy's definition, and the numbers of the statistics reference."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from latbench.analysis.intervals import interval, rank, smallest_n
from latbench.analysis.stats import (
    NEED,
    PERCENTILES,
    describe,
    describe_histogram,
    percentile,
    t975,
    wilson,
)
from latbench.metrics.histogram import Histogram

values = st.lists(st.floats(0, 1e9), max_size=400)


def test_ranks_are_computed_in_integers() -> None:
    assert math.ceil(20_000 * (99.9 / 100)) == 19_981  # what floats make of it
    assert rank(20_000, 999) == 19_980
    assert [rank(10, k) for k in (500, 900, 910, 950, 990)] == [5, 9, 10, 10, 10]
    assert rank(1, 1) == 1


@given(st.integers(1, 10**6), st.sampled_from(sorted(PERCENTILES.values())))
def test_the_rank_is_the_ceiling(n: int, k: int) -> None:
    assert rank(n, k) == math.ceil(Fraction(n * k, 1000))


def test_the_smallest_n() -> None:
    assert NEED == {"p1": 368, "p5": 72, "p10": 36, "p50": 6, "p90": 36, "p95": 72, "p99": 368, "p999": 3688}
    assert smallest_n(990) == smallest_n(10)


@given(values)
def test_percentiles_are_observed_rise_and_do_not_depend_on_order(given_values: list[float]) -> None:
    array = np.array(given_values)
    table = describe(array)
    found = [table[name] for name in ("min", *PERCENTILES, "max") if table[name] is not None]
    assert found == sorted(found)
    assert set(found) <= set(given_values)
    assert describe(array[::-1]) == table


@given(values.filter(bool), st.sampled_from(sorted(PERCENTILES.values())))
def test_percentile_is_numpys_inverted_cdf(given_values: list[float], k: int) -> None:
    ordered = np.sort(np.array(given_values))
    low, high = np.quantile(ordered, [k / 1000 - 1e-9, k / 1000 + 1e-9], method="inverted_cdf")
    found = percentile(ordered, k)
    assert found is not None
    assert low <= found <= high


def in_no_order(values: np.ndarray, k: int) -> np.ndarray:
    """The values in an order in which they count in full for the percentile k."""
    for seed in range(50):
        found = np.random.default_rng(seed).permutation(values)
        counted = interval(found, k)
        if counted is not None and counted.tau == 1:
            return found
    raise AssertionError("every order is correlated")


def test_a_percentile_without_enough_values_is_null_and_says_why() -> None:
    table = describe(in_no_order(np.arange(212.0), 990))
    assert (table["p50"], table["p95"], table["p99"], table["p999"], table["p1"]) == (105.0, 201.0, None, None, None)
    assert table["need"]["p99"] == [368, 212]
    assert set(table["need"]) == {"p1", "p99", "p999"}
    assert table["raw"] == {"p50": 105.0, "p95": 201.0, "p99": 209.0}
    assert table["n_eff"]["p99"] == 212
    assert {name for name, ends in table["ci95"].items() if ends is None} == {"p1", "p99", "p999"}
    low, high = table["ci95"]["p50"]
    assert 85 < low < 105 < high < 125


@pytest.mark.parametrize(("name", "least"), NEED.items())
def test_the_limit_is_exact(name: str, least: int) -> None:
    assert describe(in_no_order(np.arange(float(least)), PERCENTILES[name]))[name] is not None
    assert describe(in_no_order(np.arange(float(least - 1)), PERCENTILES[name]))[name] is None


def test_values_that_follow_one_another_count_for_fewer() -> None:
    table = describe(np.repeat(in_no_order(np.arange(400.0), 500), 50))  # 20,000 values, each as the 49 before it
    assert table["n"] == 20_000
    assert table["n_eff"]["p50"] == pytest.approx(400, rel=0.3)
    assert table["need"]["p999"] == [3688, int(table["n_eff"]["p999"])]
    assert (table["p999"], table["ci95"]["p999"]) == (None, None)
    assert table["p50"] is not None


def test_equal_values_have_an_interval_of_one_value() -> None:
    table = describe(np.full(400, 7.0))
    assert (table["p99"], table["ci95"]["p99"], table["n_eff"]["p99"]) == (7.0, [7.0, 7.0], 400)


def test_rates_keep_their_slow_tail_in_raw() -> None:
    assert describe(np.array([3.0, 1.0, 2.0]), higher_is_better=True)["raw"] == {
        "p1": 1.0,
        "p5": 1.0,
        "p50": 2.0,
        "p95": 3.0,
        "p99": 3.0,
    }


@pytest.mark.parametrize("given_values", [[], [math.nan], [math.inf, -math.inf, math.nan]])
def test_no_values_give_nulls_without_a_warning(given_values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = describe(np.array(given_values))
    assert table["n"] == 0
    assert {table[name] for name in ("mean", "min", "max", *PERCENTILES)} == {None}
    assert table["raw"] == {"p50": None, "p95": None, "p99": None}
    assert set(table["need"]) == set(PERCENTILES)
    assert table["ci95"] == table["n_eff"] == dict.fromkeys(PERCENTILES)


def test_a_histogram_has_the_same_table_within_its_promise() -> None:
    gaps_ns = np.random.default_rng(3).integers(1_000_000, 90_000_000, 5_000)
    histogram = Histogram()
    histogram.record(gaps_ns)
    exact, found = describe(gaps_ns / 1e6), describe_histogram(histogram)
    assert list(found) == list(exact)
    assert (found["n"], found["min"], found["max"], found["need"]) == (5_000, exact["min"], exact["max"], {})
    assert found["mean"] == pytest.approx(exact["mean"], rel=1e-12)
    for name in PERCENTILES:
        assert found[name] == pytest.approx(exact[name], rel=1e-3)
    assert found["ci95"] == found["n_eff"] == dict.fromkeys(PERCENTILES)
    assert describe_histogram(Histogram())["raw"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize("freedom", [7, 8, 10, 20, 50, 1000, 10**6])
def test_students_t(freedom: int) -> None:
    assert t975(freedom) == pytest.approx(reference.t.ppf(0.975, freedom), rel=1e-3)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_of_a_share_is_wilsons(count: int, more: int) -> None:
    of = count + more - 1
    if not of:
        assert wilson(count, of) is None
        return
    found = wilson(count, of)
    wanted = reference.binomtest(count, of).proportion_ci(method="wilson")
    assert found == (pytest.approx(wanted.low, abs=1e-9), pytest.approx(wanted.high, abs=1e-9))
    assert found is not None
    assert 0 <= found[0] <= count / of <= found[1] <= 1


def test_the_interval_of_a_share_in_the_statistics_reference() -> None:
    assert wilson(10, 100) == (pytest.approx(0.0552291, abs=1e-6), pytest.approx(0.1743657, abs=1e-6))
