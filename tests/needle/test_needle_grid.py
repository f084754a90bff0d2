"""What is sent, in which order, at which depth: a function of settings and seed."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_recipes import builder

from latbench.model.errors import UserError
from latbench.needle.grid import PRESETS, Grid, rounds
from latbench.needle.trial import Control, Kind, Recipe


def recipes(grid: Grid, run_id: str = "r") -> list[Recipe]:
    return [recipe for one in rounds(grid, run_id) for recipe in one.recipes]


@pytest.mark.parametrize(
    ("preset", "requests", "absent", "tokens"),
    [
        ("smoke", 14, 4, 140_000),
        ("fifty", 110, 10, 1_100_000),
        ("position", 620, 100, 6_000_000),
        ("length", 600, 100, 9_000_000),
        ("certify", 900, 150, 37_800_000),
    ],
)
def test_presets_are_what_the_table_says(preset: str, requests: int, absent: int, tokens: int) -> None:
    made = recipes(PRESETS[preset])
    assert len(made) == requests
    assert sum(recipe.control == Control.ABSENT for recipe in made) == absent
    assert sum(recipe.tokens for recipe in made) == tokens
    assert len({recipe.trial for recipe in made}) == len({recipe.nonce for recipe in made}) == requests


def test_fifty_is_two_rounds_of_fifty_each_with_a_haystack_of_its_own() -> None:
    one, two = rounds(PRESETS["fifty"], "r")
    for group in (one, two):
        assert sum(recipe.control == Control.NONE for recipe in group.recipes) == 50
        assert sum(recipe.control == Control.ABSENT for recipe in group.recipes) == 5
    assert len({recipe.block for group in (one, two) for recipe in group.recipes}) == 110
    depths = sorted(recipe.depth for group in (one, two) for recipe in group.recipes)
    assert depths[0] < 0.1
    assert depths[-1] > 0.9


def test_every_trial_of_the_smoke_preset_can_be_made() -> None:
    for recipe in recipes(PRESETS["smoke"]):
        trial = builder().build(recipe)
        assert abs(trial.depth - recipe.depth) <= 0.01
        assert trial.recipe.nonce in trial.messages[0].content


@given(seed=st.integers(0, 2**63), jitter=st.floats(0, 0.1))
def test_depths_stay_in_their_strata_and_every_stratum_is_in_every_block(seed: int, jitter: float) -> None:
    grid = Grid(kinds=(Kind.BUG,), lengths=(10_000,), blocks=4, jitter=jitter, seed=seed)
    by_block: dict[str, list[float | None]] = {}
    for recipe in recipes(grid):
        if recipe.control == Control.NONE:
            assert recipe.stratum is not None
            assert abs(recipe.depth - recipe.stratum) <= jitter + 1e-5
            by_block.setdefault(recipe.block, []).append(recipe.stratum)
    assert len(by_block) == 4
    assert all(sorted(strata) == [0.1, 0.3, 0.5, 0.7, 0.9] for strata in by_block.values())


def test_without_jitter_depths_are_exact() -> None:
    grid = Grid(kinds=(Kind.BUG,), lengths=(10_000,), blocks=2, jitter=0, depths=(0.25, 0.99))
    assert {recipe.depth for recipe in recipes(grid) if recipe.control == Control.NONE} == {0.25, 0.99}


def test_jitter_covers_the_whole_file_evenly() -> None:
    grid = Grid(kinds=(Kind.BUG,), lengths=(100_000,), blocks=200)
    tenths = Counter(int(recipe.depth * 10) for recipe in recipes(grid) if recipe.control == Control.NONE)
    assert set(tenths) == set(range(10))
    assert min(tenths.values()) > 60


def test_the_order_is_random_within_a_round() -> None:
    group = rounds(Grid(kinds=tuple(Kind), lengths=(4_000, 8_000), blocks=1), "r")[0]
    for value in ("kind", "tokens", "depth"):
        values = [getattr(recipe, value) for recipe in group.recipes]
        assert values != sorted(values)


def test_only_the_nonce_depends_on_the_run() -> None:
    grid = PRESETS["position"]
    one, two = recipes(grid, "a"), recipes(grid, "b")
    assert not {recipe.nonce for recipe in one} & {recipe.nonce for recipe in two}
    assert [(r.trial, r.depth) for r in one] == [(r.trial, r.depth) for r in two]
    assert all(len(recipe.nonce) == 16 for recipe in one)


def test_another_seed_has_other_depths_and_another_order() -> None:
    one, two = (recipes(Grid(kinds=(Kind.BUG,), lengths=(10_000,), blocks=5, seed=seed)) for seed in (1, 2))
    assert [recipe.trial for recipe in one] != [recipe.trial for recipe in two]
    assert not {recipe.depth for recipe in one} & {recipe.depth for recipe in two}


def test_controls_come_with_the_blocks() -> None:
    grid = Grid(
        kinds=(Kind.BUG, Kind.CHAIN), lengths=(4_000, 8_000), blocks=10, base=3, closed_book=2, canaries=1, absent=0.2
    )
    seen = Counter((recipe.kind, recipe.control) for recipe in recipes(grid))
    assert seen[Kind.BUG, Control.ABSENT] == 20
    assert seen[Kind.CHAIN, Control.ABSENT] == 0  # it has no answer that could be absent
    assert seen[Kind.BUG, Control.BASE] == seen[Kind.CHAIN, Control.BASE] == 3
    assert seen[Kind.BUG, Control.CLOSED_BOOK] == 2
    assert seen[Kind.CONSTANT, Control.CANARY] == 4
    canaries = [recipe for recipe in recipes(grid) if recipe.control == Control.CANARY]
    assert {recipe.depth for recipe in canaries} == {0.01, 0.99}
    for recipe in canaries:
        assert abs(builder().build(recipe).depth - recipe.depth) <= 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ()}, "a kind, a length and a block"),
        ({"lengths": (999,)}, "999 tokens: from 1,000"),
        ({"lengths": (2_000_000,)}, "to 1,000,000"),
        ({"depths": (1.0,)}, "between 0 % and 100 %"),
        ({"jitter": 0.6}, "jitter is from 0 to 50"),
        ({"absent": 2.0}, "from 0 to 1"),
    ],
)
def test_settings_that_mean_nothing_are_one_clear_line(changes: dict[str, object], message: str) -> None:
    made: dict[str, object] = {"kinds": (Kind.BUG,), "lengths": (10_000,), "blocks": 1, **changes}
    with pytest.raises(UserError, match=message):
        rounds(Grid(**made), "r")  # type: ignore[arg-type]  # the table is of wrong values


def test_lengths_are_the_endpoints_and_recipes_say_both() -> None:
    made = rounds(msgspec.structs.replace(PRESETS["smoke"], scale=1.25), "r")[0].recipes[0]
    assert (made.tokens, made.target_tokens) == (10_000, 8_000)
