"""What every dialect reads the fields of an answer with."""

import msgspec
import pytest

from latbench.model.answer import FINISH_REASONS as VOCABULARY
from latbench.model.answer import Answer, Refusal
from latbench.model.errors import DecodeError
from latbench.providers.fields import (
    FINISH_REASONS,
    Wire,
    count,
    excerpt,
    finish,
    finish_reason,
    identity,
    json_text,
    parse,
    refuse,
)


class Piece(Wire):
    text: str


PIECE = msgspec.json.Decoder(Piece)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("COMPLETE", "stop"),
        ("MAX_TOKENS", "length"),
        ("max_output_tokens", "length"),
        ("TOOL_CALL", "tool"),
        ("refusal", "filter"),
        ("SPII", "filter"),
        ("TIMEOUT", "error"),
        ("OTHER", "error"),
        ("Pause_Turn", "Pause_Turn"),
        ("x" * 999, "x" * 200),
    ],
)
def test_finish_reasons_have_one_vocabulary(word: str, reason: str) -> None:
    assert finish_reason(word) == reason


def test_the_map_knows_no_word_that_is_not_ours() -> None:
    assert set(FINISH_REASONS.values()) == set(VOCABULARY)
    assert all(word == word.lower() for word in FINISH_REASONS)


def test_a_finish_reason_is_no_sign_of_completion() -> None:
    answer = Answer()
    finish("end_turn", answer)
    assert (answer.finish_reason, answer.refusal, answer.complete) == ("stop", None, False)


def test_a_finish_reason_can_be_an_error_and_an_error_stays() -> None:
    answer = Answer()
    finish("TIMEOUT", answer)
    finish("stop", answer)
    refuse(Refusal("overloaded"), answer)
    assert answer.finish_reason == "error"
    assert answer.refusal == Refusal("stream_error", message="the finish reason is TIMEOUT")


@pytest.mark.parametrize(
    ("tokens", "kept"), [(0, 0), (5, 5), (2**53 - 1, 2**53 - 1), (2**53, 7), (10**30, 7), (-1, 7), (None, 7)]
)
def test_only_a_count_is_counted(tokens: int | None, kept: int) -> None:
    assert count(tokens, 7) == kept


@pytest.mark.parametrize(
    ("value", "name"), [(None, None), ("", None), (0, None), (7, "7"), ("a\nb", "a b"), ("i" * 999, "i" * 200)]
)
def test_names_are_short_lines(value: object, name: str | None) -> None:
    assert identity(value) == name


def test_what_is_expected_is_parsed() -> None:
    assert parse(PIECE, b'{"text":"a","more":[1]}', "a piece") == Piece("a")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html>",
        b'{"text":1}',
        b"{}",
        b'{"text":"\xff"}',
        b'{"text":"\xed\xa0\x80"}',
        b'{"x":' + b"[" * 10**5,
        b'{"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
    ],
)
def test_what_is_not_is_refused_shortly(payload: bytes) -> None:
    with pytest.raises(DecodeError, match=r"^not a piece ") as caught:
        parse(PIECE, payload, "a piece")
    assert len(str(caught.value)) < 500


def test_an_excerpt_is_short() -> None:
    assert excerpt(b"\xff" * 999) == repr(b"\xff" * 60)


def test_a_value_is_json_again_unless_it_is_too_deep() -> None:
    assert json_text({"a": "ö"}) == '{"a":"ö"}'
    deep: list[object] = []
    for _ in range(10**5):
        deep = [deep]
    with pytest.raises(DecodeError, match="nested too deeply"):
        json_text(deep)
