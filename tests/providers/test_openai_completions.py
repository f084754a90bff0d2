"""What requests look like, and what single events and plain answers mean. Whole streams: test_conformance.py."""

import json
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import latbench
from latbench.model.answer import Answer, Refusal, Usage
from latbench.model.errors import DecodeError
from latbench.model.request import Ask, Endpoint, Fill, Message
from latbench.providers.openai_completions import DIALECT

MESSAGES = (Message("system", "Be short."), Message("user", "Grüße"))


def endpoint(**fields: object) -> Endpoint:
    values: dict[str, Any] = {
        "name": "e",
        "provider": "p",
        "api": "openai-completions",
        "base_url": "http://h/v1",
        "model": "m",
    }
    return Endpoint(**values | fields)


def body(ask: Ask | None = None, **fields: object) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(DIALECT.build(endpoint(**fields), ask or Ask(MESSAGES, 64)).body)
    return decoded


def decoded(*events: object) -> Answer:
    answer = Answer()
    for at, event in enumerate(events):
        DIALECT.decode(event if isinstance(event, bytes) else json.dumps(event).encode(), at, answer)
    return answer


def chunk(text: object = "", finish: object = None, **fields: object) -> dict[str, Any]:
    return {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}], **fields}


def plain(document: object) -> Answer:
    answer = Answer()
    DIALECT.decode_plain(document if isinstance(document, bytes) else json.dumps(document).encode(), 5, answer)
    return answer


def test_the_request_of_a_stream() -> None:
    request = DIALECT.build(endpoint(), Ask(MESSAGES, 64))
    assert request.path == "/completions"
    assert request.headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{latbench.__version__}",
    }
    assert json.loads(request.body) == {
        "model": "m",
        "prompt": "Be short.\n\nGrüße",
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_request_of_a_plain_answer() -> None:
    request = DIALECT.build(endpoint(stream=False), Ask(MESSAGES, 64))
    assert request.headers["accept"] == "application/json"
    assert json.loads(request.body)["stream"] is False
    assert "stream_options" not in json.loads(request.body)


def test_a_gap_is_sent_as_the_text_around_it() -> None:
    assert DIALECT.fills
    sent = body(Ask(MESSAGES, 64, fill=Fill("def f(x):\n    ", "\n    return y\n")))
    assert (sent["prompt"], sent["suffix"]) == ("def f(x):\n    ", "\n    return y\n")
    assert "suffix" not in body()


def test_no_mode_is_enforced() -> None:
    assert DIALECT.modes == frozenset()


def test_servers_that_refuse_unknown_fields_are_not_asked_for_usage() -> None:
    assert "stream_options" not in body(usage="off")


def test_the_limit_has_one_name() -> None:
    for field in ("auto", "max_tokens", "max_completion_tokens"):
        sent = body(model="gpt-5", max_tokens_field=field)
        assert [key for key in sent if key.startswith("max_")] == ["max_tokens"]


def test_fields_of_the_scenario_have_the_last_word() -> None:
    sent = body(body={"temperature": 0, "stream_options": {"continuous_usage_stats": True}})
    assert sent["temperature"] == 0
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


def test_what_is_built_is_not_for_a_scenario_to_set() -> None:
    assert set(body(Ask(MESSAGES, 64, fill=Fill("a", "b")))) <= DIALECT.own


def test_the_key_goes_into_one_header() -> None:
    assert DIALECT.auth("sk-1") == {"authorization": "Bearer sk-1"}


def test_the_first_text_is_the_first_output() -> None:
    answer = decoded(chunk(""), chunk(None), chunk("a"), chunk("b", "stop"))
    assert (list(answer.output_ns), answer.first_text_ns, answer.text) == ([2, 3], 2, ["a", "b"])
    assert (answer.finish_reason, answer.complete) == ("stop", True)


def test_a_chunk_with_several_choices_has_one_stamp() -> None:
    both = {"choices": [{"index": i, "text": "x"} for i in (0, 1)]}
    assert list(decoded(chunk("a"), both, chunk("b")).output_ns) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "filter"), ("x" * 500, "x" * 200)],
)
def test_finish_reasons_have_one_vocabulary(sent: str, kept: str) -> None:
    for answer in (decoded(chunk("", sent)), plain(chunk("", sent))):
        assert (answer.finish_reason, answer.complete, answer.refusal) == (kept, True, None)


def test_the_signs_of_completion() -> None:
    assert not decoded(chunk("a", ""), chunk("b")).complete
    assert decoded(b"[DONE]").complete
    assert decoded(chunk("", "stop")).complete


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"code": 503, "message": "busy"}},
        {"object": "error", "code": 503, "message": "busy"},
        {"choices": [{"text": "", "error": {"code": 503, "message": "busy"}}]},
    ],
)
def test_an_error_in_any_shape_beats_a_finish_reason(error: dict[str, Any]) -> None:
    for events in ([chunk("", "stop"), error], [error, chunk("", "stop")]):
        answer = decoded(*events, b"[DONE]")
        assert answer.refusal == Refusal("overloaded", code="503", message="busy")
        assert answer.finish_reason == "error"
    assert plain(error).refusal == Refusal("overloaded", code="503", message="busy")


def test_usage_is_kept_field_by_field_and_the_last_count_stands() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 1}}
    answer = decoded(
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1, **details}},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}},
        {"choices": [], "usage": {"completion_tokens": -1, "prompt_tokens": 10**30}},
        {"choices": [], "usage": None},
    )
    assert answer.usage == Usage(input=9, output=2, reasoning=1, cached=3)


@pytest.mark.parametrize(
    "event",
    [
        {"choices": None},
        {"choices": []},
        {"usage": None},
        {"object": "text_completion"},
        {"error": None, "choices": []},
    ],
)
def test_chunks_that_carry_nothing(event: dict[str, Any]) -> None:
    assert decoded(event) == Answer()


@pytest.mark.parametrize(
    "event",
    [
        {"choices": {}},
        {"choices": ["a"]},
        chunk(1),
        chunk(["a"]),
        chunk("a", 7),
        {"usage": {"prompt_tokens": "9"}},
        {"object": "chat.completion.chunk"},
        {"error": {}},
        b'{"choices":[{"text":"\\ud800"}]}',
        b'{"choices":[{"text":"\xed\xa0\x80"}]}',
        b'{"choices":[],"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b'{"object":"error","message":"a","more":1e999}',
        b'{"object":"error","message":"a","more":"\xff"}',
    ],
)
def test_what_is_no_chunk_is_refused(event: object) -> None:
    with pytest.raises(DecodeError, match=r"not a (chunk of a )?completion") as caught:
        decoded(event)
    assert len(str(caught.value)) < 500


def test_names_are_kept_from_the_first_chunk_that_has_them_and_capped() -> None:
    named = {"id": "i" * 999, "model": "mm", "system_fingerprint": 7, "choices": []}
    answer = decoded({"id": "", "model": "", "choices": []}, named, {**named, "id": "j", "model": "other"})
    assert (answer.request_id, answer.model, answer.fingerprint) == ("i" * 200, "mm", "7")


def test_a_plain_answer_has_no_arrival_times() -> None:
    answer = plain(chunk("Hello", "stop", id="x", model="m", usage={"prompt_tokens": 3, "completion_tokens": 4}))
    assert (answer.text, answer.output_ns, answer.first_text_ns) == (["Hello"], array("q"), None)
    assert (answer.finish_reason, answer.complete, answer.usage) == ("stop", True, Usage(3, 4))
    assert (answer.request_id, answer.model) == ("x", "m")
    assert plain(chunk("a")).complete


@pytest.mark.parametrize(
    "document",
    [b"<html>502</html>", {"choices": []}, {"choices": None, "usage": {}}, b'data: {"choices":[]}\n\n', {"error": ""}],
)
def test_a_plain_body_without_an_answer_is_refused(document: object) -> None:
    with pytest.raises(DecodeError, match="not a completion"):
        plain(document)


KEYS = st.sampled_from(
    ["choices", "text", "index", "finish_reason", "error", "code", "usage", "prompt_tokens", "object", "id", "model"]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just("error")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_decoded_or_refused(document: object) -> None:
    for decode in (DIALECT.decode, DIALECT.decode_plain):
        answer = Answer()
        try:
            decode(json.dumps(document).encode(), 1, answer)
        except DecodeError:
            continue
        assert len(answer.output_ns) <= 1
