"""Grading beyond the rows: every outcome of a request, what is named where, sets and lists, and hostile replies."""

import random

import msgspec
import pytest
from graded import CODE, CONTROL, DECOY, TARGET, Case, constant, graded, key, named, planted, sample, several, signature
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.needle import ANSWERED, UNANSWERED, WRONG, Flag, Grade, Named, TrialOutcome
from latbench.model.sample import Outcome
from latbench.needle.grade import OF_SAMPLE, grade
from latbench.needle.lines import same_line
from latbench.needle.reading import integer, is_path
from latbench.needle.trial import FileStart, Form

KEYS = {
    "name": key(),
    "absent": CONTROL,
    "integer": constant(71432),
    "list": signature(),
    "set": several("load_page", "flush", "start"),
    "no integer": msgspec.structs.replace(constant(71432), targets=()),
    "no list": msgspec.structs.replace(signature(), targets=()),
    "no set": several(),
}


# --- what a request's outcome makes of the trial --------------------------------------------------------------------


def test_every_outcome_of_a_request_has_one_of_a_trial():
    assert set(OF_SAMPLE) == set(Outcome)
    assert set(TrialOutcome) == ANSWERED | UNANSWERED
    assert not ANSWERED & UNANSWERED
    assert WRONG < ANSWERED


@pytest.mark.parametrize("outcome", [one for one in Outcome if one != Outcome.OK])
def test_a_failed_request_is_not_the_models_mistake(outcome: Outcome):
    assert graded(None, outcome=outcome).outcome == OF_SAMPLE[outcome]
    assert OF_SAMPLE[outcome] in UNANSWERED


def test_what_is_never_sent_or_ended_by_us_is_withdrawn():
    withdrawn = {outcome for outcome, trial in OF_SAMPLE.items() if trial == TrialOutcome.WITHDRAWN}
    assert withdrawn == {Outcome.CANCELLED, Outcome.DROPPED, Outcome.LOST}


def test_a_request_that_is_refused_for_another_reason_than_its_length():
    assert (
        graded(None, outcome=Outcome.INVALID_REQUEST, error_message="no such model").outcome
        == TrialOutcome.TRANSPORT_ERROR
    )
    too_large = {
        "status": 429,
        "error_message": "Request too large for m: reduce the length, limit 30000 tokens per min",
    }
    assert graded(None, outcome=Outcome.INVALID_REQUEST, **too_large).outcome == TrialOutcome.RATE_LIMITED


def test_an_outcome_that_nobody_knows_is_a_failed_request():
    assert graded("x", outcome="from_the_future").outcome == TrialOutcome.TRANSPORT_ERROR


def test_a_wrong_answer_before_the_stream_died_counts_like_a_right_one():
    assert graded(named(DECOY), outcome=Outcome.TIMEOUT).right is False
    assert graded(named("send_frame"), outcome=Outcome.STALLED).outcome == TrialOutcome.WRONG_OTHER


def test_a_cut_prompt_is_one_whatever_the_answer_was():
    short = {"input_tokens": 100, "token_source": "usage", "expected": 1_000}
    assert graded("Well", finish="length", **short).outcome == TrialOutcome.TRUNCATED_PROMPT
    assert graded(named(DECOY), **short).outcome == TrialOutcome.TRUNCATED_PROMPT
    assert (
        graded(named(DECOY), input_tokens=None, token_source="usage", expected=1_000).outcome
        != TrialOutcome.TRUNCATED_PROMPT
    )


def test_what_came_from_a_cache_is_flagged():
    assert graded(named(TARGET), input_tokens=1_000, cached_tokens=21).flags == (Flag.CACHED,)
    assert graded(named(TARGET), input_tokens=1_000, cached_tokens=20).flags == ()
    assert graded(named(TARGET), reconnects=1).flags == (Flag.RETRIED,)


# --- which thing was named ------------------------------------------------------------------------------------------


def test_a_wrong_name_in_the_right_file_is_a_near_miss():
    near = graded(named("drop_row"))
    assert (near.outcome, near.named) == (TrialOutcome.NEAR_MISS, Named.OTHER)
    assert graded(named("flush")).outcome == TrialOutcome.WRONG_OTHER
    assert graded(named(DECOY)).outcome == TrialOutcome.WRONG_DECOY


def test_a_rival_in_the_right_file_is_a_near_miss_too():
    rival = planted("drop_row", "store/tables.py", "    def drop_row(self, index):", 0.2)
    grade = graded(named("drop_row"), key(decoys=(rival,)))
    assert (grade.outcome, grade.named, grade.named_depth) == (TrialOutcome.NEAR_MISS, Named.DECOY, 0.2)


def test_in_a_single_file_nothing_is_near():
    one = key(files=(FileStart("store/tables.py", 1),))
    assert graded(named("drop_row"), one).outcome == TrialOutcome.WRONG_OTHER
    assert graded(named("drop_row"), key(files=())).outcome == TrialOutcome.WRONG_OTHER


def test_a_class_is_no_near_miss():
    plain = key(targets=(msgspec.structs.replace(key().targets[0], qualifiers=("tables",)),))
    assert graded(named("Table"), plain).outcome == TrialOutcome.WRONG_OTHER


def test_words_around_a_marker_that_is_none():
    for reply in ("ANSWER load_row", "ANSWER * load_row", "MY ANSWER: load_row", "ANSWERS: load_row"):
        assert graded(reply).outcome == TrialOutcome.FORMAT_ERROR


def test_a_name_that_is_used_and_never_defined_has_no_depth():
    grade = graded(named("rows"))
    assert (grade.outcome, grade.named_depth) == (TrialOutcome.NEAR_MISS, None)
    assert graded(named("PAGES")).outcome == TrialOutcome.WRONG_OTHER


def test_numbers_say_what_they_are_of():
    limit = constant(71432)
    assert graded("ANSWER: 99999", limit).named == Named.DECOY
    assert graded("ANSWER: 6884477777", limit).named == Named.OTHER
    assert graded("ANSWER: 5", limit).outcome == TrialOutcome.HALLUCINATED
    computed = constant(12, line="def run(a, b):")
    assert graded("ANSWER: 5", computed).outcome == TrialOutcome.WRONG_OTHER  # wrongly calculated, not made up


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ('ANSWER: {"name": ["a", 5]}', TrialOutcome.FORMAT_ERROR),
        ('ANSWER: {"name": ["a b"]}', TrialOutcome.FORMAT_ERROR),
        ('ANSWER: {"name": []}', TrialOutcome.FORMAT_ERROR),
        ('ANSWER: {"name": null}', TrialOutcome.FORMAT_ERROR),
        ('ANSWER: {"label": "load_row"}', TrialOutcome.FORMAT_ERROR),
        ('ANSWER: {"name": [' + ", ".join(['"a"'] * 1_001) + "]}", TrialOutcome.OVERLONG),
        ('ANSWER: {"name": ["ABSENT", "load_row"]}', TrialOutcome.MULTIPLE_ANSWERS),
    ],
)
def test_values_that_are_no_one_name(reply: str, outcome: TrialOutcome):
    assert graded(reply).outcome == outcome


@pytest.mark.parametrize("reply", ['ANSWER: {"name": 5}', 'ANSWER: {"name": 1e400}', 'ANSWER: {"name": NaN}'])
def test_a_number_for_a_name_is_wrong(reply: str):
    assert not graded(reply).right
    assert graded(reply).outcome in ANSWERED


def test_more_objects_or_markers_than_anybody_reads():
    assert graded("ANSWER: " + '{"name": "load_row"} ' * 8).outcome == TrialOutcome.CORRECT
    assert graded("ANSWER: " + '{"name": "load_row"} ' * 9).outcome == TrialOutcome.OVERLONG
    assert graded(f"{named(TARGET)}\n" * 64).outcome == TrialOutcome.CORRECT
    assert graded(f"{named(TARGET)}\n" * 65).outcome == TrialOutcome.OVERLONG


def test_an_object_without_a_marker_stands_alone_or_is_none():
    assert graded('{"name": "load_row"}').outcome == TrialOutcome.CORRECT
    assert graded('{"name": "load_row"} and more').outcome == TrialOutcome.FORMAT_ERROR
    assert graded('{"label": "load_row"}').outcome == TrialOutcome.FORMAT_ERROR


def test_too_long_an_identifier():
    assert graded(named("x" * 129)).outcome == TrialOutcome.OVERLONG
    assert graded(f"ANSWER: {'x' * 129}").outcome == TrialOutcome.OVERLONG
    assert graded(named("x" * 128)).outcome == TrialOutcome.HALLUCINATED


# --- lists and sets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        'ANSWER: {"names": ["payload", "timeout", "retries"]}',
        "ANSWER: payload, timeout, retries",
        "payload, timeout, retries",
    ],
)
def test_a_list_in_order(reply: str):
    assert graded(reply, signature()).outcome == TrialOutcome.CORRECT


def test_a_list_that_is_not_the_one():
    assert graded("ANSWER: timeout, payload, retries", signature()).outcome == TrialOutcome.WRONG_OTHER
    assert graded("ANSWER: payload", signature()).outcome == TrialOutcome.WRONG_OTHER
    assert graded("ANSWER: payload, timeout, fee", signature()).outcome == TrialOutcome.HALLUCINATED
    assert graded("ANSWER: " + ", ".join(["a"] * 13), signature()).outcome == TrialOutcome.OVERLONG


def test_a_list_of_one_may_come_without_its_brackets():
    alone = key(
        Form.NAMES, targets=(planted("start", "net/wire.py", "def start(port):", 0.9, value=("port",)),), asked=()
    )
    assert graded("ANSWER: port", alone).outcome == TrialOutcome.CORRECT
    assert graded('ANSWER: {"names": "port"}', alone).outcome == TrialOutcome.CORRECT


@pytest.mark.parametrize(
    ("names", "outcome", "precision", "recall"),
    [
        (["flush", "start", "load_page"], TrialOutcome.CORRECT, 1, 1),
        (["flush", "flush", "start", "load_page"], TrialOutcome.CORRECT, 1, 1),
        (["flush", "start"], TrialOutcome.WRONG_OTHER, 1, 2 / 3),
        (["flush", "start", "load_page", "Table"], TrialOutcome.WRONG_OTHER, 3 / 4, 1),
        (["flush", "no_such"], TrialOutcome.HALLUCINATED, 1 / 2, 1 / 3),
        ([], TrialOutcome.WRONG_OTHER, 0, 0),
    ],
)
def test_a_set(names: list[str], outcome: TrialOutcome, precision: float, recall: float):
    asked = key(Form.NAME_SET, targets=several("load_page", "flush", "start").targets, decoys=(), asks_line=False)
    grade = graded("ANSWER: " + msgspec.json.encode({"names": names}).decode(), asked)
    assert (grade.outcome, grade.precision, grade.recall) == (outcome, pytest.approx(precision), pytest.approx(recall))
    assert 0 <= (grade.f1 or 0) <= 1


def test_a_list_where_there_is_nothing():
    assert graded("ANSWER: payload, timeout", KEYS["no list"]).outcome == TrialOutcome.FALSE_PRESENT
    assert graded("ANSWER: ABSENT", KEYS["no list"]).outcome == TrialOutcome.CORRECT
    assert graded("ANSWER: 5", KEYS["no integer"]).outcome == TrialOutcome.FALSE_PRESENT


def test_a_set_of_far_too_many():
    names = [f"name_{at}" for at in range(13)]
    assert graded("ANSWER: " + ", ".join(names), KEYS["set"]).outcome == TrialOutcome.OVERLONG
    assert graded("ANSWER: " + ", ".join(names * 200), KEYS["set"]).outcome == TrialOutcome.OVERLONG


def test_f1_is_for_sets_only():
    assert graded(named(TARGET)).f1 is None


def test_one_name_is_a_set():
    assert graded("ANSWER: flush", several("flush")).outcome == TrialOutcome.CORRECT
    assert graded('ANSWER: {"names": 5}', several("flush")).right is False
    assert graded("ANSWER: flush", key(Form.NAME_SET, targets=())).outcome == TrialOutcome.FALSE_PRESENT


# --- the line -------------------------------------------------------------------------------------------------------


def test_a_number_is_no_line():
    assert graded(named(TARGET, line="4")).line_right is False
    assert graded('ANSWER: {"name": "load_row", "line": 4}').line_right is False
    assert graded(named(TARGET, line="x" * 3_000)).line_right is False
    assert graded(named(TARGET)).line_right is False
    assert graded(named(TARGET), CONTROL).line_right is None


def test_a_hash_in_a_string_is_no_comment():
    line = "return \"a # b\" + 'it\\'s #'  # note"
    one = planted("f", "a.py", line, 0.5)
    assert same_line("return \"a # b\" + 'it\\'s #'", one)
    assert not same_line('return "a', one)


# --- hostile replies ------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20
PIECES = (
    "ANSWER", "ANSWER:", "ANSWER: ", "\nANSWER: ", "\nANSWER:\n", '\nANSWER: {"name": ', '\nANSWER: {"name": "x"}',
    "\n", "\r", " ", "{", "[",
    '{"name":', '{"a":', "}", '"', "`", "```\n", "\n```", "*", "#", "> ", "- ", "1.", ",", "a,", "_", "0", "9", "1_",
    "\u200b", "load_row", "load_row\n", "load_row,", "\ud800", "é", "I can't ", "can't ", "ABSENT ",
    "\\", "'", "\t", "()", ".", "a.", "\x00",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize(
    ("kind", "size"),
    [("name", MEGABYTE // 8)]
    + [pytest.param(kind, MEGABYTE, marks=pytest.mark.long) for kind in ("name", "absent", "integer", "list", "set")],
)
def test_a_megabyte_of_anything_takes_linear_time(piece: str, kind: str, size: int):
    """A reader of quadratic time would run into the timeout of the tests."""
    text = piece * (size // len(piece))
    for reply in (text, f"ANSWER: {text}", f'ANSWER: {{"name": "{text}'):
        assert graded(reply, KEYS[kind]).outcome in ANSWERED


def test_a_megabyte_of_everything():
    text = "".join(random.Random(1).choices(PIECES, k=200_000))
    assert graded(text[:MEGABYTE]).outcome in ANSWERED


def test_a_long_answer_held_against_long_code():
    code = "\n".join(f"def load_{at}(x): return x" for at in range(40_000))
    assert graded(named("load_39999"), code=code).outcome == TrialOutcome.WRONG_OTHER
    assert graded(named("x"), code=code).outcome in WRONG


def test_huge_numbers_and_deep_nesting():
    for reply in (
        f"ANSWER: {'9' * 10_000}",
        f'ANSWER: {{"value": {"9" * 10_000}}}',
        f"ANSWER: {'[' * 10_000}",
        "ANSWER: " + '{"value":' * 1_500,
    ):
        assert graded(reply, constant(7)).outcome in ANSWERED


def test_a_grade_can_be_written_whatever_was_answered():
    for reply in (
        "ANSWER: \ud800",
        named("a") + "\udfff",
        'ANSWER: {"name": "\\ud800x"}',
        'ANSWER: {"name": "a\\u0000"}',
    ):
        msgspec.json.encode(graded(reply))


whole = ("71432", "payload", ": ", "}\n", named(TARGET), named(DECOY))
replies = st.lists(st.one_of(st.sampled_from((*PIECES, *whole)), st.text(max_size=8)), max_size=12).map("".join)
blanks = st.text(alphabet=" \t\r\n", max_size=40)


@given(
    replies,
    st.sampled_from(sorted(KEYS)),
    st.sampled_from(list(Outcome)),
    st.sampled_from([None, "stop", "length", "filter", "odd"]),
)
def test_grading_never_raises_and_is_pure(reply: str, kind: str, outcome: Outcome, finish: str | None):
    trial, asked = Case(KEYS[kind]).trial, sample(reply, outcome, finish, input_tokens=10, token_source="usage")
    before = msgspec.structs.asdict(asked)
    first = grade(asked, trial, 12.0)
    assert first == grade(asked, trial, 12.0)
    assert msgspec.structs.asdict(asked) == before
    assert msgspec.json.decode(msgspec.json.encode(first), type=Grade) == first
    assert first.outcome in TrialOutcome
    assert not (first.outcome == TrialOutcome.CORRECT and not first.right)


@given(replies, st.sampled_from(sorted(KEYS)), blanks, blanks)
def test_white_space_around_a_reply_changes_nothing(reply: str, kind: str, before: str, after: str):
    assert graded(f"{before}{reply}{after}", KEYS[kind]) == graded(reply, KEYS[kind])


@given(st.text(max_size=300).filter(lambda text: TARGET not in text and "ANSWER" not in text))
def test_what_never_says_the_name_is_never_right(reply: str):
    assert not graded(reply).right
    assert not graded(f"ANSWER: {reply}").right


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_integers_are_read_back(value: int):
    for written in (str(value), f"{value:_}", f"{value:,}", f" `{value}`.", f'"{value}"'):
        assert integer(written) == value


@given(st.text(alphabet="0123456789_,.+-e* x", max_size=30))
def test_what_reads_as_an_integer_has_its_digits(written: str):
    value = integer(written)
    if value is not None:
        assert int("".join(char for char in written if char.isdigit())) == abs(value)


def test_paths():
    assert all(map(is_path, ("a", "a.b", "_x()", "é", "a.b.c()")))
    assert not any(map(is_path, ("", "()", "a b", "a.", ".a", "1a", "a(1)", "a-b")))


def test_the_code_of_these_tests_has_what_the_keys_say():
    for one in (*key().targets, *key().decoys):
        assert CODE.splitlines()[one.line_number - 1] == one.line
