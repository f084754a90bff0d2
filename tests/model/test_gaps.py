"""Arrival times as differences: nothing is lost, and what was never written is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.sample import decode_gaps, encode_gaps

STAMP = st.integers(0, 2**60)


def rebuilt(stamps: np.ndarray) -> list[int]:
    """What a reader of a sample does: the first arrival plus the gaps."""
    return [int(stamps[0]), *(int(stamps[0]) + np.cumsum(decode_gaps(encode_gaps(stamps)))).tolist()]


@given(st.lists(STAMP, min_size=1, max_size=200).map(sorted))
def test_the_first_stamp_and_the_gaps_give_every_stamp(stamps: list[int]) -> None:
    assert rebuilt(np.array(stamps, dtype=np.int64)) == stamps


@given(st.lists(STAMP, min_size=2, max_size=50))
def test_stamps_that_fall_survive_too(stamps: list[int]) -> None:
    assert rebuilt(np.array(stamps, dtype=np.int64)) == stamps


@pytest.mark.parametrize("stamps", [[], [5]])
def test_fewer_than_two_stamps_have_no_gap(stamps: list[int]) -> None:
    data = encode_gaps(np.array(stamps, dtype=np.int64))
    assert data == b""
    assert decode_gaps(data).tolist() == []


@pytest.mark.parametrize(
    ("gap", "width"), [(0, b"4"), (1, b"4"), (2**32 - 1, b"4"), (2**32, b"8"), (2**59, b"8"), (-1, b"8")]
)
def test_a_gap_takes_four_bytes_where_it_fits(gap: int, width: bytes) -> None:
    data = encode_gaps(np.array([10, 10 + gap, 20 + gap], dtype=np.int64))
    assert data[:1] == width
    assert len(data) == 1 + 2 * int(width)
    assert decode_gaps(data).tolist() == [gap, 10]
    assert decode_gaps(data).dtype == np.int64


@given(st.binary(min_size=1, max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    valid = data[:1] in (b"4", b"8") and (len(data) - 1) % int(data[:1]) == 0
    if valid:
        assert len(decode_gaps(data)) == (len(data) - 1) // int(data[:1])
    else:
        with pytest.raises(ValueError, match="not a record of chunk gaps"):
            decode_gaps(data)


@pytest.mark.parametrize("data", [b"4\x01\x02\x03", b"8\x01\x02\x03\x04", b"5", b"\x004444", b"44"])
def test_these_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a record of chunk gaps"):
        decode_gaps(data)
