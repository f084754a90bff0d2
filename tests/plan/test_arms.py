"""Output modes in pairs: the same prompt once in each, none of them always the first."""

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.request import MODES, Message
from latbench.plan.modes import arm, prompted

SOME = st.permutations(MODES).flatmap(lambda modes: st.integers(1, len(modes)).map(lambda count: modes[:count]))
SEQ = st.integers(0, 1 << 40)


@given(SOME, st.integers(0, 50))
def test_numbers_and_arms_are_one_to_one(modes: list[str], pairs: int) -> None:
    arms = [arm(seq, modes) for seq in range(pairs * len(modes))]
    assert Counter(arms) == Counter((pair, mode) for pair in range(pairs) for mode in modes)
    assert [pair for pair, _ in arms] == sorted(pair for pair, _ in arms), "a pair's numbers follow one another"


@given(SOME, SEQ)
def test_any_number_has_its_pair_and_the_pair_has_every_mode(modes: list[str], seq: int) -> None:
    pair, mode = arm(seq, modes)
    assert mode in modes
    first = pair * len(modes)
    assert first <= seq < first + len(modes)
    of_pair = [arm(number, modes) for number in range(first, first + len(modes))]
    assert {number for number, _ in of_pair} == {pair}
    assert sorted(found for _, found in of_pair) == sorted(modes)


@given(SOME, st.integers(0, 1 << 20))
def test_every_mode_is_equally_often_in_every_place(modes: list[str], rounds: int) -> None:
    """Whichever comes first of a pair finds the prompt in no cache: over a round each mode is that once."""
    start = rounds * len(modes) ** 2
    places: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for seq in range(start, start + len(modes) ** 2):
        places[seq % len(modes)][arm(seq, modes)[1]] += 1
    assert all(count == Counter(modes) for count in places.values())


@given(SEQ, st.sampled_from(MODES))
def test_one_mode_alone_changes_nothing(seq: int, mode: str) -> None:
    assert arm(seq, (mode,)) == (seq, mode)


SCHEMA = {"type": "object", "properties": {"ü": {"type": "string", "description": 'say "ah"'}}}
TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=40)), min_size=1)


@given(TURNS)
def test_a_prompted_schema_ends_the_last_message_and_the_others_stay(messages: list[Message]) -> None:
    found = prompted(messages, SCHEMA)
    assert found[:-1] == tuple(messages[:-1])
    assert found[-1].role == messages[-1].role
    assert found[-1].content.startswith(f"{messages[-1].content}\n\nAnswer with one JSON object")
    assert json.loads(found[-1].content.rpartition("\n")[2]) == SCHEMA


def test_without_a_message_there_is_nothing_to_ask_in() -> None:
    with pytest.raises(IndexError):
        prompted([], SCHEMA)
