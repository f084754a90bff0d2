"""Fluidity against the rule of deadlines and slack, token by token."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.metrics.fluidity import Pace, fluidity
from latbench.model.sample import Sample, encode_gaps

MS = 1_000_000
PACE = Pace(500 * MS, 50 * MS)


def sample(arrivals_ms: list[int], tokens: int | None, **fields: object) -> Sample:
    """An answer whose chunks arrive so long after `sent`."""
    stamps = np.array(arrivals_ms, dtype=np.int64) * MS + MS
    known: dict[str, Any] = {"due_ns": 0, "sent_ns": MS, "chunks": len(stamps), "output_tokens": tokens}
    known |= {"first_token_ns": int(stamps[0]), "gaps": encode_gaps(stamps) if len(stamps) > 1 else b""}
    return Sample("e", 0, 0, "p", "measure", "ok", **(known | fields))


def by_the_rule(arrivals_ms: list[int], tokens: int, pace: Pace) -> float:
    """Slack is carried on by tokens in time, and gone after one that is late."""
    late, before, slack = 0, 0.0, 0.0
    for place in range(tokens):
        arrived = float(arrivals_ms[place * len(arrivals_ms) // tokens]) * MS
        allowed = pace.token_ns if place else pace.first_ns
        took = arrived - before
        if took <= allowed + slack + 1e-3:
            slack += allowed - took
        else:
            late, slack = late + 1, 0.0
        before = arrived
    return 1 - late / tokens


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=60),
    st.integers(1, 200),
    st.integers(10, 800),
    st.integers(1, 120),
)
def test_the_share_is_that_of_the_rule(gaps: list[int], tokens: int, first: int, each: int) -> None:
    arrivals = np.cumsum(gaps).tolist()
    pace = Pace(first * MS, each * MS)
    found = fluidity(sample(arrivals, tokens), pace)
    assert found == pytest.approx(by_the_rule(arrivals, tokens, pace))
    assert found is not None
    assert 0 <= found <= 1


def test_what_a_reader_meets() -> None:
    steady = list(range(400, 1400, 50))
    assert fluidity(sample(steady, 20), PACE) == 1
    assert fluidity(sample([at + 200 for at in steady], 20), PACE) == 0.95  # the first one late, and then as fast
    early = [*range(100, 600, 20), *range(1000, 1500, 20)]  # a pause that what came early makes up for
    assert fluidity(sample(early, 50), PACE) == 1
    slow = list(range(400, 2400, 100))
    assert fluidity(sample(slow, 20), PACE) == pytest.approx(3 / 20)
    assert fluidity(sample([900], 1), PACE) == 0


def test_an_absurd_number_of_tokens_takes_no_memory() -> None:
    assert fluidity(sample([400, 500], 2**62), PACE) == pytest.approx(1)


def test_it_is_not_defined_where_the_times_of_tokens_are_not_known() -> None:
    assert fluidity(sample([400], None), PACE) is None
    assert fluidity(sample([400], 0), PACE) is None
    assert fluidity(sample([400], 5, first_token_ns=None), PACE) is None
    assert fluidity(sample([400], 5, reasoning_tokens=3), PACE) is None
    assert fluidity(sample([400], 5, reasoning_tokens=3, reasoning_streamed=True), PACE) == 1
