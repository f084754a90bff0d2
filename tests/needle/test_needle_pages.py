"""Trials in a book: what is written is what is read, and answers are graded against it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from needle_recipes import built, recipe

from latbench.analysis.needle.trials import TrialRow
from latbench.model.book import Book, BookWriter
from latbench.model.frames import Job
from latbench.model.needle import TrialOutcome
from latbench.model.request import Prompt, Timeouts
from latbench.model.sample import Outcome, Sample
from latbench.needle.pages import ANSWER_CHARS, NeedleReader, page_of, reader_of, trial_of
from latbench.needle.replies import Replies, encoded, replies
from latbench.needle.rows import LEAST_SHORTER, calibrated, without_unread
from latbench.needle.trial import Control, Kind, Trial
from latbench.scenario.grading import DEFAULT_SCHEMA, Reader

RECIPES = [
    *(recipe(kind, 4_000, block=f"{kind}/1") for kind in Kind),
    recipe(Kind.BUG, 4_000, control=Control.ABSENT, block="absent"),
    recipe(Kind.CONSTANT, 4_000, control=Control.CLOSED_BOOK, block="book"),
]


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return [built(one) for one in RECIPES]


@pytest.fixture
def folder(tmp_path: Path, trials: list[Trial]) -> Path:
    writer = BookWriter(tmp_path, len(trials))
    for number in reversed(range(len(trials))):
        writer.add(number, *page_of(trials[number]))
    writer.close()
    return tmp_path


def answered(text: str | None, outcome: str = Outcome.OK, prompt_id: str = "") -> Sample:
    return Sample("e", 0, 0, prompt_id, "measure", outcome, sent_ns=0, done_ns=5, text=text, text_chars=len(text or ""))


def test_what_is_written_is_read(folder: Path, trials: list[Trial]) -> None:
    book = Book(folder)
    assert len(book) == len(trials)
    for number, trial in enumerate(trials):
        assert trial_of(book, number) == trial
        assert book.messages(number) == trial.messages
    pages = (folder / "pages").stat().st_size
    assert pages < 1.2 * sum(len(message.content) for one in trials for message in one.messages)  # the code only once
    book.close()


def test_the_right_reply_is_right_and_the_others_are_not(trials: list[Trial]) -> None:
    for trial in trials:
        said = replies(trial)
        reader = NeedleReader(Reader(DEFAULT_SCHEMA, ()), {"": trial}.get)
        for text, right in [(said.right, True), *((wrong, False) for wrong in said.wrong)]:
            sample = answered(text)
            reader.read(sample)
            assert sample.grade is not None
            assert (sample.grade.outcome == TrialOutcome.CORRECT) == right, (trial.recipe.kind, text)
        assert msgspec.json.decode(encoded(trial), type=Replies) == said
        lines = [] if said.line is None else [said.line] if isinstance(said.line, str) else said.line
        assert bool(lines) == (trial.key.present and bool(trial.code))  # closed book: there is nothing to read
        if trial.code:
            assert all(line in trial.code for line in lines)


def job(folder: str) -> Job:
    prompts = [Prompt(one.block, "needle", "python", (), 10, "") for one in RECIPES]
    limits = Timeouts(1, 1, 1, 1)
    return Job("r", "w", "v", "s", 0, 0, [], prompts, {"needle": 1.0}, 9, True, limits, 0, book=folder)


def test_a_worker_grades_what_it_has_read(folder: Path, trials: list[Trial]) -> None:
    reader = reader_of(job(str(folder)))
    right = replies(trials[0]).right
    whole, broken, begun = answered(right), answered(right, Outcome.TRUNCATED), answered(None, Outcome.LOST)
    begun.done_ns = None
    for sample in (whole, broken, begun):
        sample.prompt_id = RECIPES[0].block
        reader.read(sample)
    assert whole.grade is not None
    assert broken.grade is not None
    assert (whole.grade.outcome, whole.text) == (TrialOutcome.CORRECT, right)
    assert broken.grade.outcome == TrialOutcome.CORRECT  # a complete answer counts, though the stream broke after it
    assert broken.grade.flags
    assert begun.grade is None
    before = whole.grade
    whole.text = "something else"
    reader.read(whole)
    assert whole.grade is before


def test_other_prompts_are_read_as_ever(folder: Path) -> None:
    assert isinstance(reader_of(job("")), Reader)
    stranger = answered("text", prompt_id="nobody")
    reader_of(job(str(folder))).read(stranger)
    assert (stranger.grade, stranger.text) == (None, None)


def test_of_a_long_answer_the_beginning_is_kept(folder: Path) -> None:
    long = answered("x" * (2 * ANSWER_CHARS), prompt_id=RECIPES[0].block)
    reader_of(job(str(folder))).read(long)
    assert long.text is not None
    assert len(long.text) == ANSWER_CHARS


# --- usage ------------------------------------------------------------------------------------------------------------


def row(tokens: float | None, ours: int | None = 10_000, **changes: Any) -> TrialRow:
    plain = TrialRow("bug", "none", 10_000, "b", 0.5, 0.5, TrialOutcome.CORRECT, True, input_tokens=tokens)
    return plain._replace(our_tokens=ours, **changes)


def test_a_prompt_that_counts_far_less_than_shorter_ones_lead_to_expect_was_cut() -> None:
    shorter = [row(2_200, 2_000)] * LEAST_SHORTER
    whole, cut, silent = calibrated([*shorter, row(11_000), row(8_000), row(None)])[-3:]
    assert (whole.outcome, cut.outcome) == (TrialOutcome.CORRECT, TrialOutcome.TRUNCATED_PROMPT)
    assert cut.right
    assert cut.expected_input_tokens == pytest.approx(11_000)
    assert silent.outcome == TrialOutcome.CORRECT


def test_prompts_that_count_differently_among_themselves_are_not_cut() -> None:
    shorter = [row(tokens, 2_000) for tokens in (1_860, 2_000, 2_000, 2_000, 2_100)]
    whole, cut = calibrated([*shorter, row(9_100), row(8_900)])[-2:]
    assert (whole.outcome, cut.outcome) == (TrialOutcome.CORRECT, TrialOutcome.TRUNCATED_PROMPT)


def test_too_few_shorter_prompts_say_nothing() -> None:
    rows = [row(2_200, 2_000)] * (LEAST_SHORTER - 1) + [row(100)]
    assert calibrated(rows) == rows
    assert calibrated([]) == []


def test_a_scale_that_is_known_says_what_to_expect() -> None:
    whole, cut, uncounted = calibrated([row(10_500), row(9_500), row(100, None)], 1.1)
    assert uncounted.outcome == TrialOutcome.CORRECT
    assert (whole.outcome, cut.outcome) == (TrialOutcome.CORRECT, TrialOutcome.TRUNCATED_PROMPT)


def test_an_answer_that_came_sooner_than_reading_takes_has_no_ttft() -> None:
    quiet = [row(None, ttft_ms=ttft_ms) for ttft_ms in (400.0, 410.0, 2.0)]
    failed = [row(None), row(None, ttft_ms=1.0, ttft_counts=False)]  # these say nothing of reading
    found = without_unread([*quiet, row(None, ttft_ms=4_000.0), row(None)], [*quiet, *failed])
    assert [one.unread for one in found] == [False, False, True, False, False]
    assert [one.ttft_counts for one in found] == [True, True, False, True, True]
    elsewhere = [one._replace(length=4_000) for one in quiet]
    assert without_unread(quiet, elsewhere) == quiet
