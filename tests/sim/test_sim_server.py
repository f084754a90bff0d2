"""The endpoint on the wire, against a real process."""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

import pytest
from sim_process import Sim

from latbench.sim.text import pieces

pytestmark = pytest.mark.timeout(60)

MESSAGES = [{"role": "user", "content": "12345678"}]
STREAM = {"model": "any", "messages": MESSAGES, "stream": True}
LONG = {**STREAM, "max_tokens": 1_000_000}


def _events(body: bytes) -> list[bytes]:
    """The payloads of a stream in exactly the shape that the API sends."""
    events = body.split(b"\n\n")
    assert events.pop() == b""
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events)
    return [event[6:] for event in events]


def _opened(sim: Sim, body: dict[str, Any]) -> socket.socket:
    """A connection on which the request has been sent."""
    connection = socket.create_connection(("127.0.0.1", sim.port), timeout=30)
    sent = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Length: {len(sent)}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def _read_until(connection: socket.socket, mark: bytes) -> bytes:
    found = b""
    while mark not in found:
        read = connection.recv(65536)
        assert read, "the connection ended early"
        found += read
    return found


def test_a_stream_event_by_event(sim: Sim) -> None:
    status, headers, body = sim.chat({**STREAM, "max_tokens": 3, "stream_options": {"include_usage": True}})
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["x-request-id"] == "req-sim-1"
    *chunks, done = _events(body)
    assert done == b"[DONE]"
    role, *tokens, finish, usage = [json.loads(chunk) for chunk in chunks]
    text = list(islice(pieces(0, 1), 3))

    everywhere = {
        "id": "chatcmpl-sim-1",
        "object": "chat.completion.chunk",
        "created": role["created"],
        "model": "any",
        "system_fingerprint": "fp_sim",
    }

    def expected(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**everywhere, "choices": [choice], "usage": None}

    assert role == expected({"role": "assistant", "content": "", "refusal": None}, None)
    assert tokens == [expected({"content": piece}, None) for piece in text]
    assert finish == expected({}, "length")
    assert usage["choices"] == []
    assert {key: usage["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")} == {
        "prompt_tokens": 2,
        "completion_tokens": 3,
        "total_tokens": 5,
    }
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_without_usage_nothing_speaks_of_it(sim: Sim) -> None:
    body = sim.chat(STREAM)[2]
    assert b"usage" not in body
    *_, finish, done = _events(body)
    assert json.loads(finish)["choices"][0]["finish_reason"] == "stop"
    assert done == b"[DONE]"


def test_a_plain_answer_says_what_its_stream_says(sim: Sim) -> None:
    streamed = "".join(
        json.loads(event)["choices"][0]["delta"].get("content", "")
        for event in _events(sim.chat({**STREAM, "max_tokens": 12})[2])[:-1]
    )
    sim.reset()
    status, headers, body = sim.chat({**STREAM, "stream": False, "max_completion_tokens": 12})
    assert (status, headers["content-type"], headers["x-request-id"]) == (200, "application/json", "req-sim-1")
    answer = json.loads(body)
    assert answer["object"] == "chat.completion"
    assert answer["id"] == "chatcmpl-sim-1"
    assert answer["usage"]["completion_tokens"] == 12
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": streamed, "refusal": None}
    assert choice["finish_reason"] == "length"


def test_every_event_is_a_chunk_of_its_own_on_the_wire(sim: Sim) -> None:
    with closing(_opened(sim, {**STREAM, "max_tokens": 20})) as connection:
        raw = _read_until(connection, b"\r\n0\r\n\r\n")
    rest = raw.split(b"\r\n\r\n", 1)[1]
    chunks = []
    while True:
        size, rest = rest.split(b"\r\n", 1)
        if size == b"0":
            break
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert len(chunks) == 1 + 20 + 1 + 1
    assert all(len(_events(chunk)) == 1 for chunk in chunks)


def test_nothing_leaves_early(start: Callable[..., Sim]) -> None:
    """Lower bounds only: how late a busy machine lets us read says nothing about the endpoint."""
    ttft_ns, itl_ns, count = 50_000_000, 10_000_000, 12
    sim = start(ttft_ns=ttft_ns, itl_ns=itl_ns)
    before_ns = time.monotonic_ns()
    seen = b""
    with closing(_opened(sim, {**STREAM, "max_tokens": count})) as connection:
        while b"[DONE]" not in seen:
            read = connection.recv(65536)
            assert read
            after_ns = time.monotonic_ns() - before_ns
            seen += read
            tokens = seen.count(b'"delta":{"content"')
            if b'"role"' in seen:
                assert after_ns >= ttft_ns + max(0, tokens - 1) * itl_ns
    assert tokens == count


def test_the_headers_leave_when_a_slot_takes_the_request(start: Callable[..., Sim]) -> None:
    sim = start(ttft_ns=3600 * 10**9)
    with closing(_opened(sim, LONG)) as connection:
        headers = _read_until(connection, b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 200 ")
        assert headers.endswith(b"\r\n\r\n")
        assert sim.stats()["active"] == 1


def test_the_first_token_is_here_while_the_rest_is_not_and_leaving_frees_the_slot(start: Callable[..., Sim]) -> None:
    sim = start(slots=1, itl_ns=50_000_000)
    with closing(_opened(sim, LONG)) as connection:
        _read_until(connection, b'"delta":{"content"')
        found = sim.stats()
        assert (found["active"], found["open"], found["ok"]) == (1, 1, 0)
        assert 1 <= found["tokens_out"] < LONG["max_tokens"]
    found = sim.wait_for(active=0)
    assert (found["disconnected"], found["open"]) == (1, 0)
    assert sim.chat({**STREAM, "max_tokens": 2})[0] == 200


def test_one_who_leaves_the_line_is_not_served(start: Callable[..., Sim]) -> None:
    sim = start(slots=1, itl_ns=50_000_000)
    with closing(_opened(sim, LONG)) as connection:
        _read_until(connection, b"\r\n\r\n")
        with closing(_opened(sim, LONG)):
            sim.wait_for(active=1, queued=1)
        assert sim.wait_for(queued=0)["disconnected"] == 1
    assert sim.wait_for(open=0)["disconnected"] == 2


def test_no_more_than_the_slots_are_served_at_a_time(start: Callable[..., Sim]) -> None:
    sim = start(slots=2)
    with closing(_opened(sim, LONG)) as one, closing(_opened(sim, LONG)) as other:
        sim.wait_for(active=2)
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(sim.chat, {**STREAM, "max_tokens": 5}) for _ in range(6)]
            sim.wait_for(active=2, queued=6)
            one.close()
            other.close()
            assert [answer.result()[0] for answer in answers] == [200] * 6
    found = sim.wait_for(open=0)
    assert (found["peak_active"], found["ok"], found["requests"]) == (2, 6, 8)
    sim.reset()
    assert {key: value for key, value in sim.stats().items() if value} == {}


def test_the_line_is_served_in_the_order_in_which_it_formed(start: Callable[..., Sim]) -> None:
    sim = start(slots=1)
    first = _opened(sim, LONG)
    sim.wait_for(active=1)
    line = []
    for place in range(5):
        line.append(_opened(sim, {**LONG, "stream_options": {"include_usage": True}}))
        sim.wait_for(queued=place + 1)
    first.close()
    for place, connection in enumerate(line):
        _read_until(connection, b"\r\n\r\n")
        assert sim.wait_for(active=1)["queued"] == len(line) - place - 1
        connection.close()


def test_more_active_streams_are_slower_each(start: Callable[..., Sim]) -> None:
    """With a slowdown of 100 a second stream makes the gaps 101 times as long: a bound that no busy machine blurs."""
    sim = start(slots=2, slowdown=100.0, ttft_ns=0, itl_ns=1_000_000)
    with closing(_opened(sim, LONG)) as connection:
        _read_until(connection, b'"delta":{"content"')
        before_ns = time.monotonic_ns()
        sim.chat({**STREAM, "max_tokens": 3})
        assert time.monotonic_ns() - before_ns >= 2 * 101_000_000


def test_usage_counts_what_was_sent_and_stats_agree(sim: Sim) -> None:
    total = 0
    for limit in (1, 7, 40):
        body = sim.chat({**STREAM, "max_tokens": limit, "stream_options": {"include_usage": True}})[2]
        events = _events(body)
        usage = json.loads(events[-2])["usage"]
        assert usage["completion_tokens"] == body.count(b'"delta":{"content"') == limit
        total += limit
    found = sim.stats()
    assert (found["tokens_out"], found["ok"], found["open"]) == (total, 3, 0)


def test_early_stops_and_ignore_eos(start: Callable[..., Sim]) -> None:
    sim = start(early_stop=0.5, itl_ns=0)

    def asked(**fields: Any) -> tuple[int, str]:
        answer = json.loads(sim.chat({"model": "m", "messages": MESSAGES, "max_tokens": 100, **fields})[2])
        return answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]

    found = [asked() for _ in range(10)]
    assert all(50 <= tokens < 100 and reason == "stop" for tokens, reason in found)
    assert len({tokens for tokens, _ in found}) > 3
    assert asked(ignore_eos=True) == (100, "length")
    sim.reset()
    assert [asked() for _ in range(10)] == found


def test_two_processes_with_one_seed_answer_alike(sim: Sim, start: Callable[..., Sim]) -> None:
    def text(endpoint: Sim) -> str:
        found = json.loads(endpoint.chat({"model": "m", "messages": MESSAGES})[2])
        return str(found["choices"][0]["message"]["content"])

    texts = [text(sim) for _ in range(3)]
    assert len(set(texts)) == 3
    other = start()
    assert [text(other) for _ in range(3)] == texts


def test_one_connection_serves_many_requests(sim: Sim) -> None:
    with closing(_opened(sim, {**STREAM, "max_tokens": 2})) as connection:
        _read_until(connection, b"\r\n0\r\n\r\n")
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: sim\r\n\r\n")
        assert b'{"status":"ok"}' in _read_until(connection, b"}")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', 400, None),
        (b'{"model": "m"}', 400, "missing_required_parameter"),
        (b'{"model": "m", "messages": []}', 400, "empty_array"),
    ],
)
def test_bad_requests(sim: Sim, body: bytes, status: int, code: str | None) -> None:
    found, headers, answer = sim.chat(body)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert headers["x-request-id"] == "req-sim-1"
    error = json.loads(answer)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert set(error) == {"message", "type", "param", "code"}
    assert sim.stats()["errors"] == 1


def test_a_body_that_does_not_unpack_is_refused(sim: Sim) -> None:
    status, _, answer = sim.chat(b"this is not gzip", **{"Content-Encoding": "gzip"})
    assert status == 400
    assert "error" in json.loads(answer)


@pytest.mark.parametrize("length", [b"Content-Length: 67108865", b"Transfer-Encoding: chunked"])
def test_a_body_over_the_limit_is_refused(sim: Sim, length: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", sim.port), timeout=30)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\n" + length + b"\r\n\r\n")
        if b"chunked" in length:
            piece = b"1000000\r\n" + b" " * 2**24 + b"\r\n"  # 16 MiB, five times
            for _ in range(5):
                connection.sendall(piece)
            connection.sendall(b"0\r\n\r\n")
        answer = _read_until(connection, b"}}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"request_too_large"' in answer
    assert sim.wait_for(errors=1)["open"] == 0


def test_one_who_leaves_within_the_request_is_counted(sim: Sim) -> None:
    with closing(socket.create_connection(("127.0.0.1", sim.port), timeout=30)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Length: 100\r\n\r\n{")
        sim.wait_for(open=1)
    assert sim.wait_for(open=0)["disconnected"] == 1


def test_routes_that_are_not_there(sim: Sim) -> None:
    status, _, answer = sim.call("POST", "/v1/nothing", b"{}")
    assert (status, json.loads(answer)["error"]["message"]) == (404, "Invalid URL (POST /v1/nothing)")
    assert sim.call("GET", "/v1/chat/completions")[0] == 405


def test_any_model_is_taken_unless_it_is_strict(start: Callable[..., Sim]) -> None:
    sim = start(strict_model=True, model="the-one")
    status, _, answer = sim.chat({**STREAM, "max_tokens": 1})
    assert (status, json.loads(answer)["error"]["code"]) == (404, "model_not_found")
    assert sim.chat({**STREAM, "model": "the-one", "max_tokens": 1})[0] == 200
    listed = json.loads(sim.call("GET", "/v1/models")[2])
    assert [model["id"] for model in listed["data"]] == ["the-one"]


def test_a_key_is_asked_for_where_one_is_set(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(api_key_env="SIM_TEST_KEY")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}):
        status, _, answer = sim.chat(STREAM, **headers)
        assert (status, json.loads(answer)["error"]["code"]) == (401, "invalid_api_key")
        assert sim.call("GET", "/v1/models", headers=headers)[0] == 401
    right = {"Authorization": "Bearer right"}
    assert sim.chat({**STREAM, "max_tokens": 1}, **right)[0] == 200
    assert sim.call("GET", "/v1/models", headers=right)[0] == 200
    assert sim.call("GET", "/health")[0] == 200
