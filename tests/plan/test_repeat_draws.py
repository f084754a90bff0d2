"""Each prompt several times: a pure function of the sequence number."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.request import Message, Prompt
from latbench.plan.draw import Drawer
from latbench.plan.partition import GENERATION
from latbench.plan.repeats import BLOCK, draw_of, drawn


@given(st.integers(1, 20), st.integers(1, 300))
def test_every_draw_goes_out_as_often_as_it_should(repeat: int, draws: int) -> None:
    count = repeat * draws
    sent = Counter(drawn(number, repeat, count) for number in range(count))
    assert sent == dict.fromkeys(range(draws), repeat)


@given(st.integers(1, 20), st.integers(1, 2000))
def test_requests_that_do_not_divide_leave_fewer_repeats_of_the_last_draws(repeat: int, count: int) -> None:
    sent = Counter(drawn(number, repeat, count) for number in range(count))
    assert set(sent) == set(range(-(-count // repeat)))
    assert sum(repeat - times for times in sent.values()) == -count % repeat


@given(st.integers(2, 20), st.integers(0, 5))
def test_without_a_number_of_requests_blocks_are_whole(repeat: int, blocks: int) -> None:
    sent = Counter(drawn(number, repeat, None) for number in range(blocks * BLOCK * repeat))
    assert sent == dict.fromkeys(range(blocks * BLOCK), repeat)


@given(st.integers(2, 20), st.integers(2, 300))
def test_repeats_of_a_draw_are_apart(repeat: int, draws: int) -> None:
    """Not one after the other: all draws of the block stand between."""
    order = [drawn(number, repeat, repeat * draws) for number in range(repeat * draws)]
    size = min(BLOCK, draws)
    assert order[:size] == order[size : 2 * size] == list(range(size))


def test_one_repeat_is_the_number_itself() -> None:
    assert [drawn(number, 1, 5) for number in range(5)] == list(range(5))
    assert draw_of(GENERATION + 7, 1, 5, 1) == GENERATION + 7


def test_a_lost_slot_that_goes_on_beyond_all_requests_draws_too() -> None:
    assert drawn(GENERATION + 7, 3, 30) == drawn(GENERATION + 7, 3, None)


@pytest.mark.parametrize(("requests", "arms", "count"), [(None, 2, None), (12, 2, 6), (13, 2, 7)])
def test_requests_count_all_arms(requests: int | None, arms: int, count: int | None) -> None:
    assert [draw_of(number, 3, requests, arms) for number in range(9)] == [drawn(n, 3, count) for n in range(9)]


def test_what_a_draw_sends_does_not_depend_on_repeats() -> None:
    prompts = [Prompt(f"p{i}", "generation", "python", (Message("user", "x"),), 1, "h") for i in range(5)]
    prompt_drawer = Drawer(7, prompts, {"generation": 1.0})
    once = [prompt_drawer.draw(drawn(number, 1, 10)) for number in range(10)]
    thrice = [prompt_drawer.draw(drawn(number, 3, 30)) for number in range(30)]
    assert Counter(thrice) == {prompt: 3 * times for prompt, times in Counter(once).items()}
