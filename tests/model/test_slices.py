"""Turns of endpoints: own time and the time of the step say the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.slices import Slices

SECOND = 1_000_000_000
TIMES = st.integers(0, 10**15)
COUNTS = st.integers(1, 6)
SLICES = st.one_of(st.none(), st.integers(1, 1000), st.integers(1, 100 * SECOND))


@given(SLICES, COUNTS, TIMES, st.integers(0, 5))
def test_own_time_inverts_wall_time(slice_ns: int | None, count: int, own_ns: int, number: int) -> None:
    slices, endpoint = Slices(slice_ns, count), number % count
    wall_ns = slices.wall_at(own_ns, endpoint)
    assert slices.own_at(wall_ns, endpoint) == (own_ns, True)
    assert slices.next_turn_ns(wall_ns, endpoint) == wall_ns


@given(st.integers(1, 100 * SECOND), COUNTS, TIMES)
def test_every_moment_is_somebodys_and_nobody_elses(slice_ns: int, count: int, wall_ns: int) -> None:
    slices = Slices(slice_ns, count)
    states = [slices.own_at(wall_ns, endpoint) for endpoint in range(count)]
    assert sum(own_ns for own_ns, _ in states) == wall_ns
    assert [turn for _, turn in states] == [endpoint == wall_ns // slice_ns % count for endpoint in range(count)]


@given(st.integers(1, 100 * SECOND), st.integers(2, 6), TIMES, st.integers(0, 5))
def test_the_next_turn_is_the_first_moment_that_is_ones_own(
    slice_ns: int, count: int, wall_ns: int, number: int
) -> None:
    slices, endpoint = Slices(slice_ns, count), number % count
    begins_ns = slices.next_turn_ns(wall_ns, endpoint)
    own_ns, turn = slices.own_at(wall_ns, endpoint)
    assert slices.own_at(begins_ns, endpoint) == (own_ns, True)  # it has stood still until then
    assert wall_ns <= begins_ns <= wall_ns + (count - 1) * slice_ns
    assert turn == (begins_ns == wall_ns)
    assert turn or not slices.own_at(begins_ns - 1, endpoint)[1]


@given(SLICES, COUNTS, st.lists(TIMES, max_size=20), st.integers(0, 5))
def test_many_at_once_are_as_one_by_one(slice_ns: int | None, count: int, own: list[int], number: int) -> None:
    slices, endpoint = Slices(slice_ns, count), number % count
    wall = slices.wall_ns(np.array(own, dtype=np.int64), endpoint)
    assert wall.dtype == np.int64
    assert wall.tolist() == [slices.wall_at(own_ns, endpoint) for own_ns in own]


@given(SLICES, COUNTS, st.integers(1, 10**15))
def test_the_span_is_over_when_the_last_endpoint_has_had_its_time(
    slice_ns: int | None, count: int, own_ns: int
) -> None:
    slices = Slices(slice_ns, count)
    span_ns = slices.span_ns(own_ns)
    assert all(slices.own_at(span_ns, endpoint)[0] >= own_ns for endpoint in range(count))
    assert any(slices.own_at(span_ns - 1, endpoint)[0] < own_ns for endpoint in range(count))


@pytest.mark.parametrize("slices", [Slices(None, 3), Slices(20 * SECOND, 1)])
def test_together_it_is_always_ones_turn(slices: Slices) -> None:
    for moment in (0, 1, 20 * SECOND, 10**15):
        assert slices.wall_at(moment, 0) == moment
        assert slices.own_at(moment, 0) == (moment, True)
        assert slices.next_turn_ns(moment, 0) == moment
        assert slices.span_ns(moment) == moment
    assert Slices(None, 3).wall_at(5, 2) == 5


def test_three_endpoints_in_slices_of_twenty_seconds() -> None:
    slices = Slices(20 * SECOND, 3)
    assert [slices.wall_at(0, endpoint) // SECOND for endpoint in range(3)] == [0, 20, 40]
    assert slices.wall_at(25 * SECOND, 1) == 85 * SECOND
    assert slices.own_at(85 * SECOND, 0) == (40 * SECOND, False)
    assert slices.own_at(85 * SECOND, 2) == (20 * SECOND, False)
    assert slices.next_turn_ns(85 * SECOND, 0) == 120 * SECOND
    assert slices.span_ns(60 * SECOND) == 180 * SECOND
    assert slices.span_ns(0) == 0
