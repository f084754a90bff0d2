"""Counts at bounds: exact at each of them, and the same however they came together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.metrics.distribution import SCHEMA, Bounds, Distribution
from latbench.metrics.series import LATENCY, OTEL_TOKENS, SERIES

VALUES = st.lists(st.integers(-5, 700 * 10**9) | st.sampled_from([int(bound * 1e9) for bound in LATENCY.upper]))


def of(values: list[int], bounds: Bounds = LATENCY) -> Distribution:
    made = Distribution(bounds)
    made.record(values)
    return made


@given(VALUES)
def test_each_bound_counts_what_is_at_most_that(values: list[int]) -> None:
    found = of(values)
    for bound, count in found.cumulative():
        assert count == sum(value <= round(bound * 1e9) for value in values)
    assert found.n == len(values)
    assert found.sum == sum(max(value, 0) for value in values)
    assert found.total == found.sum / 1e9


@given(VALUES)
def test_exponential_buckets_hold_what_they_say(values: list[int]) -> None:
    found = of(values)
    assert found.zeros == sum(value <= 0 for value in values)
    assert sum(found.exponential.values()) == len(values) - found.zeros
    for place in found.exponential:
        low, high = 2 ** ((place - 1) / 2**SCHEMA) * 1e9, 2 ** (place / 2**SCHEMA) * 1e9
        assert any(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in values)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**12))))
def test_one_two_or_three_workers_make_the_same_distribution(told: list[tuple[int, int]]) -> None:
    whole = of([value for _, value in told])
    for workers in (1, 2, 3):
        merged = Distribution(LATENCY)
        for worker in reversed(range(workers)):
            merged.merge(of([value for at, value in told if at % workers == worker]))
        assert merged == whole
        assert merged.copy() == whole


def test_other_bounds_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        of([1]).merge(of([1], OTEL_TOKENS))
    assert of([1]) != of([2])
    assert of([1]) != 1


def test_bounds_rise_and_hold_common_limits() -> None:
    for series in SERIES:
        assert (series.bounds is not None) == (series.kind == "histogram")
        if series.bounds is not None:
            assert np.all(np.diff(series.bounds.recorded) > 0)
    limits = {0.2, 0.3, 0.45, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.5, 5.0, 6.0, 10.0, 12.0, 30.0, 60.0}
    assert limits <= set(LATENCY.upper)
