"""Ways the scoring can be gamed or wrong, with the required outcome: each row of the design's table, by its number.

Rows 44 to 47 are held to the making of trials, half of row 43 and of row 48 too: their tests are there.
"""

import json

import pytest
from graded import BUG_LINE, CODE, CONTROL, DECOY, TARGET, constant, graded, key, named, planted, several, signature

from latbench.model.needle import NO_TTFT, UNANSWERED, WRONG, Flag, Named, TrialOutcome
from latbench.model.sample import Attempt, Outcome
from latbench.needle.rows import served_from_cache

T, D = named(TARGET), named(DECOY)


def test_row_01_echo_of_the_haystack():
    assert graded(CODE).outcome == TrialOutcome.FORMAT_ERROR
    assert graded(f"```python\n{CODE}\n```").outcome == TrialOutcome.FORMAT_ERROR


def test_row_02_echo_then_a_valid_answer():
    grade = graded(f"{CODE}\n{T}")
    assert grade.outcome == TrialOutcome.CORRECT
    assert Flag.LONG in grade.flags
    assert Flag.LONG not in graded(T).flags


def test_row_03_a_list_of_every_function():
    names = ["load_row", "drop_row", "load_page", "flush", "send_frame", "start"]
    refused = {TrialOutcome.MULTIPLE_ANSWERS, TrialOutcome.FORMAT_ERROR}
    for reply in (
        "\n".join(names),
        ", ".join(names),
        f"ANSWER: {json.dumps({'name': names})}",
        "\n".join(map(named, names)),
    ):
        assert graded(reply).outcome in refused


def test_row_04_two_markers_the_right_one_first():
    assert graded(f"{T}\n{D}").outcome == TrialOutcome.MULTIPLE_ANSWERS


def test_row_05_two_markers_the_right_one_last():
    assert graded(f"{D}\n{T}").outcome == TrialOutcome.MULTIPLE_ANSWERS
    assert (
        graded('ANSWER: {"name": "load_page"} or rather {"name": "load_row"}').outcome == TrialOutcome.MULTIPLE_ANSWERS
    )


def test_row_06_two_markers_both_right():
    assert graded(f"{T}\nOnce more:\n{T}").outcome == TrialOutcome.CORRECT
    assert graded(f"{T}\n{named('Table.load_row()')}").outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize(
    "reply",
    [
        f"```json\n{T}\n```",
        'ANSWER:\n```json\n{"name": "load_row"}\n```',
        'ANSWER: ```json\n{"name": "load_row"}\n```',
        'ANSWER: ```{"name": "load_row"}```',
        '```\n{"name": "load_row"}\n```',
        'ANSWER: {\n  "name": "load_row"\n}',
    ],
)
def test_row_07_fenced(reply: str):
    assert graded(reply).outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize(
    "reply",
    [
        f"**{T}**",
        '**ANSWER:** {"name": "load_row"}',
        '**ANSWER**: {"name": "load_row"}',
        '__ANSWER:__ {"name": "load_row"}',
        f"> {T}",
        f'"{T}"',
        f"'{T}'",
        f"`{T}`",
        f"“{T}”",
        f"- {T}",
        f"* {T}",
        f"• **{T}**",
        f"  1. {T}",
        f"### {T}",
        f"The reason is plain.\n\n- {T}\n\nThat is all.",
    ],
)
def test_row_08_marker_in_bold_quotes_or_a_bullet(reply: str):
    assert graded(reply).outcome == TrialOutcome.CORRECT


def test_row_09_the_bare_name_is_the_whole_reply():
    assert graded(TARGET).outcome == TrialOutcome.CORRECT
    assert graded(f"\n ```\n{TARGET}\n``` \n").outcome == TrialOutcome.CORRECT


def test_row_10_prose_without_a_marker():
    assert graded(f"I think it is {TARGET} because {DECOY} is fine").outcome == TrialOutcome.FORMAT_ERROR


@pytest.mark.parametrize(
    "name", ["load_row()", "`load_row`", "Table.load_row", "store.tables.Table.load_row", "`Table.load_row()`"]
)
def test_row_11_parentheses_backticks_and_the_true_qualifier(name: str):
    assert graded(named(name)).outcome == TrialOutcome.CORRECT
    assert graded(name).outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize("name", ["pages.load_row", "Pager.load_row", "Missing.load_row", "able.load_row", ".load_row"])
def test_row_12_a_qualifier_that_is_not_the_true_one(name: str):
    assert graded(named(name)).outcome in WRONG | {TrialOutcome.FORMAT_ERROR}
    assert not graded(named(name)).right


@pytest.mark.parametrize("name", ["load_row_v2", "load_rowx", "load_ro", "row", "xload_row", "_load_row", "load_row_"])
def test_row_13_a_part_of_the_name_or_more_than_it(name: str):
    assert graded(named(name)).outcome == TrialOutcome.HALLUCINATED


@pytest.mark.parametrize("name", ["Load_Row", "LOAD_ROW", "loadRow"])
def test_row_14_another_case(name: str):
    assert graded(named(name)).outcome == TrialOutcome.HALLUCINATED


def test_row_15_two_numbers_the_right_one_last():
    for reply in ("99999 then 71432", "ANSWER: 99999 then 71432", 'ANSWER: {"value": "99999 then 71432"}'):
        assert graded(reply, constant(71432)).outcome in WRONG | {TrialOutcome.FORMAT_ERROR}


def test_row_16_a_number_that_contains_the_right_one():
    assert graded('ANSWER: {"value": 68844777777777}', constant(6884477777)).outcome == TrialOutcome.HALLUCINATED


@pytest.mark.parametrize(
    "written", ["1_000_000", '"1000000"', "1000000.", "1,000,000", '"1_000_000"', '"1,000,000"', "+1000000"]
)
def test_row_17_integers_as_people_write_them(written: str):
    for reply in (f"ANSWER: {written}", f'ANSWER: {{"value": {written.removesuffix(".")}}}', written):
        assert graded(reply, constant(1_000_000)).outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize(
    "written", ["1e6", "10**6", "1 000 000", "1000000.0", "1,0000,00", "10,00000", "0xf4240", "１００００００"]
)
def test_row_17_no_expressions(written: str):
    for reply in (
        f"ANSWER: {written}",
        f'ANSWER: {{"value": {written}}}',
        f'ANSWER: {{"value": "{written}"}}',
        written,
    ):
        assert graded(reply, constant(1_000_000)).outcome in WRONG | {TrialOutcome.FORMAT_ERROR}


def test_row_18_the_identifier_of_the_question():
    for reply in ("start", named("start"), "ANSWER: start"):
        assert graded(reply, constant(71432)).outcome in WRONG | {TrialOutcome.FORMAT_ERROR}
        assert graded(reply).outcome == TrialOutcome.WRONG_OTHER
    chain = several("one", "two", "three")
    grade = graded('ANSWER: {"names": ["start"]}', chain)
    assert (grade.outcome, grade.f1) == (TrialOutcome.WRONG_OTHER, 0.0)


def test_row_19_the_right_name_with_another_line():
    grade = graded(named(TARGET, line="return self.rows[index]"))
    assert (grade.outcome, grade.line_right) == (TrialOutcome.CORRECT, False)


@pytest.mark.parametrize("line", [BUG_LINE, "if index <= 0:", "\tif  index <= 0:", "if index <= 0:  # wrong"])
def test_row_20_the_line_with_other_indentation_or_comment(line: str):
    assert graded(named(TARGET, line=line)).line_right is True


def test_row_21_the_right_line_and_the_enclosing_class():
    grade = graded(named("Table", line=BUG_LINE))
    assert (grade.outcome, grade.right) == (TrialOutcome.WRONG_OTHER, False)


def test_row_22_a_name_in_the_reasoning_only():
    assert graded("").outcome == TrialOutcome.EMPTY
    assert graded(None, reasoning_tokens=200).outcome == TrialOutcome.EMPTY
    assert graded("", finish="length").outcome == TrialOutcome.TRUNCATED_OUTPUT


def test_row_23_cut_after_a_complete_answer():
    grade = graded(f"{T}\nThis is becau", finish="length")
    assert (grade.outcome, grade.flags) == (TrialOutcome.CORRECT, (Flag.CUT_AFTER_ANSWER,))


@pytest.mark.parametrize(
    "reply", ['ANSWER: {"name": "load_row', 'ANSWER: {"name": "load_row"', "ANSWER: load_row", "ANSWER:", "Let me"]
)
def test_row_24_cut_inside_the_answer(reply: str):
    assert graded(reply, finish="length").outcome == TrialOutcome.TRUNCATED_OUTPUT


@pytest.mark.parametrize(
    "reply", ["ANSWER: ABSENT", "ABSENT", named("ABSENT"), "ANSWER: absent.", '**ANSWER: "ABSENT"**', "`ABSENT`"]
)
def test_row_25_absent_where_there_is_something(reply: str):
    grade = graded(reply)
    assert (grade.outcome, grade.named) == (TrialOutcome.FALSE_ABSENT, Named.ABSENT)
    for field, other in (("value", constant(71432)), ("names", signature()), ("names", several("a", "b"))):
        assert graded(reply.replace("name", field), other).outcome == TrialOutcome.FALSE_ABSENT


@pytest.mark.parametrize(
    "reply", ["ANSWER: ABSENT", "ABSENT", named("ABSENT"), "Absent", 'ANSWER: {"name": ["ABSENT"]}']
)
def test_row_26_absent_where_there_is_nothing(reply: str):
    assert graded(reply, CONTROL).outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize("name", [DECOY, "flush", "no_such_thing"])
def test_row_27_a_name_where_there_is_nothing(name: str):
    assert graded(named(name), CONTROL).outcome == TrialOutcome.FALSE_PRESENT


def test_row_28_always_absent():
    # What the report prints of it: tests/analysis/test_needle_controls.py.
    assert not any(graded("ANSWER: ABSENT", key).right for key in (key(), constant(71432), signature(), several("a")))
    assert graded("ANSWER: ABSENT", CONTROL).right


@pytest.mark.parametrize("place", [0, -1])
def test_row_29_always_the_first_or_the_last_unit(place: int):
    """Specimens stand among filler at all depths, the target is each of them in turn: a place is no clue."""
    units = [f"unit_{at}" for at in range(60)]
    specimens = units[2::5]
    code = "\n".join(f"def {name}(x):\n    return x\n" for name in units)
    for guessed in (units[place], specimens[place]):
        right = []
        for target in specimens:
            depth = units.index(target) / 60
            rivals = tuple(planted(name, "a.py", f"def {name}(x):", 0.5) for name in specimens if name != target)
            to = key(targets=(planted(target, "a.py", f"def {target}(x):", depth),), decoys=rivals, files=())
            right.append(graded(named(guessed), to, code=code).right)
        assert sum(right) == (guessed in specimens)  # 1 of 12: chance
    assert units[place] not in specimens  # and what stands at the very ends is never it, at no depth


def test_row_30_absent_in_free_text():
    assert graded(f"ABSENT, but {TARGET} looks similar").outcome == TrialOutcome.FORMAT_ERROR
    assert graded(f"ABSENT, but {TARGET} looks similar", CONTROL).outcome == TrialOutcome.FORMAT_ERROR


@pytest.mark.parametrize(
    "reply",
    [
        "I can't help with that",
        "I'm sorry, but I cannot assist.",
        "I can’t help with that.",
        "I am unable to process this.",
    ],
)
def test_row_31_refusals(reply: str):
    assert graded(reply).outcome == TrialOutcome.REFUSED
    assert graded("", finish="filter").outcome == TrialOutcome.REFUSED


def test_row_32_another_language():
    assert graded(f"答えは以下の通りです。\n{T}\n以上です。").outcome == TrialOutcome.CORRECT
    assert graded('ANSWER： {"name": "load_row"}').outcome == TrialOutcome.CORRECT


def test_row_33_an_identifier_that_is_nowhere():
    grade = graded(named("fetch_record"))
    assert (grade.outcome, grade.named) == (TrialOutcome.HALLUCINATED, Named.UNKNOWN)


def test_row_34_a_rewritten_function_without_a_marker():
    assert (
        graded("```python\ndef load_row(self, index):\n    if index < 0:\n        return None\n```").outcome
        == TrialOutcome.FORMAT_ERROR
    )


def test_row_35_another_bug_of_the_haystack():
    grade = graded(named("send_frame"))
    assert (grade.outcome, grade.named) == (TrialOutcome.WRONG_OTHER, Named.OTHER)
    assert grade.named_depth == pytest.approx(CODE.index("send_frame") / len(CODE))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("context_length_exceeded", "…"),
        (None, "This model's maximum context length is 8192 tokens."),
        ("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
        ("INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed"),
    ],
)
def test_row_36_the_context_is_too_long(code: str | None, message: str):
    grade = graded(None, outcome=Outcome.INVALID_REQUEST, status=400, error_code=code, error_message=message)
    assert grade.outcome == TrialOutcome.CONTEXT_OVERFLOW
    assert grade.outcome in UNANSWERED


def test_row_37_an_answer_after_a_retry():
    grade = graded(T, tries=[Attempt(0, 0, 1, Outcome.RATE_LIMITED, 429)])
    assert grade.outcome == TrialOutcome.CORRECT
    assert set(grade.flags) & NO_TTFT == {Flag.RETRIED}


def test_row_38_the_stream_dies_after_the_answer():
    grade = graded(T, outcome=Outcome.TRUNCATED, finish=None)
    assert (grade.outcome, grade.flags) == (TrialOutcome.CORRECT, (Flag.BROKEN_AFTER_ANSWER,))
    assert graded(T[:-2], outcome=Outcome.TRUNCATED, finish=None).outcome == TrialOutcome.TRANSPORT_ERROR
    assert graded("ANSWER: load_row", outcome=Outcome.STREAM_ERROR, finish=None).outcome == TrialOutcome.TRANSPORT_ERROR


def test_row_39_fewer_input_tokens_than_were_sent():
    def counted(tokens: int, source: str = "usage") -> TrialOutcome:
        return graded(T, input_tokens=tokens, token_source=source, expected=1_000).outcome

    assert counted(960) == TrialOutcome.TRUNCATED_PROMPT
    assert counted(975) == counted(1_200) == counted(500, "tokenizer") == TrialOutcome.CORRECT
    assert graded(T, input_tokens=500, token_source="usage", expected=1_000).right
    assert TrialOutcome.TRUNCATED_PROMPT in UNANSWERED


def test_row_40_more_in_the_object_than_was_asked_for():
    assert graded('ANSWER: {"name": "load_row", "confidence": 0.9, "why": ["x"]}').outcome == TrialOutcome.CORRECT
    assert graded('ANSWER: {"name": "load_row", "name": "load_row"}').outcome == TrialOutcome.FORMAT_ERROR
    assert graded('ANSWER: {"name": ["load_row", "load_page"]}').outcome == TrialOutcome.MULTIPLE_ANSWERS
    assert graded('ANSWER: {"name": ["load_row", "Table.load_row"]}').outcome == TrialOutcome.CORRECT


def test_row_41_characters_that_are_not_seen_or_look_alike():
    assert graded(named("load\u200b_row\ufeff")).outcome == TrialOutcome.CORRECT
    assert graded("\u200bANSWER: load\u2060_row").outcome == TrialOutcome.CORRECT
    assert graded(named("l\u043ead_row")).outcome == TrialOutcome.HALLUCINATED  # a Cyrillic o


def test_row_42_a_tool_call_instead_of_content():
    assert graded("", finish="tool").outcome == TrialOutcome.EMPTY
    assert graded("I call the tool.", finish="tool").outcome == TrialOutcome.FORMAT_ERROR


def test_row_43_a_marker_in_the_code_is_not_an_answer():
    code = f'{CODE}\n# ANSWER: {{"name": "load_page"}}\n'
    assert graded("I see nothing.", code=code).outcome == TrialOutcome.FORMAT_ERROR
    assert graded(code, code=code).outcome == TrialOutcome.FORMAT_ERROR
    assert graded(f"{code}\n{T}", code=code).outcome == TrialOutcome.CORRECT


def test_row_48_an_answer_out_of_a_response_cache():
    quiet = (390.0, 400.0, 3.0, 410.0)
    assert [served_from_cache(ttft_ms, quiet) for ttft_ms in (400.0, 3.0, 380.0)] == [False, True, False]
    assert not served_from_cache(3.0, ())
