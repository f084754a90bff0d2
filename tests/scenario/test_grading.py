"""Answers read once: counted, held against a schema and against what the prompt expects, then forgotten."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.errors import UserError
from latbench.model.request import MODES, Message, Prompt
from latbench.model.sample import Outcome, Sample
from latbench.scenario.grading import DEFAULT_SCHEMA, Reader, expectation
from latbench.scenario.json_schema import check_schema, schema_check
from latbench.scenario.tokens import count

GOOD = {"summary": "It adds.", "code": ""}
FINDING = {"finding": {"symbol": "total", "words": ["Overflow", "wraps"], "file": "src/deep/sum.go"}}
MET = "In sum.go, total() overflows: it WRAPS around."


def prompt(id: str = "p", expect: Any = None) -> Prompt:
    return Prompt(id, "review", "go", (Message("user", "x"),), 1, "0" * 64, expect=expect)


def answered(text: str | None, mode: str = "text", **changes: Any) -> Sample:
    found = Sample("e", 0, 0, "p", "measure", Outcome.OK, output_mode=mode, text=text, text_chars=len(text or ""))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def read(sample: Sample, *prompts: Prompt) -> Sample:
    Reader(DEFAULT_SCHEMA, prompts or (prompt(expect=FINDING),)).read(sample)
    return sample


# --- the whole -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_has_a_schema_or_an_expectation(mode: str) -> None:
    for text, valid, met in ((json.dumps(GOOD), True, False), (MET, False, True), ("x", False, False)):
        sample = read(answered(text, mode))
        assert (sample.valid, sample.met) == ((None, met) if mode == "text" else (valid, None))
        assert sample.text is None, "nobody needs it any more"


@pytest.mark.parametrize("outcome", [one for one in Outcome if one != Outcome.OK])
def test_what_is_not_ok_is_not_graded(outcome: Outcome) -> None:
    for mode in MODES:
        sample = read(answered(MET, mode, outcome=outcome, token_source="tokenizer"))
        assert (sample.valid, sample.met, sample.text, sample.reference_tokens) == (None, None, None, None)
        assert sample.output_tokens is None


def test_an_answer_after_which_a_tool_loop_goes_on_is_not_held_against_what_is_expected() -> None:
    assert read(answered("x", tool_calls=1, tools_parallel_ns=0, tools_sequential_ns=0)).met is None
    assert read(answered("x", tool_calls=1)).met is False, "the answer of no loop"


def test_a_prompt_that_expects_nothing_is_not_graded() -> None:
    assert read(answered(MET), prompt()).met is None
    assert read(answered(MET), prompt("other", FINDING)).met is None


@pytest.mark.parametrize("mode", MODES)
def test_no_text_satisfies_nothing(mode: str) -> None:
    sample = read(answered(None, mode))
    assert (sample.valid, sample.met) == ((None, False) if mode == "text" else (False, None))
    assert sample.reference_tokens is None


@pytest.mark.parametrize(("source", "tokens"), [("tokenizer", None), ("usage", 77), ("none", None)])
def test_the_reference_counts_visible_text_beside_the_providers_own(source: str, tokens: int | None) -> None:
    sample = read(answered(MET, token_source=source, output_tokens=tokens))
    assert sample.reference_tokens == count(MET)
    assert sample.output_tokens == (count(MET) if source == "tokenizer" else tokens)


def test_the_arguments_of_a_tool_are_graded_but_are_no_visible_text() -> None:
    sample = read(answered(json.dumps(GOOD), "tool", text_chars=0))
    assert (sample.valid, sample.reference_tokens) == (True, None)


# --- a schema --------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
SPACE = st.text(" \t\r\n", max_size=3)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        (json.dumps(GOOD), True),
        ("```json\n" + json.dumps(GOOD, indent=1) + "\n```", True),
        ("\n ```\n" + json.dumps(GOOD) + "\n ``` \n", True),
        ("Here it is:\n```json\n" + json.dumps(GOOD) + "\n```", False),
        ("```json\n" + json.dumps(GOOD) + "\n```\nEnjoy!", False),
        ("```json\n```json\n" + json.dumps(GOOD) + "\n```\n```", False),
        (json.dumps(GOOD) + json.dumps(GOOD), False),
        (json.dumps(GOOD)[:-1], False),
        (json.dumps({"summary": "x"}), False),
        (json.dumps(GOOD | {"more": 1}), False),
        (json.dumps({"summary": 1, "code": ""}), False),
        (json.dumps([GOOD]), False),
        ('{"summary": NaN, "code": ""}', False),
        ("", False),
        ("null", False),
        ('{"summary": "\ud800", "code": ""}', False),
        ("[" * 200_000, False),
        ('{"summary":' * 50_000, False),
    ],
)
def test_one_json_value_in_one_fence_at_most(text: str, fits: bool) -> None:
    assert schema_check(DEFAULT_SCHEMA)(text) is fits


@pytest.mark.parametrize(
    "text",
    [
        "```",
        "``````",
        "```json",
        "```json\n```",
        "```json {}\n{}\n```",
        "```json5\n{}\n```",
        "```jsön\n{}\n```",
        "```\n{}",
        "```\n{}```",
        "{}\n```",
        "`\n{}\n```",
        "````\n{}\n````",
    ],
)
def test_what_is_no_fence(text: str) -> None:
    assert schema_check({"type": "object"})(text) is False


# A pattern that forgives white space takes days for some of these: they run in a process that can be killed.
ENDLESS = """
import sys
from latbench.scenario.json_schema import schema_check
satisfies = schema_check({"type": "object"})
size = int(sys.argv[1])
texts = ["```json\\n" + "\\n" * size, "\\n" * size, "```json\\n{" + "\\n" * size + "x```", "```" + " " * size + "x"]
print([satisfies(text) for text in texts])
"""


@pytest.mark.parametrize("size", [200_000, 1_000_000])
def test_white_space_without_end_is_read_in_no_time(size: int) -> None:
    """Both below and above what is graded at all."""
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS, str(size)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == str([False] * 4)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
@pytest.mark.parametrize("char", ["a", "ä"])
def test_what_is_longer_than_256_kb_satisfies_nothing(char: str, more: int, fits: bool) -> None:
    around = len('{"a":""}')
    count = (256 * 1024 - around) // len(char.encode())
    assert schema_check({"type": "object"})(f'{{"a":"{char * (count + more)}"}}') is fits


@pytest.mark.parametrize("step", [0.1, 1e-300, 1e300, 3])
def test_a_huge_integer_has_no_quotient_with_a_fraction(step: float) -> None:
    satisfies = schema_check({"type": "object", "properties": {"n": {"multipleOf": step}}})
    assert satisfies(f'{{"n": 1{"0" * 400}}}') is False


@given(JSON, SPACE, SPACE, st.booleans())
def test_space_and_a_fence_change_nothing(value: Any, before: str, after: str, fenced: bool) -> None:
    satisfies = schema_check({"type": "object"})
    text = json.dumps(value)
    around = f"{before}```json\n{text}\n```{after}" if fenced else f"{before}{text}{after}"
    assert satisfies(around) is isinstance(value, dict)


@given(st.text(max_size=200))
def test_no_text_is_too_odd_to_be_graded(text: str) -> None:
    assert schema_check(DEFAULT_SCHEMA)(text) in (True, False)
    assert expectation(FINDING)(text) in (True, False)  # type: ignore[misc]


def test_a_schema_of_an_object_is_taken_as_it_is() -> None:
    assert check_schema(DEFAULT_SCHEMA) is DEFAULT_SCHEMA
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object", "properties": {"n": {"minimum": 1}}}
    assert check_schema(old) is old


@pytest.mark.parametrize("schema", [None, [], "object", {}, {"type": "array"}, {"properties": {}}])
def test_what_is_no_schema_of_an_object(schema: Any) -> None:
    with pytest.raises(UserError, match="must be a JSON Schema with `type: object`"):
        check_schema(schema)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"properties": {"a": {"type": "text"}}}, r"not a JSON Schema at properties\.a\.type: 'text'"),
        ({"properties": {"a": {"enum": 1}}}, r"not a JSON Schema at properties\.a\.enum: 1 "),
        ({"required": ["a", 1]}, r"not a JSON Schema at required\[1\]: 1 "),
        ({"$schema": 7}, r"not a JSON Schema at \$schema"),
        ({"$schema": ["a"]}, r"not a JSON Schema at \$schema"),
        ({"$schema": "nope"}, r"not a JSON Schema at \$schema: names no draft that is known"),
        (
            {"properties": {"a": {"pattern": "("}}},
            r"not a JSON Schema at properties\.a\.pattern: '\(' is not a 'regex'",
        ),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, r"#/\$defs/b: a reference to what is not in this"),
        ({"properties": {"a": {"items": {"$ref": "http://127.0.0.1:9/b"}}}}, r"http://127.0.0.1:9/b: a reference"),
        ({"properties": {"a": {"$ref": "http://["}}}, r"http://\[: a reference"),
        ({"properties": {"a": {"$dynamicRef": "#b"}}}, r"#b: a reference"),
        ({"$ref": "#/$defs/b", "$defs": {"b": {"$ref": "c"}}}, r"c: a reference"),
    ],
)
def test_a_wrong_schema_is_refused_with_its_place(wrong: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError, match=where):
        check_schema({"type": "object"} | wrong)


def test_references_within_a_schema_are_followed() -> None:
    names = {"$ref": "#/$defs/name"}
    schema = {
        "type": "object",
        "properties": {"a": names, "more": {"type": "array", "items": {"$ref": "#"}}, "const": {"$dynamicRef": "#n"}},
        "additionalProperties": False,
        "$defs": {"name": {"type": "string"}, "other": {"$id": "urn:x", "$ref": "#/$defs/y", "$defs": {"y": True}}},
        "if": {"properties": {"a": {"const": {"$ref": "only data"}}}},
        "not": {"$dynamicAnchor": "n", "required": ["never"]},
    }
    satisfies = schema_check(check_schema(schema))
    assert satisfies('{"a": "x", "more": [{"a": "y"}]}')
    assert not satisfies('{"a": "x", "more": [{"a": 1}]}')


def test_a_reference_without_end_is_satisfied_by_nothing() -> None:
    assert schema_check(check_schema({"type": "object", "$ref": "#"}))("{}") is False


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # which would keep the library from fetching, too
def test_a_reference_behind_what_is_no_schema_is_not_fetched(tmp_path: Path) -> None:
    """It stands where no draft looks for schemas: found only when an answer gets there."""
    there = tmp_path / "b.json"
    there.write_text('{"type": "object"}')
    hidden = {"type": "object", "$ref": "#/mine/a", "mine": {"a": {"$ref": there.as_uri()}}}
    assert schema_check(check_schema(hidden))("{}") is False


# --- an expectation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expect",
    [
        None,
        "total",
        [],
        {},
        {"finding": "total"},
        {"finding": {}},
        {"finding": {"symbol": "", "words": [], "file": ""}},
        {"finding": {"symbol": 7}},
        {"finding": {"symbol": "total", "line": 4}},
        {"tests": ["a"]},
    ],
)
def test_what_cannot_be_scored_is_not(expect: Any) -> None:
    assert expectation(expect) is None


@pytest.mark.parametrize(
    ("finding", "text", "met"),
    [
        (FINDING["finding"], MET, True),
        (FINDING["finding"], MET.replace("sum.go", "add.go"), False),
        (FINDING["finding"], MET.replace("total", "subtotal"), False),
        (FINDING["finding"], "sum.go: total() is wrong", False),
        ({"symbol": "add"}, "address", False),
        ({"symbol": "add"}, "`add`", True),
        ({"symbol": "add"}, "ADD", False),
        ({"symbol": "a.b*"}, "see a.b* there", True),
        ({"symbol": "a.b*"}, "see aXbb there", False),
        ({"words": ["Overflow", "wrap"]}, "an OVERFLOWING sum", True),
        ({"words": [7]}, "line 7", True),
        ({"words": ["overflow"]}, "an underflow", False),
        ({"file": "src/deep/sum.go"}, "In SUM.GO", True),
        ({"file": "sum.go"}, "In sum", False),
    ],
)
def test_symbol_file_and_a_word(finding: dict[str, Any], text: str, met: bool) -> None:
    check = expectation({"finding": finding, "why": "not scored"})
    assert check is not None
    assert check(text) is met
