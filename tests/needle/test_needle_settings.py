"""The section `needle` of a scenario: presets, what replaces them, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from latbench.needle.grid import PRESETS as GRIDS
from latbench.needle.grid import grid_of, rounds
from latbench.needle.kinds import KINDS as INFOS
from latbench.needle.trial import Kind
from latbench.scenario import needle
from latbench.scenario.needle import KINDS, NEVER_ABSENT, PRESETS, NeedleSettings, format_share, parse_share
from latbench.scenario.schema import problems_of


def settings(**keys: Any) -> NeedleSettings:
    return NeedleSettings.model_validate(keys)


def refused(**keys: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**keys)
    return "; ".join(f"{'.'.join(map(str, path))}: {what}" for path, what in problems_of(caught.value, NeedleSettings))


def test_the_words_are_those_of_the_room_that_makes_trials() -> None:
    assert tuple(Kind) == KINDS
    assert {str(kind) for kind, info in INFOS.items() if not info.may_be_absent} == NEVER_ABSENT
    assert set(PRESETS) == set(needle.CONCURRENCY) == set(GRIDS)


@pytest.mark.parametrize(("preset", "trials"), [("smoke", 14), ("fifty", 110), ("position", 620), ("certify", 900)])
def test_presets_come_to_the_trials_that_are_promised(preset: str, trials: int) -> None:
    assert settings(preset=preset).trials == trials == sum(len(one.recipes) for one in rounds(GRIDS[preset], "run"))


@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True),
    st.integers(1, 7),
    st.sampled_from(["random", ["50%"], ["10%", "50%", "90%"]]),
    st.sampled_from(["0%", "7%", "20%", "100%"]),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_how_many_trials_there_are_is_known_beforehand(
    kinds: list[str], blocks: int, depths: Any, absent: str, base: int, closed_book: int, canaries: int
) -> None:
    found = settings(
        kinds=kinds,
        lengths=["2k", "4k"],
        blocks=blocks,
        depths=depths,
        absent=absent,
        base=base,
        closed_book=closed_book,
        canaries=canaries,
    )
    assert found.trials == sum(len(one.recipes) for one in rounds(grid_of(found, 0), "run"))
    assert NeedleSettings.model_validate(found.model_dump(mode="json")) == found
    assert found.load().requests == found.trials


def test_what_is_given_replaces_what_the_preset_says() -> None:
    found = settings(preset="position", kinds="chain", lengths="4k", jitter=0, depths="random")
    assert (found.kinds, found.lengths, found.jitter, found.depths, found.blocks) == (("chain",), (4000,), 0, (), 50)
    assert NeedleSettings.model_validate("fifty") == settings(preset="fifty")
    assert grid_of(settings(haystack="src"), 3).source == "folder"


@given(st.integers(0, 1000))
def test_shares_survive_being_written(permille: int) -> None:
    assert parse_share(format_share(permille / 1000)) == permille / 1000


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (
            {"preset": "fivety"},
            'preset: must be smoke or fifty or position or length or certify; did you mean "fifty"?',
        ),
        ({"kinds": "bugs"}, 'kinds.0: no kind of needle; did you mean "bug"?'),
        ({"lengths": "900"}, "lengths.0: must be from 1k to 1M tokens"),
        ({"lengths": ["4k", "4k"]}, "lengths names one twice"),
        ({"depths": ["10"]}, "depths: a bare number; write 10%"),
        ({"depths": [10]}, "depths: a bare number; write 10%"),
        ({"depths": ["100%"]}, "depths: must lie between 0% and 100%"),
        ({"depths": ["10%", "10%"]}, "depths: names a depth twice"),
        ({"depths": []}, "depths: an empty list"),
        ({"jitter": "60%"}, "jitter: more than 50%"),
        ({"absent": "many"}, "absent: not a share; write it as 30%"),
        ({"absent": "101%"}, "absent: more than 100%"),
        ({"blocks": 0}, "blocks: must be at least 1"),
        ({"block": 2}, 'block: unknown key; did you mean "blocks"?'),
    ],
)
def test_what_is_refused_says_what_to_do(keys: dict[str, Any], what: str) -> None:
    assert what in refused(**keys)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ValidationError):
        NeedleSettings.model_validate(3)
