"""What `summary.json` says of needle trials: the findings, the sentence about position, thresholds, and promises."""

import json
from typing import Any

import numpy as np
import pytest
from needle_models import absents, blind, control, cutting, drawn, flat, perfect, planned, simulated, wrong

from latbench.analysis.needle.block import needle_block
from latbench.analysis.needle.promise import promise
from latbench.analysis.needle.trials import BASE, CLOSED_BOOK, TrialRow, Trials, columns
from latbench.analysis.thresholds import FAIL, INCONCLUSIVE, PASS, judge
from latbench.model.needle import TrialOutcome
from latbench.model.run import RunRecord


def block(trials: Trials) -> dict[str, Any]:
    found = needle_block(trials, 7)
    assert found is not None
    json.dumps(found, allow_nan=False)
    return found


def verdict(trials: Trials) -> str:
    said: str = block(trials)["lengths"][0]["position"]["verdict"]
    return said


def at_lengths(*right: tuple[int, int, int]) -> dict[str, Any]:
    """Trials of one kind: length, so many right, of so many."""
    rows = []
    for length, count, of in right:
        some = list(drawn(np.random.default_rng(1), of, length=length))
        rows += [*some[:count], *map(wrong, some[count:])]
    return block(columns(rows))


def held(text: str, needle: dict[str, Any] | None) -> dict[str, Any]:
    record = RunRecord("id", "n", "s", "h", {}, "2026-11-22T14:00:00Z", 1, 0, thresholds=[text])
    (found,) = judge(record, [{"index": 0, "endpoints": {"a": {"needle": needle, "by_task": {}}}}])
    json.dumps(found, allow_nan=False)
    return found


# --- the sentence -----------------------------------------------------------------------------------------------------


def test_what_is_said_of_position() -> None:
    assert verdict(simulated(perfect, 50, kinds=["bug"])).startswith("no effect of position found; a dip of ")
    assert verdict(simulated(blind, 50, kinds=["bug"])).startswith("dip: the middle is ")
    assert verdict(simulated(perfect, 5, kinds=["bug"])).startswith("not powered for position: ")
    assert verdict(columns(drawn(np.random.default_rng(1), 100))).startswith("not powered for position: a dip smaller")
    assert verdict(columns(drawn(np.random.default_rng(1), 2))).endswith(
        "not even the largest dip would usually be found"
    )


def test_what_is_said_where_accuracy_goes_one_way() -> None:
    def late(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
        return row if row.depth > 0.5 else wrong(row)

    assert verdict(simulated(late, 50, kinds=["bug"])).startswith("recency: accuracy rises by ")


def test_nothing_is_said_of_position_where_prompts_were_cut_or_answers_are_missing() -> None:
    assert verdict(simulated(cutting(0.6), 20)) == "nothing is said of position: prompts were cut"
    rows = list(planned(np.random.default_rng(1), 20, kinds=["bug"]))
    missing = [wrong(row, TrialOutcome.TIMEOUT) for row in rows[:20]]
    said = verdict(columns([*missing, *rows[20:]]))
    assert said == "nothing is said of position: 20 of 100 trials have no answer"


def test_controls_and_their_alarms() -> None:
    rows = [*planned(np.random.default_rng(1), 20, kinds=["bug"]), *absents(9, 10)]
    rows += control("bug", BASE, TrialOutcome.WRONG_DECOY, 10) + control("bug", CLOSED_BOOK, TrialOutcome.CORRECT, 5)
    found = block(columns(rows))["controls"]
    assert (found["absent"]["present"], found["absent"]["answers_regardless"]) == (9, True)
    assert (found["base"][0]["kind"], found["base"][0]["too_hard"]) == ("bug", True)
    assert found["closed_book"]["known"]
    bare = block(columns(planned(np.random.default_rng(1), 20)))["controls"]
    assert bare == {"absent": None, "base": [], "closed_book": None}


def test_of_nothing_there_is_no_block() -> None:
    assert needle_block(columns([]), 7) is None


# --- thresholds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "result", "value"),
    [
        ([(4_000, 60, 60), (8_000, 60, 60)], PASS, 8_000),
        ([(4_000, 60, 60), (8_000, 52, 60)], INCONCLUSIVE, 4_000),  # 87 % of 60: more might certify it
        ([(4_000, 60, 60), (8_000, 20, 60)], FAIL, 4_000),
        ([(4_000, 60, 60)], INCONCLUSIVE, 4_000),  # nothing longer was tested
        ([(8_000, 20, 60)], FAIL, 0),
    ],
)
def test_a_certified_length(right: list[tuple[int, int, int]], result: str, value: float) -> None:
    found = held("needle certified >= 8k", at_lengths(*right))
    assert (found["result"], found["value"]) == (result, value)
    assert bool(found["why"]) == (result != PASS)


def test_a_length_that_was_refused_fails() -> None:
    rows = [*drawn(np.random.default_rng(1), 60, length=4_000)]
    rows += [wrong(row, TrialOutcome.CONTEXT_OVERFLOW) for row in drawn(np.random.default_rng(1), 9, length=8_000)]
    found = held("needle certified >= 8k", block(columns(rows)))
    assert (found["result"], found["value"]) == (FAIL, 4_000)
    assert "refused" in found["why"]


@pytest.mark.parametrize(("limit", "result"), [("80%", PASS), ("95%", INCONCLUSIVE), ("99%", FAIL)])
def test_the_lower_limit_of_accuracy(limit: str, result: str) -> None:
    found = held(f"needle accuracy lower > {limit}", at_lengths((4_000, 60, 60), (8_000, 56, 60)))
    assert found["result"] == result
    assert found["value"] == pytest.approx(56 / 60)
    assert found["why"] == "bug at 8,000 tokens"


def test_without_answers_there_is_nothing_to_hold() -> None:
    unanswered = block(columns(wrong(row, TrialOutcome.TIMEOUT) for row in drawn(np.random.default_rng(1), 5)))
    for text in ("needle certified >= 8k", "needle accuracy lower > 80%"):
        assert held(text, None)["why"] == "no needle trial was sent"
        assert held(text, unanswered)["result"] == INCONCLUSIVE
    assert held("needle accuracy lower > 80%", unanswered)["why"] == "no needle trial was answered"


# --- promises ---------------------------------------------------------------------------------------------------------


def test_what_a_plan_can_promise() -> None:
    position = promise("bug", 10_000, 50, (0.1, 0.3, 0.5, 0.7, 0.9))
    assert (position.trials, position.powered) == (250, True)
    assert position.half_width == pytest.approx(0.037, abs=0.002)
    assert position.may_be_wrong is not None
    fifty = promise("bug", 10_000, 100, ())
    assert (fifty.trials, fifty.powered, fifty.may_be_wrong) == (100, False, 8)
    one_depth = promise("bug", 10_000, 10, (0.5,))
    assert (one_depth.detectable, one_depth.may_be_wrong) == (None, None)


def test_what_was_promised_to_certify_certifies() -> None:
    for trials in (19, 60, 125):
        wrong_ones = promise("bug", 4_000, trials, ()).may_be_wrong
        assert wrong_ones is not None
        for count, certified in ((wrong_ones, 4_000), (wrong_ones + 1, None)):
            (context,) = at_lengths((4_000, trials - count, trials))["effective_context"]
            assert context["certified"]["tokens"] == certified


def test_half_right_is_not_certified() -> None:
    (context,) = block(simulated(flat(0.5), 20, kinds=["bug"]))["effective_context"]
    assert (context["certified"]["tokens"], context["trials_in_a_stratum"], context["needed"]) == (None, 20, 19)
