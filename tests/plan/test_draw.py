"""What a sequence number sends: a pure function, true to the weights."""

import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latbench.model.request import Message, Prompt
from latbench.plan.draw import NONCE_CHARS, Drawer, nonce, open_with, uniforms

DRAWS = 20_000
WEIGHTS = {"generation": 3.0, "completion": 4.0, "review": 2.0, "search": 1.0}
SIZES = {"generation": 7, "completion": 12, "review": 5, "search": 1, "debug": 4}


def prompt(name: str, task: str) -> Prompt:
    return Prompt(name, task, "python", (Message("user", name),), 3, "0" * 64)


PROMPTS = [prompt(f"{task}-{number}", task) for task, size in SIZES.items() for number in range(size)]


def surely_not_by_chance(seen: list[int], expected: list[float]) -> bool:
    """A chi-square test that a fair draw fails once in a million seeds. The seeds here are fixed: it never flakes."""
    return bool(stats.chisquare(seen, expected).pvalue < 1e-6)


def drawn(seed: int, count: int = DRAWS) -> list[Prompt]:
    drawer = Drawer(seed, PROMPTS, WEIGHTS)
    return [PROMPTS[drawer.draw(seq)] for seq in range(count)]


def test_the_weights_are_respected() -> None:
    seen = Counter(one.task for one in drawn(7))
    assert seen.keys() == WEIGHTS.keys()
    expected = [DRAWS * weight / sum(WEIGHTS.values()) for weight in WEIGHTS.values()]
    assert not surely_not_by_chance([seen[task] for task in WEIGHTS], expected)


def test_the_test_of_the_weights_can_fail() -> None:
    seen = Counter(one.task for one in drawn(7))
    assert surely_not_by_chance([seen[task] for task in WEIGHTS], [DRAWS / 4] * 4)


@pytest.mark.parametrize("task", sorted(WEIGHTS))
def test_within_a_task_every_prompt_is_as_likely(task: str) -> None:
    seen = Counter(one.id for one in drawn(7) if one.task == task)
    assert len(seen) == SIZES[task]
    assert SIZES[task] == 1 or not surely_not_by_chance(
        list(seen.values()), [sum(seen.values()) / SIZES[task]] * SIZES[task]
    )


def test_draws_are_with_replacement() -> None:
    ids = [one.id for one in drawn(7, 100)]
    assert len(set(ids)) < len(ids)


def test_one_draw_says_nothing_of_the_next() -> None:
    tasks = [one.task for one in drawn(3)]
    same = sum(one == other for one, other in pairwise(tasks))
    share = sum((weight / sum(WEIGHTS.values())) ** 2 for weight in WEIGHTS.values())
    assert abs(same - DRAWS * share) < 5 * sqrt(DRAWS * share * (1 - share))


@given(st.integers(0, 2**63 - 1), st.permutations(range(60)))
def test_the_order_of_asking_does_not_matter(seed: int, order: list[int]) -> None:
    straight = [Drawer(seed, PROMPTS, WEIGHTS).draw(seq) for seq in range(60)]
    drawer = Drawer(seed, PROMPTS, dict(reversed(WEIGHTS.items())))
    assert {seq: drawer.draw(seq) for seq in order} == dict(enumerate(straight))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_uniforms_lie_in_the_half_open_interval(seed: int, seq: int) -> None:
    assert all(0.0 <= value <= 1.0 for value in uniforms(seed, seq))
    assert uniforms(seed, seq) == uniforms(seed, seq)


def test_seeds_differ() -> None:
    assert drawn(1, 200) != drawn(2, 200)


def test_a_draw_is_the_same_in_another_process() -> None:
    """Neither the hash seed nor the process enters."""
    code = (
        "from latbench.model.request import Prompt\nfrom latbench.plan.draw import Drawer, nonce\n"
        "prompts = [Prompt(str(n), 'ab'[n % 2], '', (), 0, '') for n in range(50)]\n"
        "drawer = Drawer(5, prompts, {'b': 1.0, 'a': 2.0})\n"
        "print([drawer.draw(seq) for seq in range(40)], nonce('r', 'e', 0, 1))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_weight_without_a_prompt_is_refused() -> None:
    for weights in ({"needle": 1.0}, {"review": 1.0, "needle": 0.1}, {}):
        with pytest.raises(ValueError, match="every weighted task needs a prompt"):
            Drawer(0, PROMPTS, weights)


def test_a_task_without_a_weight_is_never_drawn() -> None:
    assert "debug" not in {one.task for one in drawn(0, 2000)}


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**31), st.integers(0, 2**53))
def test_a_nonce_is_hexadecimal_pure_and_of_one_length(run: str, endpoint: str, step: int, seq: int) -> None:
    mark = nonce(run, endpoint, step, seq)
    assert len(mark) == NONCE_CHARS
    assert set(mark) <= set("0123456789abcdef")
    assert mark == nonce(run, endpoint, step, seq)


def test_no_two_requests_share_a_nonce() -> None:
    marks = {
        nonce(run, endpoint, step, seq)
        for run in ("r1", "r2")
        for endpoint in ("a", "b")
        for step in range(5)
        for seq in range(1000)
    }
    assert len(marks) == 2 * 2 * 5 * 1000


def test_the_mark_is_the_first_thing_that_is_read() -> None:
    messages = (Message("system", "be brief"), Message("user", "hello"))
    opened = open_with("0123", messages)
    assert opened == (Message("system", "[0123]\nbe brief"), Message("user", "hello"))
    assert messages[0].content == "be brief"
