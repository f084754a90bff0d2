"""Every dialect of the registry against bytes that mean harm: what a decoder makes of them, without any IO.

What may come out of a decoder is a sane answer or a DecodeError, and never a success that was not said. The same
through real connections is `tests/engine/test_hostile_streams.py`; every split of the recorded streams is
`test_conformance.py`; the framings by themselves are `tests/wire`.
"""

import copy
import json
import struct
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from zlib import crc32

import pytest
from hostile_kit import STORED, check_problem, check_refusal, check_sane, framed, payloads, recorded, split
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latbench.model.answer import Answer
from latbench.model.errors import DecodeError
from latbench.providers.headroom import headroom
from latbench.providers.registry import APIS, DIALECTS
from latbench.wire.eventstream import EventStreamFramer
from latbench.wire.ndjson import NdjsonFramer

BOM = b"\xef\xbb\xbf"
OF_SSE = [api for api in APIS if DIALECTS[api].framer not in (EventStreamFramer, NdjsonFramer)]
# What ends a line elsewhere and not here, is of several bytes, or is no character at all to some.
ODD_TEXT = "a\u2028b\u2029c\u0085d\u000be\u001cf\U0001f600g\ufefe\x7f\x00"


def decoded(api: str, events: Iterable[bytes]) -> Answer:
    answer = Answer()
    for at, payload in enumerate(events):
        DIALECTS[api].decode(payload, at, answer)
    return answer


def read(api: str, body: bytes) -> Answer:
    return decoded(api, framed(api, [body]))


def message(payload: bytes) -> bytes:
    """A payload of Bedrock's framer as a message again."""
    head, _, content = payload.partition(b"\n")
    kind, _, name = head.partition(b" ")
    headers = b""
    for key, value in ((b":message-type", kind), (b":" + kind + b"-type", name)):
        headers += bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", 16 + len(headers) + len(content), len(headers))
    prelude += struct.pack(">I", crc32(prelude))
    whole = prelude + headers + content
    return whole + struct.pack(">I", crc32(whole))


def body_of(api: str, events: Iterable[bytes]) -> bytes:
    """These payloads as a body, in the plainest way."""
    framer = DIALECTS[api].framer
    if framer is EventStreamFramer:
        return b"".join(map(message, events))
    if framer is NdjsonFramer:
        return b"".join(event + b"\n" for event in events)
    return b"".join(b"".join(b"data: %s\n" % line for line in event.split(b"\n")) + b"\n" for event in events)


# --- legal, and written otherwise -------------------------------------------------------------------------------------


def rewritten(events: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """A stream of server-sent events in other legal ways."""
    events = [event.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for event in events]  # raw objects may be of lines
    plain = body_of("openai-chat", events)
    yield "crlf", plain.replace(b"\n", b"\r\n")
    yield "cr", plain.replace(b"\n", b"\r")
    yield "byte-order mark", BOM + plain
    yield "no space", b"".join(b"data:" + event.replace(b"\n", b"\ndata:") + b"\n\n" for event in events)
    comments = b": keep-alive\n\n:\n\nevent: x\nid: 7\nretry: 10\n\n"
    yield "comments", comments + b"".join(b"event: x\n" + one + comments for one in split_events(plain))
    # After a brace a line may end: it is one event all the same.
    lines = [event.replace(b"{", b"{\n", 1) if event.startswith(b"{") else event for event in events]
    yield "many lines", body_of("openai-chat", lines)


def split_events(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.split(b"\n\n")[:-1]]


@pytest.mark.parametrize("api", OF_SSE)
def test_server_sent_events_may_be_written_in_many_ways(api: str) -> None:
    for name, body in recorded(api):
        events = framed(api, [body])
        expected = decoded(api, events)
        for how, other in rewritten(events):
            assert decoded(api, framed(api, [other])) == expected, f"{name}: {how}"


def test_lines_of_json_may_be_written_in_many_ways() -> None:
    for name, body in recorded("ollama"):
        events = framed("ollama", [body])
        expected = decoded("ollama", events)
        plain = body_of("ollama", events)
        for other in (plain.replace(b"\n", b"\r\n"), BOM + plain, plain.replace(b"\n", b" \n\n\r\n\t\n")):
            assert read("ollama", other) == expected, name


@pytest.mark.parametrize("api", APIS)
def test_any_character_may_stand_in_the_text(api: str) -> None:
    """Raw, at every split of the bytes: in a character of several bytes as well."""
    seen = 0
    for _, body in recorded(api):
        events = framed(api, [body])
        pieces = set(decoded(api, events).text)
        changed = [with_text(event, pieces, ODD_TEXT) if b"{" in event else event for event in events]
        if not pieces or changed == events:
            continue
        answer = decoded(api, events)
        odd = body_of(api, changed)
        try:
            expected = decoded(api, changed)
        except DecodeError:  # the text of a piece was also that of a field with a meaning
            continue
        assert "".join(expected.text).count(ODD_TEXT) == len(answer.text)
        for at in range(0, len(odd) + 1, 1 if len(odd) < 2000 else 7):
            assert decoded(api, framed(api, [odd[:at], odd[at:]])) == expected or len(framed(api, [odd])) != len(events)
        seen += 1
        if seen == 3:
            break
    assert seen


def with_text(payload: bytes, pieces: set[str], text: str) -> bytes:
    """Every string of the JSON that is one of `pieces` becomes `text`."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(one) for key, one in value.items()}
        if isinstance(value, list):
            return [changed(one) for one in value]
        return text if isinstance(value, str) and value in pieces else value

    head, content = split(payload)
    try:
        return head + json.dumps(changed(json.loads(content)), ensure_ascii=False).encode()
    except ValueError:
        return payload


# --- bytes that are cut, wrong, deep or endless -----------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS)
def test_text_that_is_not_utf8_is_refused(api: str) -> None:
    """Half a character at the end of a text, and bytes that are none."""
    refused = 0
    for payload in payloads(api):
        text = "".join(decoded_alone(api, payload).text)
        head, content = split(payload)
        written = json.dumps(text).encode()
        if len(text) < 2 or content.count(written) != 1:
            continue
        for wrong in (b"\xff", b"\xc3", b"\xe2\x80", b"\xf0\x9f\x98", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800"):
            with pytest.raises(DecodeError):
                DIALECTS[api].decode(head + content.replace(written, written[:-1] + wrong + b'"'), 0, Answer())
        refused += 1
    assert refused


def decoded_alone(api: str, payload: bytes) -> Answer:
    """What one event comes to by itself."""
    answer = Answer()
    try:
        DIALECTS[api].decode(payload, 0, answer)
    except DecodeError:
        return Answer()
    return answer


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value in a JSON value, containers included, and the way to it."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], raw: bytes) -> bytes:
    """The JSON of a value in which the bytes `raw` stand at `path`."""
    mark = "\x01mark\x01"
    if not path:
        return raw
    changed = copy.deepcopy(value)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = mark
    return json.dumps(changed, ensure_ascii=False).encode().replace(json.dumps(mark).encode(), raw)


DEEP = 100_000


@pytest.mark.parametrize(
    "raw", [b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP], ids=["lists", "objects"]
)
@pytest.mark.parametrize("api", APIS)
def test_deep_json_anywhere_is_refused_or_passed_over(api: str, raw: bytes) -> None:
    shapes: set[tuple[Any, ...]] = set()
    for payload in payloads(api):
        head, content = split(payload)
        try:
            value = json.loads(content)
        except ValueError:
            continue
        for path in [*(path for path, _ in leaves(value)), ("new",)]:
            if (head, path) not in shapes:
                shapes.add((head, path))
                changed = replaced(value, path, raw)
                list(either(api, head + changed, changed))
    assert shapes


ENDLESS = [b"", b"data: ", b'data: {"a": "', b"{", b'{"a": "', b": ", b"event: ", BOM, b"\x04\x00\x00\x00"]


@pytest.mark.parametrize("start", ENDLESS)
@pytest.mark.parametrize("api", APIS)
def test_a_line_of_100_mb_is_refused_and_takes_little_memory(api: str, start: bytes) -> None:
    framer, piece = DIALECTS[api].framer(), b"a" * 2**18
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):  # noqa: PT012  by which of the pieces is not said
            assert framer.feed(start) == []
            for _ in range(400):
                assert framer.feed(piece) == []
            framer.close()
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("api", APIS)
def test_half_a_stream_is_no_answer(api: str) -> None:
    """Cut before the event that ends it, by its end or in the midst of a byte: neither complete nor an exception."""
    ends = 0
    for _, body in recorded(api):
        events = framed(api, [body])
        signs = [at for at in range(len(events)) if decoded(api, events[: at + 1]).complete]
        if not signs:
            continue
        ends += 1
        whole = body_of(api, events[: signs[0]])
        last = body_of(api, events[signs[0] : signs[0] + 1])
        for cut in range(0, len(last) - 4, 3):
            answer = read(api, whole + last[:cut])
            assert not answer.complete, last[:cut]
    assert ends


KEEP_ALIVES = {
    "ollama": b"\n\r\n \n",
    "bedrock": message(b"event ping\n{}"),
} | dict.fromkeys(OF_SSE, b": ping\n\n:\r\n\r\nevent: ping\n\n")


@pytest.mark.parametrize("api", APIS)
def test_keep_alives_alone_are_no_answer(api: str) -> None:
    assert read(api, KEEP_ALIVES[api] * 1000) == Answer()


# --- anything at all --------------------------------------------------------------------------------------------------

NUMBERS = ["0", "-0", "-1", "1e308", "1e400", "-1e400", "1.5", "4e-400", str(2**53), str(2**63), str(2**64), "9" * 400]
ODD_STRINGS = [
    "",
    "error",
    "stop",
    "[DONE]",
    "overloaded_error",
    "429",
    "1\u0662\u0663",
    "-",
    "0",
    ODD_TEXT,
    "x" * 5000,
]
SCALARS = st.one_of(
    st.sampled_from(["null", "true", "false", *NUMBERS]),
    st.sampled_from(ODD_STRINGS).map(json.dumps),
    st.text(max_size=5).map(json.dumps),
)
NAMES = [
    *("error", "type", "object", "choices", "delta", "message", "content", "text", "code", "status", "details"),
    *("usage", "metadata", "headers", "raw", "violations", "retryDelay", "quotaId", "quotaValue", "finish_reason"),
    *("done", "candidates", "output", "response", "item", "tool_calls", "function", "name", "arguments", "index"),
    *("id", "model"),
]
RAW_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=8,
).map(str.encode)
"""JSON as it is written, with what Python's own values could not hold."""


def either(api: str, payload: bytes, plain: bytes) -> Iterator[Answer]:
    """What both decoders of an API make of it, each in an answer of its own; sane, or refused in few words."""
    for decode, given_bytes in ((DIALECTS[api].decode, payload), (DIALECTS[api].decode_plain, plain)):
        answer = Answer()
        try:
            decode(given_bytes, 1, answer)
        except DecodeError as fault:
            check_problem(fault)
        else:
            yield answer
        check_sane(answer)


@pytest.mark.parametrize("api", APIS)
def test_a_number_may_be_any_number(api: str) -> None:
    """Counts that no column holds, fractions, nonsense: wherever a recorded event has a number."""
    shapes: set[tuple[Any, ...]] = set()
    for payload in payloads(api):
        head, content = split(payload)
        try:
            value = json.loads(content)
        except ValueError:
            continue
        for path, leaf in leaves(value):
            if type(leaf) in (int, float) and (head, path) not in shapes:
                shapes.add((head, path))
                for number in NUMBERS:
                    changed = replaced(value, path, number.encode())
                    list(either(api, head + changed, changed))
    assert shapes


@pytest.mark.parametrize("api", APIS)
@given(st.data())
def test_any_bytes_are_an_event_or_refused(api: str, data: st.DataObject) -> None:
    payload = data.draw(st.binary(max_size=60))
    for answer in either(api, payload, payload):  # Hypothesis knows the words of our sources
        assert payload.lstrip().startswith((b"{", b"[DONE]", b"event ", b"exception ", b"error "))
        assert not answer.complete or payload.startswith(b"[DONE]")


@pytest.mark.parametrize("api", APIS)
@given(st.data())
def test_any_json_is_an_event_or_refused(api: str, data: st.DataObject) -> None:
    raw = data.draw(RAW_JSON)
    heads = sorted({split(payload)[0] for payload in payloads(api)})
    for answer in either(api, data.draw(st.sampled_from(heads)) + raw, raw):
        value = json.loads(raw)
        if isinstance(value, dict) and value.get("error") and api != "bedrock":
            assert answer.refusal is not None, "an error is never passed over"


@settings(max_examples=60)
@pytest.mark.parametrize("api", APIS)
@given(st.data())
def test_an_event_with_one_thing_wrong_is_an_event_or_refused(api: str, data: st.DataObject) -> None:
    head, content = split(data.draw(st.sampled_from(payloads(api))))
    try:
        value = json.loads(content)
    except ValueError:
        return
    path = data.draw(st.sampled_from([path for path, _ in leaves(value)]))
    changed = replaced(value, path, data.draw(RAW_JSON))
    list(either(api, head + changed, changed))


@pytest.mark.parametrize("api", APIS)
@given(st.data())
def test_any_order_of_events_is_decoded_or_refused(api: str, data: st.DataObject) -> None:
    """And an error that was said stays said, whatever signs of success come before it or after."""
    events = data.draw(st.lists(st.sampled_from(payloads(api)), max_size=8))
    answer, failed = Answer(), False
    for at, payload in enumerate(events):
        try:
            DIALECTS[api].decode(payload, at, answer)
        except DecodeError:
            break
        failed = failed or decoded_alone(api, payload).refusal is not None
    check_sane(answer)
    assert (answer.refusal is not None) == failed
    assert list(answer.output_ns) == sorted(set(answer.output_ns)), "one stamp for each event with output"


@pytest.mark.parametrize("api", APIS)
@given(st.data())
def test_any_body_in_any_pieces_is_a_stream_or_refused(api: str, data: st.DataObject) -> None:
    """Noise at a random place of a stream, cut into reads at random places."""
    body = data.draw(st.sampled_from([body for _, body in recorded(api)]))
    at = data.draw(st.integers(0, len(body)))
    body = body[:at] + data.draw(st.binary(max_size=20)) + body[at + data.draw(st.integers(0, 20)) :]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    answer = Answer()
    try:
        for payload in framed(api, [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]):
            DIALECTS[api].decode(payload, 0, answer)
    except DecodeError as fault:
        check_problem(fault)
    check_sane(answer)


PARTS, LIMITS = ("limit", "remaining", "reset"), ("requests", "tokens")
HEADER_NAMES = [
    *("retry-after", "retry-after-ms", "date", "x-amzn-errortype", "x-ratelimit-reset", "content-type"),
    *(f"x-ratelimit-{part}-{kind}" for part in PARTS for kind in LIMITS),
    *(
        f"anthropic-ratelimit-{kind}-{part}"
        for part in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
    *("llm_provider-retry-after", "llm_provider-x-ratelimit-remaining-requests", "llm_provider-date"),
]
HEADER_VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *(
                "0",
                "-1",
                "1e9",
                "٣",
                "99999999999999999999",
                "nan",
                "inf",
                "1m1.5s",
                "999999999999h",
                "0ms",
                "1.",
                " 7 ",
            ),
            *("Sun, 22 Nov 2026 21:00:00 GMT", "Sun, 32 Nov 2026 25:61:61 GMT", "Sun, 29 Feb 0000 00:00:00 GMT"),
            *("2026-11-22T21:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-31T00:00:00Z"),
            *("2026-11-22T21:00:00.123456789Z", "2026-11-22t21:00:00+99:99", "1763845200", "1763845200000", "9" * 14),
        ]
    ),
)


@pytest.mark.parametrize("api", APIS)
@settings(max_examples=60)
@given(st.data())
def test_any_status_with_any_headers_and_any_body_is_a_refusal(api: str, data: st.DataObject) -> None:
    status = data.draw(
        st.sampled_from([201, 204, 301, 400, 401, 402, 403, 404, 413, 418, 429, 429, 429, 500, 503, 529, 999])
    )
    headers = data.draw(st.dictionaries(st.sampled_from(HEADER_NAMES), HEADER_VALUES, max_size=6))
    body = data.draw(st.one_of(st.binary(max_size=40), RAW_JSON, RAW_JSON.map(lambda raw: b'{"error":' + raw + b"}")))
    check_refusal(DIALECTS[api].refusal(status, headers, body))
    for one in headroom(headers).values():
        for number in (one.limit, one.remaining, one.reset_ns):
            assert number is None or 0 <= number < STORED


@given(st.sampled_from(["try again in ", "retry after "]), st.text(alphabet="0123456789.hmsu \u0663µ", max_size=14))
@example("try again in ", "9" * 400 + "h")
def test_any_wait_in_words_is_read_or_passed_over(words: str, wait: str) -> None:
    for api in APIS:
        check_refusal(DIALECTS[api].refusal(429, {}, json.dumps({"error": {"message": words + wait}}).encode()))


# --- errors under HTTP 200 --------------------------------------------------------------------------------------------

Wrap = Callable[[dict[str, Any]], Any]
# How an API says an error inside an answer that began well, as JSON; Bedrock says it in a header.
PLAIN_ERRORS: dict[str, Wrap] = {
    "openai-chat": lambda error: {"error": error},
    "openai-completions": lambda error: {"error": error},
    "openai-responses": lambda error: {
        "id": "r",
        "object": "response",
        "status": "failed",
        "error": error,
        "output": [],
    },
    "azure-openai": lambda error: {"error": error},
    "anthropic": lambda error: {"type": "error", "error": error},
    "gemini": lambda error: {"error": error},
    "mistral": lambda error: {"object": "error"} | error,
    "cohere": lambda error: {"error": error},
    "ollama": lambda error: {"error": error["message"]},
}
SAID = [
    ({"type": "server_error", "code": "boom", "message": "it broke"}, "stream_error"),
    ({"type": "overloaded_error", "code": "overloaded_error", "message": "server busy"}, "overloaded"),
    (
        {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "Rate limit: too many requests"},
        "rate_limited",
    ),
]


@pytest.mark.parametrize(("error", "outcome"), SAID, ids=[outcome for _, outcome in SAID])
@pytest.mark.parametrize("api", PLAIN_ERRORS)
def test_an_error_under_http_200_is_no_success(api: str, error: dict[str, Any], outcome: str) -> None:
    raw = json.dumps(PLAIN_ERRORS[api](error)).encode()
    answer = Answer()
    DIALECTS[api].decode_plain(raw, 0, answer)
    assert answer.refusal is not None
    assert answer.refusal.outcome == outcome
    if api != "openai-responses":  # whose event has the answer inside
        assert decoded_alone(api, raw).refusal == answer.refusal


@pytest.mark.parametrize("api", PLAIN_ERRORS)
def test_an_error_beside_any_event_is_no_success(api: str) -> None:
    """Whatever else the event says: a gateway may have put it there."""
    seen = 0
    for payload in payloads(api):
        value = json.loads(payload)
        if not value.get("error"):
            failed = decoded_alone(api, json.dumps(value | {"error": SAID[0][0]}).encode())
            assert failed.refusal is not None, payload
            seen += 1
    assert seen


@pytest.mark.parametrize("end", ["response.completed", "response.incomplete", "response.failed"])
def test_a_response_with_an_error_has_failed_however_it_ended(end: str) -> None:
    response = {"id": "r", "output": [], "status": "completed", "error": {"code": "server_is_overloaded"}}
    answer = decoded_alone("openai-responses", json.dumps({"type": end, "response": response}).encode())
    assert answer.refusal is not None
    assert (answer.refusal.outcome, answer.complete) == ("overloaded", False)


def test_bedrock_has_no_errors_in_a_whole_answer() -> None:
    for body in (b'{"message": "Too many requests"}', b'{"__type": "ThrottlingException"}'):
        with pytest.raises(DecodeError):
            DIALECTS["bedrock"].decode_plain(body, 0, Answer())


def test_every_dialect_that_has_plain_errors_is_here() -> None:
    assert {*PLAIN_ERRORS, "bedrock"} == set(APIS) == set(KEEP_ALIVES)
