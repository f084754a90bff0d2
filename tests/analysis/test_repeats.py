"""The parts of a spread against what was put in, and against scipy's analysis of variance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from latbench.analysis.repeats import components, repeat_of

NO_MODE = np.zeros


def drawn(seed: int, prompts: int, repeat: int, between: float, within: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(prompts), repeat)
    logs = 5 + between * rng.standard_normal(prompts)[of] + within * rng.standard_normal(len(of))
    return np.exp(logs), of


@pytest.mark.parametrize(("between", "within"), [(0.4, 0.1), (0.1, 0.4), (0.3, 0.3), (0.0, 0.2)])
def test_what_was_put_in_is_found(between: float, within: float) -> None:
    values, of = drawn(1, 400, 5, between, within)
    found = components(values, of, NO_MODE(len(of)))
    assert (found["n"], found["prompts"]) == (2000, 400)
    assert math.log(found["within"]) == pytest.approx(within, rel=0.08)
    assert math.log(found["between"]) == pytest.approx(between, rel=0.12, abs=0.05)
    assert found["share_between"] == pytest.approx(between**2 / (between**2 + within**2), abs=0.06)


@given(st.integers(0, 2**32 - 1), st.integers(5, 12), st.integers(2, 6))
def test_the_parts_are_those_of_the_analysis_of_variance(seed: int, prompts: int, repeat: int) -> None:
    values, of = drawn(seed, prompts, repeat, 0.5, 0.3)
    found = components(values, of, NO_MODE(len(of)))
    if len(of) - prompts < 5:
        assert found["within"] is None
        return
    f = float(reference.f_oneway(*(np.log(values[of == prompt]) for prompt in range(prompts))).statistic)
    within = math.log(found["within"]) ** 2
    assert math.log(found["between"]) ** 2 == pytest.approx(max(0.0, within * (f - 1) / repeat), rel=1e-6, abs=1e-12)


def test_the_modes_of_a_prompt_stand_for_themselves() -> None:
    values, of = drawn(3, 50, 4, 0.2, 0.1)
    mode = np.tile([0, 1, 0, 1], 50)
    found = components(np.where(mode == 1, 3 * values, values), of, mode)
    assert found["prompts"] == 100
    assert math.log(found["within"]) == pytest.approx(0.1, rel=0.2)


def test_too_few_answers_say_nothing() -> None:
    few = components(np.array([1.0, 2.0, 3.0, math.nan, 0.0]), np.array([0, 0, 1, 1, 2]), NO_MODE(5))
    assert few == {"n": 3, "prompts": 2, "within": None, "between": None, "share_between": None}
    assert components(np.empty(0), np.empty(0), np.empty(0))["n"] == 0
    same = components(np.ones(40), np.repeat(np.arange(10), 4), NO_MODE(40))
    assert (same["within"], same["between"], same["share_between"]) == (1.0, 1.0, None)


def test_what_a_scenario_says() -> None:
    assert (repeat_of({}), repeat_of({"repeat": 4})) == (1, 4)
