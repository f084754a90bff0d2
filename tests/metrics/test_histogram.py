"""The histogram against sorting, against HdrHistogram itself, and merged in any order and grouping."""

import base64
import zlib
from random import Random

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from latbench.metrics.histogram import HIGHEST_US, LOWEST_US, SIGNIFICANT_DIGITS, SIZE, Histogram, counted

HOUR_NS = HIGHEST_US * 1000
durations = st.lists(
    st.one_of(st.integers(0, HOUR_NS), st.integers(0, 5_000_000), st.sampled_from([0, 499, 500, 2_047_000, 2_048_000])),
    max_size=60,
)


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record(np.array(values, dtype=np.int64))
    return histogram


def state(histogram: Histogram) -> tuple[object, ...]:
    return (
        histogram.counts.tobytes(),
        histogram.n,
        histogram.clamped,
        histogram.min_ns,
        histogram.max_ns,
        histogram.mean_ns,
    )


@given(durations)
def test_counts_and_bytes_are_those_of_hdrhistogram(values: list[int]) -> None:
    native = HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)
    for value in values:
        assert native.record_value((value + 500) // 1000)
    ours = of(values)
    assert native.counts_len == SIZE
    assert list(native.counts) == ours.counts.tolist()
    assert native.encode() == ours.encode()


@given(durations.filter(bool), st.sampled_from([1, 10, 50, 500, 900, 950, 990, 999, 1000]))
def test_percentiles_are_within_the_promise_of_sorting(values: list[int], k: int) -> None:
    exact = sorted(values)[max(1, -(-len(values) * k // 1000)) - 1]
    found = of(values).percentile(k)
    assert found is not None
    assert abs(found - exact) <= max(1000, exact / 1000)


@given(durations.filter(bool))
def test_extremes_and_mean_are_exact(values: list[int]) -> None:
    histogram = of(values)
    assert (histogram.n, histogram.min_ns, histogram.max_ns) == (len(values), min(values), max(values))
    assert histogram.mean_ns == sum(values) / len(values)
    assert histogram.percentile(1000) == max(values)


@given(st.lists(durations, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_merging_in_any_order_and_grouping_is_recording_all(parts: list[list[int]], random: Random) -> None:
    whole = state(of([value for part in parts for value in part]))
    left, right, rest = Histogram(), Histogram(), Histogram()
    for part in parts:
        left.merge(of(part))
    for part in random.sample(parts[1:], len(parts) - 1):
        rest.merge(of(part))
    right.merge(rest)
    right.merge(of(parts[0]))
    assert state(left) == whole
    assert state(right) == whole


@given(durations)
def test_decoding_gives_back_the_counts(values: list[int]) -> None:
    ours = of(values)
    back = Histogram.decode(ours.encode())
    assert back.counts.tolist() == ours.counts.tolist()
    assert back.n == ours.n
    assert back.encode() == ours.encode()
    if values:
        assert back.min_ns is not None
        assert back.max_ns is not None
        assert back.mean_ns == pytest.approx(ours.mean_ns, rel=1e-3, abs=1000)
        assert abs(back.min_ns - min(values)) <= max(1000, min(values) / 1000)
        assert abs(back.max_ns - max(values)) <= max(1000, max(values) / 1000)
    else:
        assert (back.min_ns, back.max_ns, back.mean_ns) == (None, None, None)


def test_out_of_range_is_clamped_and_counted() -> None:
    histogram = of([-5, 10_000, HOUR_NS, HOUR_NS + 1, 10 * HOUR_NS])
    assert histogram.n == 5
    assert histogram.clamped == 3
    assert (histogram.min_ns, histogram.max_ns) == (0, HOUR_NS)
    assert int(histogram.counts.sum()) == 5
    other = of([-1])
    other.merge(histogram)
    assert other.clamped == 4


def test_nothing_recorded_has_no_figures() -> None:
    empty = of([])
    assert (empty.n, empty.percentile(500), empty.mean_ns) == (0, None, None)


def encoded(lowest: int, highest: int, digits: int) -> bytes:
    other = HdrHistogram(lowest, highest, digits)
    other.record_value(7)
    data: bytes = other.encode()
    return data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"!",
        b"AAAA",
        base64.b64encode(b"\x1c\x84\x93\x14\x00\x00\x00\x04abcd"),
        base64.b64encode(b"\x1c\x84\x93\x14" + len(zlib.compress(b"x")).to_bytes(4, "big") + zlib.compress(b"x")),
        encoded(1, 1_000_000, 3),
        encoded(1, HIGHEST_US, 2),
        of([1_000_000]).encode()[:-8],
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an encoded histogram"):
        Histogram.decode(data)


@given(st.lists(st.lists(st.integers(-5, 4 * 10**12), max_size=50), max_size=5))
def test_counts_that_travel_make_the_same_histogram(parts: list[list[int]]) -> None:
    """Buckets and percentiles are those of one histogram of everything, in whatever pieces it came."""
    whole, pieces = Histogram(), Histogram()
    for part in parts:
        values = np.array(part, dtype=np.int64)
        whole.record(values)
        pieces.add_counted(counted(values))
    assert pieces.n == whole.n
    assert np.array_equal(pieces.counts, whole.counts)
    for k in (500, 900, 990, 1000):
        one, other = whole.percentile(k), pieces.percentile(k)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert abs(one - other) <= max(1000, one // 500)
    if whole.mean_ns is not None and pieces.mean_ns is not None:
        assert abs(whole.mean_ns - pieces.mean_ns) <= max(1000, whole.mean_ns / 500)


def test_counts_are_as_long_as_there_are_different_values() -> None:
    assert counted(np.array([], dtype=np.int64)) == b""
    assert len(counted(np.array([5_000] * 1_000_000))) == 6
    Histogram().add_counted(b"")


@pytest.mark.parametrize("data", [b"12345", b"\xff\xff\x01\x00\x00\x00"])
def test_counts_of_others_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"buffer size|no histogram has"):
        Histogram().add_counted(data)
