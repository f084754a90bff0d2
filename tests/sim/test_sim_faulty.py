"""Faults, rate limits, tools, schemas, the cache and the clock on the wire, against a real process."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
from sim_process import Sim

pytestmark = pytest.mark.timeout(60)

MESSAGES = [{"role": "user", "content": "12345678"}]
STREAM = {"model": "m", "messages": MESSAGES, "stream": True, "max_tokens": 10}
PLAIN = {**STREAM, "stream": False}
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}


def _raw(sim: Sim, body: dict[str, Any], **headers: str) -> tuple[bytes, str]:
    """All bytes of an answer until the connection ends, and how it ends: "" (in order), "closed" or "reset"."""
    sent = json.dumps(body).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\n{more}Content-Length: {len(sent)}\r\n\r\n"
    found = b""
    with closing(socket.create_connection(("127.0.0.1", sim.port), timeout=30)) as connection:
        connection.sendall(head.encode() + sent)
        while not found.endswith(b"\r\n0\r\n\r\n"):
            try:
                read = connection.recv(65536)
            except ConnectionResetError:
                return found, "reset"
            if not read:
                return found, "closed"
            found += read
    return found, ""


def _until_silent(connection: socket.socket) -> bytes:
    """What is there to read; fails if the connection ends."""
    connection.settimeout(0.2)
    found = b""
    while True:
        try:
            read = connection.recv(65536)
        except TimeoutError:
            return found
        assert read, "the connection ended"
        found += read


def _tokens(found: bytes) -> int:
    return found.count(b'"delta":{"content"')


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "ends"), [("reset", "reset"), ("cut", "closed")])
def test_streams_that_break_off(sim: Sim, fault: str, ends: str) -> None:
    found, how = _raw(sim, STREAM, **{f"x-sim-p-{fault}": "1"})
    assert how == ends
    assert b" 200 OK" in found
    assert 1 <= _tokens(found) < 10
    assert b"[DONE]" not in found
    stats = sim.stats()
    assert (stats["faults"], stats["errors"], stats["tokens_out"]) == ({fault: 1}, 1, _tokens(found))


@pytest.mark.parametrize(("fault", "mark"), [("garbage", b'"content":"\n\n'), ("error-event", b'data: {"error":')])
def test_streams_that_end_in_something_else(sim: Sim, fault: str, mark: bytes) -> None:
    found, how = _raw(sim, STREAM, **{f"x-sim-p-{fault}": "1"})
    assert how == ""
    assert 1 <= _tokens(found) - (fault == "garbage") < 10
    assert mark in found
    assert b"[DONE]" not in found
    assert sim.stats()["faults"] == {fault.replace("-", "_"): 1}


def test_a_stream_that_falls_silent_holds_no_slot(start: Callable[..., Sim]) -> None:
    sim = start(slots=1)
    body = json.dumps(STREAM).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nx-sim-p-stall: 1\r\nContent-Length: {len(body)}\r\n\r\n"
    with closing(socket.create_connection(("127.0.0.1", sim.port), timeout=30)) as connection:
        connection.sendall(head.encode() + body)
        found = sim.wait_for(errors=1)
        assert (found["faults"], found["active"]) == ({"stall": 1}, 0)
        assert sim.chat(STREAM)[0] == 200
        assert 1 <= _tokens(_until_silent(connection)) < 10
    sim.wait_for(open=0)
    found = sim.stats()
    assert (found["errors"], found["disconnected"], found["ok"]) == (1, 0, 1)


def test_plain_answers_break_too(sim: Sim) -> None:
    found, how = _raw(sim, PLAIN, **{"x-sim-p-reset": "1"})
    assert (found, how) == (b"", "reset")
    found, how = _raw(sim, PLAIN, **{"x-sim-p-cut": "1"})
    assert how == "closed"
    head, body = found.split(b"\r\n\r\n", 1)
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
    assert 0 < len(body) < length
    status, _, body = sim.chat(PLAIN, **{"x-sim-p-garbage": "1"})
    assert status == 200
    with pytest.raises(ValueError, match=r".+"):
        json.loads(body)
    status, headers, body = sim.chat(PLAIN, **{"x-sim-p-error-event": "1"})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["error"]["code"] == "server_is_overloaded"
    with closing(http.client.HTTPConnection("127.0.0.1", sim.port, timeout=0.5)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(PLAIN), {"x-sim-p-stall": "1"})
        with pytest.raises(TimeoutError):
            connection.getresponse()
    found_stats = sim.wait_for(open=0)
    assert found_stats["faults"] == {"reset": 1, "cut": 1, "garbage": 1, "error_event": 1, "stall": 1}
    assert (found_stats["errors"], found_stats["disconnected"]) == (5, 0)


@pytest.mark.parametrize("status", [500, 503, 529])
def test_faults_that_are_a_status(sim: Sim, status: int) -> None:
    found, headers, body = sim.chat(STREAM, **{f"x-sim-p-{status}": "1"})
    assert (found, headers["x-request-id"]) == (status, "req-sim-1")
    assert "error" in json.loads(body)
    assert sim.stats()["faults"] == {str(status): 1}


def test_faults_by_share_are_counted_as_they_are_seen(start: Callable[..., Sim]) -> None:
    sim = start(p_500=0.2, p_529=0.2, p_error_event=0.2, p_garbage=0.2)
    seen: dict[str, int] = {}
    for _ in range(60):
        status, _, body = sim.chat(STREAM)
        kind = str(status) if status != 200 else "garbage" if b'"content":"\n' in body else "error_event"
        if b"[DONE]" not in body:
            seen[kind] = seen.get(kind, 0) + 1
    stats = sim.stats()
    assert stats["faults"] == seen
    assert len(seen) == 4
    assert stats["ok"] == 60 - sum(seen.values()) > 0
    sim.reset()
    assert sim.stats()["faults"] == {}


def test_slow_bytes_take_their_time(sim: Sim) -> None:
    """A lower bound only."""
    for body in (STREAM, PLAIN):
        before_s = time.monotonic()
        _, _, answer = sim.chat({**body, "max_tokens": 2}, **{"x-sim-slow-bytes": "4000"})
        assert time.monotonic() - before_s >= len(answer) / 4000 * 0.99


# --- options of one request -------------------------------------------------------------------------------------------


def test_a_header_changes_one_request_only(sim: Sim) -> None:
    asked = {"model": "m", "messages": MESSAGES}
    counts = [
        json.loads(sim.chat(asked, **headers)[2])["usage"]["completion_tokens"]
        for headers in ({"x-sim-tokens": "3"}, {}, {"X-Sim-Tokens": "7"})
    ]
    assert counts == [3, 20, 7]


@pytest.mark.parametrize(
    ("header", "value", "says"),
    [
        ("x-sim-tokens", "many", "not a valid integer"),
        ("x-sim-ttft", "5", "not a duration"),
        ("x-sim-p-cut", "2", "range"),
        ("x-sim-slots", "2", "no option of one request"),
        ("x-sim-nothing", "2", "no option of one request"),
    ],
)
def test_headers_that_are_refused(sim: Sim, header: str, value: str, says: str) -> None:
    status, _, body = sim.chat(STREAM, **{header: value})
    assert status == 400
    assert says in json.loads(body)["error"]["message"]
    status, _, body = sim.chat(STREAM, **{"x-sim-p-cut": "0.6", "x-sim-p-500": "0.6"})
    assert (status, b"add up to 1.2" in body) == (400, True)


# --- rate limits ------------------------------------------------------------------------------------------------------


def test_a_burst_and_what_comes_after(start: Callable[..., Sim]) -> None:
    sim = start(rpm=6, burst=3)
    answers = [sim.chat(PLAIN) for _ in range(5)]
    assert [status for status, _, _ in answers] == [200] * 3 + [429] * 2
    assert [headers["x-ratelimit-remaining-requests"] for _, headers, _ in answers] == ["2", "1", "0", "0", "0"]
    assert all(headers["x-ratelimit-limit-requests"] == "6" for _, headers, _ in answers)
    _, headers, body = answers[-1]
    error = json.loads(body)["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert 0 < int(headers["retry-after-ms"]) <= 10_000
    assert int(headers["retry-after"]) == -(-int(headers["retry-after-ms"]) // 1000)
    stats = sim.stats()
    assert (stats["limited"], stats["errors"], stats["ok"]) == ({"requests": 2}, 2, 3)
    assert sim.chat(PLAIN, Authorization="Bearer another")[0] == 200
    sim.reset()
    assert sim.chat(PLAIN)[0] == 200


def test_tokens_and_requests_too_large(start: Callable[..., Sim]) -> None:
    sim = start(tpm=100)
    status, headers, _ = sim.chat({**PLAIN, "max_tokens": 90})
    assert (status, headers["x-ratelimit-remaining-tokens"]) == (200, "8")
    status, headers, body = sim.chat({**PLAIN, "max_tokens": 90})
    assert (status, json.loads(body)["error"]["type"], "retry-after" in headers) == (429, "tokens", True)
    status, headers, body = sim.chat({**PLAIN, "max_tokens": 99})
    assert (status, "retry-after" in headers) == (429, False)
    assert "Request too large" in json.loads(body)["error"]["message"]
    assert sim.stats()["limited"] == {"tokens": 2}
    status, headers, _ = sim.chat(b"{")
    assert (status, "x-ratelimit-limit-tokens" in headers) == (400, True)


def test_requests_at_a_time_are_given_back(start: Callable[..., Sim]) -> None:
    sim = start(max_concurrent=2, itl_ns=10**9)
    body = json.dumps({**STREAM, "max_tokens": 1000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nContent-Length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", sim.port), timeout=30))
            connection.sendall(head.encode() + body)
        sim.wait_for(active=2)
        status, _, answer = sim.chat(PLAIN)
        assert (status, "at a time" in json.loads(answer)["error"]["message"]) == (429, True)
        assert sim.chat(PLAIN, Authorization="Bearer another", **{"x-sim-itl": "0ms"})[0] == 200
    sim.wait_for(open=0)
    assert sim.chat(PLAIN, **{"x-sim-itl": "0ms"})[0] == 200
    assert sim.stats()["limited"] == {"concurrency": 1}
    assert not [name for name in sim.chat(b"{")[1] if name.startswith("x-ratelimit")]


def test_one_without_the_right_key_takes_nothing(start: Callable[..., Sim], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIM_TEST_KEY", "right")
    sim = start(rpm=1, api_key_env="SIM_TEST_KEY")
    status, headers, _ = sim.chat(PLAIN, Authorization="Bearer wrong")
    assert (status, "x-ratelimit-limit-requests" in headers) == (401, False)
    assert sim.chat(PLAIN, Authorization="Bearer right")[0] == 200
    assert sim.chat(PLAIN, Authorization="Bearer right")[0] == 429


# --- what is answered -------------------------------------------------------------------------------------------------


def test_reasoning_comes_first_and_is_counted(sim: Sim) -> None:
    asked = {**STREAM, "stream_options": {"include_usage": True}}
    body = sim.chat(asked, **{"x-sim-reasoning-tokens": "4"})[2]
    chunks = [json.loads(event[6:]) for event in body.split(b"\n\n")[:-2]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:-2]]
    assert ["reasoning_content" in delta for delta in deltas] == [True] * 4 + [False] * 6
    usage = chunks[-1]["usage"]
    assert (usage["completion_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]) == (10, 4)
    stats = sim.stats()
    assert (stats["tokens_out"], stats["reasoning_tokens"], stats["prompt_tokens"]) == (10, 4, 2)


def test_tool_calls_streamed_and_plain_are_the_same(sim: Sim) -> None:
    asked = {"model": "m", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required"}
    (choice,) = json.loads(sim.chat(asked, **{"x-sim-tool-calls": "2"})[2])["choices"]
    calls = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], len(calls)) == ("tool_calls", 2)
    assert all(json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome") for call in calls)
    sim.reset()
    body = sim.chat({**asked, "stream": True}, **{"x-sim-tool-calls": "2"})[2]
    chunks = [json.loads(event[6:]) for event in body.split(b"\n\n")[:-2]]
    parts = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
    for index, call in enumerate(calls):
        text = "".join(part["function"]["arguments"] for part in parts if part["index"] == index)
        assert text == call["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert sim.stats()["tool_calls"] == 2


def test_answers_follow_the_schema(sim: Sim) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    for number in range(5):
        (choice,) = json.loads(sim.chat({"model": "m", "messages": MESSAGES, "response_format": form})[2])["choices"]
        assert json.loads(choice["message"]["content"])["city"] in ("Paris", "Rome"), number
    form["json_schema"] = {"name": "n", "schema": {"type": "string", "pattern": "x"}}
    status, _, body = sim.chat({"model": "m", "messages": MESSAGES, "response_format": form})
    assert (status, "'pattern'" in json.loads(body)["error"]["message"]) == (400, True)


def test_a_prompt_seen_before_is_cached_and_quicker(start: Callable[..., Sim]) -> None:
    """4096 tokens at 4096 a second take a second; of the second request only what is new does."""
    sim = start(cache_ttl_ns=600 * 10**9, prefill_rate=4096.0)
    asked = {"model": "m", "messages": [{"role": "user", "content": "x" * 4 * 4096}], "max_tokens": 1}

    def took_s(**headers: str) -> tuple[float, int]:
        before_s = time.monotonic()
        usage = json.loads(sim.chat(asked, **headers)[2])["usage"]
        return time.monotonic() - before_s, usage["prompt_tokens_details"]["cached_tokens"]

    first_s, cached = took_s()
    assert (first_s >= 1, cached) == (True, 0)
    assert took_s(**{"x-sim-prefill-rate": "1"})[1] == 4096  # at this rate a token that is read takes a second
    assert sim.stats()["cached_tokens"] == 4096
    assert took_s(**{"x-sim-prefill-rate": "1000000", "Authorization": "Bearer other"})[1] == 0
    sim.reset()
    assert took_s(**{"x-sim-prefill-rate": "1000000"})[1] == 0


def test_the_time_of_day_slows_and_the_clock_can_be_set(start: Callable[..., Sim]) -> None:
    """Lower bounds only."""
    sim = start(
        ttft_ns=20_000_000, itl_ns=10_000_000, profile="09:00-18:00=20", clock="2026-01-05T08:59:00Z", clock_rate=0.0
    )

    def clock(**fields: Any) -> tuple[int, dict[str, Any]]:
        method, body = ("POST", json.dumps(fields)) if fields else ("GET", None)
        status, _, answer = sim.call(method, "/sim/clock", body)
        return status, json.loads(answer)

    assert clock() == (200, {"now": "2026-01-05T08:59:00.000Z", "rate": 0.0, "factor": 1.0})
    assert clock(now="2026-01-05T10:00:00+01:00") == (
        200,
        {"now": "2026-01-05T09:00:00.000Z", "rate": 0.0, "factor": 20.0},
    )
    before_s = time.monotonic()
    sim.chat({**PLAIN, "max_tokens": 2})
    assert time.monotonic() - before_s >= 0.6
    status, answer = clock(now="noon")
    assert (status, "not a time" in answer["error"]) == (400, True)
    assert clock(rate=3600)[1]["rate"] == 3600.0
    assert clock(now="2026-01-05T17:50:00Z")[1]["now"].startswith("2026-01-05T17:5")
    while clock()[1]["factor"] != 1.0:  # the test's own time limit ends a wait in vain
        assert clock()[1]["now"] > "2026-01-05T17:50:00"
