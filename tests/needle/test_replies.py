"""What the simulated endpoint is told of a trial: replies that the grader takes for what they are, and unique lines."""

import json

import pytest
from needle_recipes import ABSENT_KINDS, built, recipe

from latbench.model.needle import WRONG, TrialOutcome
from latbench.model.sample import Outcome, Sample
from latbench.needle.grade import grade
from latbench.needle.replies import encoded, replies
from latbench.needle.trial import Control, Kind, Trial


def outcome(trial: Trial, text: str) -> TrialOutcome:
    sample = Sample("e", 0, 0, "p", "measure", Outcome.OK, finish_reason="stop", text=text, text_chars=len(text))
    return grade(sample, trial).outcome


@pytest.mark.parametrize("kind", Kind)
def test_replies_are_what_they_say(kind: Kind) -> None:
    for needle in range(3):
        trial = built(recipe(kind, needle=needle))
        said = replies(trial)
        assert outcome(trial, said.right) == TrialOutcome.CORRECT
        assert said.wrong
        assert {outcome(trial, reply) for reply in said.wrong} <= WRONG
        assert outcome(trial, said.absent) == TrialOutcome.FALSE_ABSENT


@pytest.mark.parametrize("kind", Kind)
def test_every_line_stands_once_in_the_prompt(kind: Kind) -> None:
    for needle in range(3):
        trial = built(recipe(kind, needle=needle))
        line = replies(trial).line
        parts = [line] if isinstance(line, str) else line
        assert parts is not None
        assert len(parts) == len(trial.key.targets) + len(trial.key.parts)
        for part, planted in zip(parts, (*trial.key.targets, *trial.key.parts), strict=True):
            assert f"\n{trial.code}\n".count(f"\n{part}\n") == 1
            assert planted.line in part.splitlines()


@pytest.mark.parametrize("kind", ABSENT_KINDS)
def test_controls_without_a_target(kind: Kind) -> None:
    trial = built(recipe(kind, control=Control.ABSENT))
    said = replies(trial)
    assert said.line is None
    assert outcome(trial, said.right) == TrialOutcome.CORRECT
    assert {outcome(trial, reply) for reply in said.wrong} == {TrialOutcome.FALSE_PRESENT}


def test_a_question_without_its_code_has_no_line() -> None:
    assert replies(built(recipe(Kind.BUG, control=Control.CLOSED_BOOK))).line is None


def test_one_line_of_json() -> None:
    line = encoded(built(recipe(Kind.MULTI)))
    assert line.count(b"\n") == 1
    assert {*json.loads(line)} == {"nonce", "line", "right", "wrong", "absent", "depth", "length"}
