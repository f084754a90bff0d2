"""The simulated models: what they read, and what they say to a trial."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.trials import (
    BAD_FORMAT,
    BLIND,
    HEAD_TRUNCATED,
    MODELS,
    PERFECT,
    PREFIX_CACHE,
    RANDOM,
    AnswerBook,
    Known,
    Reader,
    accuracy,
    answer,
    part,
)

READER = Reader(model=PERFECT, accuracy="1", blind="40-60%", keep_tokens=1000, silent=False, seed=1)
RIGHT, ABSENT = 'ANSWER: {"name": "load_row"}', "ANSWER: ABSENT"
WRONG = [f'ANSWER: {{"name": "load_{number}"}}' for number in range(4)]
LINE = "    return x <= n"


def known(line: str | list[str] | None = LINE, **changes: Any) -> Known:
    fields = {"right": RIGHT if line else ABSENT, "wrong": WRONG, "absent": ABSENT, "depth": 0.5, "length": 2000}
    return Known(**{"nonce": "0123456789abcdef", "line": line, **fields, **changes})


def prompt(depth: float, line: str = LINE, size: int = 8000) -> bytes:
    """So many bytes, with the line at that depth; the nonce is at the beginning."""
    filler = [f"# {number:05}" for number in range(size // 8)]
    filler[0] = "# build 0123456789abcdef"
    filler.insert(max(1, int(depth * len(filler))), line)
    return "\n".join(filler).encode()


def told(model: str, depth: float, line: str | list[str] | None = LINE, **changes: Any) -> tuple[str, str]:
    found = answer(known(line), prompt(depth), replace(READER, model=model, **changes))
    return found.text, found.worth


@given(st.floats(0, 1))
def test_perfect_finds_it_everywhere(depth: float) -> None:
    assert told(PERFECT, depth) == (RIGHT, "right")


@pytest.mark.parametrize("model", [PERFECT, BLIND, HEAD_TRUNCATED, PREFIX_CACHE])
def test_what_does_not_stand_there_is_not_found(model: str) -> None:
    for line in (LINE + " - 1", "x" + LINE, "# another"):
        found = answer(known(), prompt(0.9, line), replace(READER, model=model))
        assert (found.text, found.worth) == (ABSENT, "absent")
    assert told(model, 0.9, None) == (ABSENT, "absent")


def test_all_lines_have_to_be_read() -> None:
    text = prompt(0.1) + b"\r\nsecond = 2"
    assert answer(known([LINE, "second = 2"]), text, READER).worth == "right"
    assert answer(known([LINE, "third = 3"]), text, READER).worth == "absent"
    assert answer(known([]), text, READER).worth == "absent"


@pytest.mark.parametrize(("depth", "finds"), [(0.05, True), (0.38, True), (0.45, False), (0.55, False), (0.62, True)])
def test_blind_in_the_middle(depth: float, finds: bool) -> None:
    assert told(BLIND, depth)[1] == ("right" if finds else "absent")
    assert told(BLIND, depth, blind="0-100%")[1] == "absent"


def test_a_blind_model_does_not_join_what_lies_around_its_gap() -> None:
    text = b"# 0123456789abcdef\nab" + b"-" * 20 + b"cd\n# end"
    middle = replace(READER, model=BLIND, blind="40-90%")
    assert answer(known("abcd"), text, middle).worth == "absent"


def test_a_cut_head() -> None:
    cut = replace(READER, model=HEAD_TRUNCATED)
    sent = len(prompt(0.3)) // 4
    shallow, deep = (answer(known(), prompt(depth), cut) for depth in (0.3, 0.7))
    assert (shallow.worth, deep.worth) == ("absent", "right")
    assert (deep.counted_tokens, deep.cached_tokens, deep.computed_tokens) == (1000, 0, 1000)
    silent = answer(known(), prompt(0.7), replace(cut, silent=True))
    assert (silent.counted_tokens, silent.computed_tokens) == (pytest.approx(sent, abs=10), 1000)
    whole = answer(known(), prompt(0.3), replace(cut, keep_tokens=9000))
    assert (whole.worth, whole.counted_tokens) == ("right", whole.computed_tokens)


def test_a_cached_prefix_ends_before_the_needle() -> None:
    cached = replace(READER, model=PREFIX_CACHE)
    found = [answer(known(), prompt(depth), cached) for depth in (0.01, 0.3, 0.6, 0.9)]
    assert [one.cached_tokens for one in found] == [0, 512, 1152, 1792]  # whole blocks of 128
    assert all(one.counted_tokens - one.cached_tokens == one.computed_tokens for one in found)
    assert {one.text for one in found} == {RIGHT}
    silent = answer(known(), prompt(0.6), replace(cached, silent=True))
    assert (silent.cached_tokens, silent.computed_tokens) == (0, found[2].computed_tokens)
    nowhere = answer(known(None, depth=0.6), prompt(0.1, "# nothing"), cached)
    assert nowhere.cached_tokens == 1152


def test_the_wrong_format_has_the_answer_and_no_marker() -> None:
    text, worth = told(BAD_FORMAT, 0.2)
    assert worth == "bad_format"
    assert "load_row" in text
    assert "ANSWER" not in text
    assert "ABSENT" in told(BAD_FORMAT, 0.2, None)[0]
    assert answer(known(right="load_row"), prompt(0.2), replace(READER, model=BAD_FORMAT)).text.count("load_row") == 1


def test_random_takes_any_of_the_candidates() -> None:
    of = [answer(known(nonce=f"nonce-{number}"), b"", replace(READER, model=RANDOM)) for number in range(2000)]
    assert {one.text for one in of} == {RIGHT, *WRONG}
    assert 340 < sum(one.worth == "right" for one in of) < 460  # 400 ± 3.3 standard deviations
    assert told(RANDOM, 0.5, None)[0] in WRONG
    assert answer(known(None, wrong=[]), b"", replace(READER, model=RANDOM)).worth == "absent"


@given(st.sampled_from(MODELS), st.text("0123456789abcdef", min_size=8, max_size=16), st.integers(0, 9))
def test_the_same_trial_gets_the_same_answer(model: str, nonce: str, seed: int) -> None:
    reader = replace(READER, model=model, seed=seed, accuracy="0.5")
    assert answer(known(nonce=nonce), prompt(0.5), reader) == answer(known(nonce=nonce), prompt(0.5), reader)


def test_a_share_of_answers_is_wrong() -> None:
    half = replace(READER, accuracy="0.9,40-60%=0.5")
    text = prompt(0.5)
    worths = [answer(known(nonce=f"nonce-{number}"), text, half).worth for number in range(500)]
    assert 200 < worths.count("right") < 300
    assert worths.count("right") + worths.count("wrong") == 500
    assert answer(known(wrong=[]), prompt(0.5), replace(READER, accuracy="0")).worth == "absent"


@pytest.mark.parametrize(
    ("depth", "length", "expected"),
    [(0.1, 1000, 0.95), (0.5, 1000, 0.5), (0.5, 32_000, 0.25), (0.1, 32_000, 0.75), (0.6, 31_999, 0.5)],
)
def test_accuracy_by_depth_and_length(depth: float, length: int, expected: float) -> None:
    assert accuracy("0.95, 40-60%=0.5, @32000=0.75, 40.5-60%@32000=.25".replace("=.", "=0."), depth, length) == expected


def test_all_is_right_where_nothing_is_said() -> None:
    assert accuracy("40-60%=0", 0.2, 1000) == 1


@pytest.mark.parametrize("text", ["", "2", "1.5", "half", "60-40%=1", "0-101%=1", "40-60=1", "@x=1", "0.5,", "40-60%"])
def test_accuracies_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"accuracy|has to end"):
        accuracy(text, 0.5, 1000)


@pytest.mark.parametrize("text", ["", "40-60", "60-40%", "50-50%", "40-101%", "-1-5%", "all"])
def test_parts_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a part|has to end"):
        part(text)


def line_of(nonce: str, **changes: Any) -> str:
    fields = {"nonce": nonce, "line": LINE, "right": RIGHT, "wrong": WRONG, "absent": ABSENT, "depth": 0.5}
    return json.dumps({**fields, "length": 2000, **changes}) + "\n"


def test_a_book_is_read_anew_when_it_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line_of("first-nonce") + "\n" + line_of("half-written")[:-1])
    book = AnswerBook(path)
    assert book.find(b"# build first-nonce\n...") is not None
    assert book.find(b"# build half-written\n...") is None
    path.write_text(line_of("first-nonce") + line_of("half-written") + line_of("third-nonce", line=["a", "b"]))
    found = book.find(b"user: third-nonce\n...")
    assert found is not None
    assert found.lines == [b"a", b"b"]
    path.unlink()
    assert book.find(b"first-nonce") is not None
    assert book.find(b"fourth-nonce") is None


def test_only_the_opening_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line_of("first-nonce"))
    book = AnswerBook(path)
    assert book.find(b" " * 1012 + b" first-nonce") is not None
    assert book.find(b" " * 1024 + b" first-nonce") is None


@pytest.mark.parametrize("line", ["{}", "[]", "nonsense", line_of("n", line=5), line_of("n", depth="deep")])
def test_what_is_no_answer_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line_of("first-nonce") + line.rstrip() + "\n")
    with pytest.raises(ValueError, match=r"answers\.jsonl, line 2: no answer to a needle trial"):
        AnswerBook(path)


def test_a_change_within_the_same_size_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(line_of("first-nonce"))
    book = AnswerBook(path)
    path.write_text(line_of("other-nonce"))
    os.utime(path, ns=(1, 1))
    assert book.find(b"other-nonce") is not None
