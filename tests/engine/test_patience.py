"""How long a refused request waits: as asked, else doubling, and not at all for what no run outlasts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.engine.patience import LONGEST_WAIT_NS, MAX_TRIES, wait_ns
from latbench.model.answer import Refusal
from latbench.model.sample import Outcome

S = 1_000_000_000
KINDS = st.sampled_from([None, "requests", "tokens", "input_tokens", "output_tokens", "concurrency", "ramp", "unknown"])
LIMITED = Outcome.RATE_LIMITED


@given(KINDS, st.integers(0, LONGEST_WAIT_NS), st.integers(0, MAX_TRIES - 2))
def test_what_was_asked_for_is_waited_to_the_nanosecond(kind: str | None, asked: int, tries: int) -> None:
    assert wait_ns(Refusal(LIMITED, kind, wait_ns=asked), tries) == asked


@given(KINDS)
def test_without_a_hint_it_doubles_up_to_thirty_seconds(kind: str | None) -> None:
    waits = [wait_ns(Refusal(LIMITED, kind), tries) for tries in range(MAX_TRIES)]
    assert waits == [1 * S, 2 * S, 4 * S, 8 * S, 16 * S, 30 * S, 30 * S, 30 * S, 30 * S, None]


@given(KINDS, st.none() | st.integers(0, LONGEST_WAIT_NS), st.integers(MAX_TRIES - 1, 1000))
def test_the_tenth_attempt_is_the_last(kind: str | None, asked: int | None, tries: int) -> None:
    assert wait_ns(Refusal(LIMITED, kind, wait_ns=asked), tries) is None


@given(st.none() | st.integers(0, LONGEST_WAIT_NS))
def test_a_limit_of_the_day_is_not_waited_for(asked: int | None) -> None:
    assert wait_ns(Refusal(LIMITED, "daily", wait_ns=asked), 0) is None


@given(KINDS, st.integers(LONGEST_WAIT_NS + 1, 1 << 62))
def test_longer_than_ten_minutes_is_not_waited(kind: str | None, asked: int) -> None:
    assert wait_ns(Refusal(LIMITED, kind, wait_ns=asked), 0) is None


@pytest.mark.parametrize("outcome", [one for one in Outcome if one != LIMITED])
@pytest.mark.parametrize("asked", [None, S])
def test_nothing_else_is_made_again(outcome: Outcome, asked: int | None) -> None:
    assert wait_ns(Refusal(outcome, wait_ns=asked), 0) is None
