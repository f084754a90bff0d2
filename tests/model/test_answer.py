"""The accumulator: what counts as output gets one stamp, what does not gets none."""

from hypothesis import given
from hypothesis import strategies as st

from latbench.model.answer import NAME_CHARS, Answer
from latbench.model.errors import DecodeError, UserError

KINDS = ("text", "reasoning", "tool")


def add(answer: Answer, kind: str, piece: str, at_ns: int) -> None:
    if kind == "text":
        answer.add_text(piece, at_ns)
    elif kind == "reasoning":
        answer.add_reasoning(piece, at_ns)
    else:
        answer.add_tool_call(0, "", piece, at_ns)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.text(max_size=3))))
def test_every_piece_with_something_in_it_is_stamped_once(pieces: list[tuple[str, str]]) -> None:
    answer = Answer()
    for at_ns, (kind, piece) in enumerate(pieces):
        add(answer, kind, piece, at_ns)
    assert list(answer.output_ns) == [at_ns for at_ns, (_, piece) in enumerate(pieces) if piece]
    assert "".join(answer.text) == "".join(piece for kind, piece in pieces if kind == "text")
    assert "".join(answer.reasoning) == "".join(piece for kind, piece in pieces if kind == "reasoning")
    texts = [at_ns for at_ns, (kind, piece) in enumerate(pieces) if kind == "text" and piece]
    assert answer.first_text_ns == (texts[0] if texts else None)


def test_tool_calls_are_put_together_by_their_number() -> None:
    answer = Answer()
    answer.add_tool_call(1, "loo", "", 10)
    answer.add_tool_call(0, "other", '{"a"', 20)
    answer.add_tool_call(1, "kup", '{"q":', 30)
    answer.add_tool_call(1, "", "1}", 40)
    answer.add_tool_call(2, "", "", 50)
    assert {index: (call.name, "".join(call.arguments)) for index, call in answer.tool_calls.items()} == {
        1: ("lookup", '{"q":1}'),
        0: ("other", '{"a"'),
    }
    assert list(answer.output_ns) == [10, 20, 30, 40]
    assert answer.first_text_ns is None


def test_a_name_without_end_is_cut() -> None:
    """It would be copied with each piece, and take a quarter of an hour of a core for what an answer may hold."""
    answer = Answer()
    for at_ns in range(1000):
        answer.add_tool_call(0, "x" * 100, "", at_ns)
    assert answer.tool_calls[0].name == "x" * NAME_CHARS
    assert len(answer.output_ns) == 1000


def test_two_answers_share_nothing() -> None:
    one, other = Answer(), Answer()
    one.add_text("x", 1)
    one.add_tool_call(0, "f", "{}", 2)
    assert other == Answer()


def test_what_a_user_can_mend_ends_with_two_and_bad_bytes_are_a_value_error() -> None:
    assert UserError("x").exit_code == 2
    assert issubclass(DecodeError, ValueError)
