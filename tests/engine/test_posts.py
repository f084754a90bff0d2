"""Where a request goes and what it carries: gaps to the path that fills them, signatures, the key of its lane, a mode.

The signer is one of our own, in a dialect made here: what it gives is checked by the server that is sent it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from engine_kit import MS, Make, Ran, endpoint, engine, exchanging, job, lab, opened, run, step
from hypothesis import given
from hypothesis import strategies as st
from servers import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    Call,
    Script,
    answer_well,
    chunk,
    completion,
    event,
    reply,
    serving,
    sse,
    usage,
)

from latbench.engine import flight
from latbench.engine.bodies import Bodies
from latbench.engine.credentials import hide, secrets_of, targets
from latbench.model.load import Constant, Step
from latbench.model.request import MODES, Endpoint, Fill, Message, Prompt
from latbench.model.sample import Sample
from latbench.plan.draw import nonce
from latbench.providers import bedrock
from latbench.providers.base import Dialect, Signer
from latbench.providers.registry import DIALECTS

GAP = Fill("def add(a, b):\n    return ", "\n\nprint(add(1, 2))\n")
IN_WORDS = (Message("user", "Fill in the code."),)
HOLE = Prompt("p0", "search", "python", IN_WORDS, 4, "0" * 64, fill=GAP)
SCHEMA = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
FILLERS = {"openai-completions": "/completions", "mistral": "/fim/completions", "ollama": "/api/generate"}


async def answer_in_its_own_way(call: Call) -> None:
    """A short answer of the API that has this path."""
    path = call.line.split()[1]
    if path.endswith(("/generate", "/api/chat")):
        done = {"done": True, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 1}
        lines = [{"response": "a + b", "done": False}, {"response": "", **done}]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    elif path.endswith("/v1/completions"):
        body = sse({"object": "text_completion", "choices": [{"text": "a + b", "finish_reason": "stop"}]}) + DONE
    else:
        body = event("a + b") + event(finish="stop") + usage(1) + DONE
    await call.send(CHUNKED + chunk(body) + LAST_CHUNK)


# --- gaps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("api", FILLERS)
def test_a_gap_goes_to_the_path_that_fills_it(api: str, cold: bool, make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_in_its_own_way) as server:
            what = job(endpoint(server.url, api=api), prompts=[HOLE], cold=cold)
            ran = await step(what, requests=2, make=make)
            assert ran.outcomes() == {"ok": 2}
            for call in server.calls:
                body = json.loads(call.body)
                mark = body["prompt"].removeprefix("# ").partition("\n")[0]
                assert not cold or mark in {one.nonce for one in ran.samples}
                assert call.line == f"POST /v1{FILLERS[api]} HTTP/1.1"
                assert body["prompt"] == (f"# {mark}\n{GAP.prefix}" if cold else GAP.prefix)
                assert body["suffix"] == GAP.suffix
                assert "messages" not in body
        assert [one.text_chars for one in ran.samples] == [5, 5]
        assert len({one.nonce for one in ran.samples}) == (2 if cold else 1)

    run(scenario())


@pytest.mark.parametrize("api", [api for api, dialect in DIALECTS.items() if not dialect.fills])
def test_an_api_without_gaps_is_asked_in_words(api: str) -> None:
    to = endpoint("http://h/v1", api=api)
    assert Bodies(job(to, prompts=[HOLE])).get(0, 0, "ab") == Bodies(job(to, prompts=[replace_fill(HOLE, None)])).get(
        0, 0, "ab"
    )


def replace_fill(prompt: Prompt, fill: Fill | None) -> Prompt:
    return Prompt("p0", "search", "python", prompt.messages, 4, "0" * 64, fill=fill)


def test_openai_chat_gets_messages() -> None:
    async def scenario() -> None:
        async with serving(answer_in_its_own_way) as server:
            ran = await step(job(endpoint(server.url), prompts=[HOLE]))
            body = json.loads(server.calls[0].body)
            assert server.calls[0].line == "POST /v1/chat/completions HTTP/1.1"
            assert body["messages"] == [{"role": "user", "content": f"[{ran.one.nonce}]\nFill in the code."}]
            assert "prompt" not in body
            assert "suffix" not in body

    run(scenario())


def test_two_paths_of_one_endpoint() -> None:
    """Some prompts are gaps, others are not: each goes where it belongs, over the same connection."""
    plain = Prompt("p1", "search", "go", (Message("user", "Explain."),), 2, "1" * 64)

    async def scenario() -> None:
        async with serving(answer_in_its_own_way) as server:
            what = job(endpoint(server.url, api="mistral"), prompts=[HOLE, plain])
            ran = await step(what, requests=20)
            assert ran.outcomes() == {"ok": 20}
            assert server.connections == 1
            came = {tuple(json.loads(call.body).keys() & {"prompt", "messages"}) for call in server.calls}
            assert came == {("prompt",), ("messages",)}
            for call in server.calls:
                path = "/v1/fim/completions" if "prompt" in json.loads(call.body) else "/v1/chat/completions"
                assert call.line.split()[1] == path

    run(scenario())


@given(st.sampled_from(sorted(FILLERS)), st.sampled_from(MODES), st.text(max_size=40), st.text(max_size=40))
def test_a_schema_goes_with_no_gap_and_the_gap_stays_as_it_is(api: str, mode: str, prefix: str, suffix: str) -> None:
    what = job(
        endpoint("http://h/v1", api=api),
        prompts=[replace_fill(HOLE, Fill(prefix, suffix))],
        modes=(mode,),
        schema=SCHEMA,
    )
    if mode not in {"text", "prompted", *DIALECTS[api].modes}:
        return
    mark = nonce("r", "e", 0, 7)
    post = Bodies(what).get(0, 0, mark, mode=mode)
    body = json.loads(post.body)
    if mode == "text":
        assert (post.path, body["prompt"], body["suffix"]) == (FILLERS[api], f"# {mark}\n{prefix}", suffix)
    else:
        assert "suffix" not in body
        assert post.path not in ("/fim/completions", "/api/generate")
        assert f"[{mark}]" in post.body.decode()


# --- signatures -------------------------------------------------------------------------------------------------------


def signature(url: str, body: bytes) -> str:
    return sha256(url.encode() + b"\n" + body).hexdigest()


def signing(endpoint: Endpoint, environ: Mapping[str, str]) -> Signer:
    """Signs what a server can check: the whole URL and the body."""

    def sign(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        assert headers["content-type"] == "application/json"
        return {"X-Signature": signature(url, body), "Authorization": f"SIGNED {environ.get('WHO', 'nobody')}"}

    return sign


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> Dialect:
    """An API that wants signatures."""
    made = replace(DIALECTS["openai-chat"], api="signed", signer=signing)
    monkeypatch.setitem(DIALECTS, "signed", made)
    return made


def check_signed(ran: Ran, calls: list[Call], base: str) -> None:
    assert ran.outcomes() == {"ok": len(calls)}
    for call in calls:
        assert call.header("x-signature") == signature(f"{base}/chat/completions", call.body)
        assert call.header("authorization") == "SIGNED me", "one such header, whatever else says so"
        assert call.header("content-type") == "application/json"
    assert len({call.header("x-signature") for call in calls}) == len(calls), "each nonce makes it another one"


@pytest.mark.parametrize("own", [{}, {"Authorization": "mine", "X-Signature": "none"}])
def test_each_request_carries_its_own_signature(own: dict[str, str], signed: Dialect, make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url, api="signed", headers=own))
            ran = await step(what, requests=6, slots=range(2), make=make, environ={"WHO": "me"})
            check_signed(ran, server.calls, server.url)
            opened_ran = await open_signed(server.url, make)
            check_signed(opened_ran, server.calls[6:], server.url)

    run(scenario())


async def open_signed(url: str, make: Make) -> Ran:
    async with lab(job(endpoint(url, api="signed")), make, {"WHO": "me"}) as found:
        return await found.load(Step(Constant(200.0), 10))


def test_signed_through_a_proxy(signed: Dialect, make: Make) -> None:
    """The signature is for the endpoint, and not for who passes the request on."""

    async def scenario() -> None:
        async with serving(answer_well) as proxy:
            base = "http://model.invalid:8080/v1"
            to = endpoint(base, api="signed", proxy=proxy.url.removesuffix("/v1"))
            ran = await step(job(to), requests=3, make=make, environ={"WHO": "me"})
            assert proxy.calls[0].line == f"POST {base}/chat/completions HTTP/1.1"
            check_signed(ran, proxy.calls, base)

    run(scenario())


def test_a_key_takes_the_place_of_signatures(signed: Dialect, make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            to = endpoint(server.url, api="signed", api_key_env=("K",))
            await step(job(to), make=make, environ={"K": "key-1234"})
            assert server.calls[0].header("authorization") == "Bearer key-1234"
            assert server.calls[0].header("x-signature") is None

    run(scenario())


def test_no_signature_is_old_when_it_leaves(signed: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    """All ten requests are made at once, the last of them 900 ms before it is due."""
    made_ns: dict[str, int] = {}

    def dated(to: Endpoint, environ: Mapping[str, str]) -> Signer:
        def sign(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
            number = str(len(made_ns))
            made_ns[number] = flight.raw_ns()
            return {"x-number": number}

        return sign

    monkeypatch.setattr(flight, "_SIGNATURE_NS", 200 * MS)
    monkeypatch.setitem(DIALECTS, "signed", replace(signed, signer=dated))

    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url, api="signed"))
            ran = await opened(what, Step(Constant(10.0), 10))
            sent_ns = {one.nonce: (one.sent_ns or 0) + ran.origin_ns for one in ran.samples}
            for call in server.calls:
                mark = json.loads(call.body)["messages"][0]["content"][1:].partition("]")[0]
                assert sent_ns[mark] - made_ns[call.header("x-number") or ""] <= 200 * MS
            assert len(server.calls) == 10 < len(made_ns)

    run(scenario())


def test_a_refused_request_is_signed_again_only_where_its_signature_is_old(
    signed: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []

    def numbered(to: Endpoint, environ: Mapping[str, str]) -> Signer:
        def sign(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
            numbers.append(len(numbers))
            return {"x-number": str(numbers[-1])}

        return sign

    monkeypatch.setitem(DIALECTS, "signed", replace(signed, signer=numbered))

    async def script(call: Call) -> None:
        await (answer_well(call) if call.number % 2 else call.send(reply(429, b"", retry_after_ms="60")))

    async def scenario() -> None:
        async with serving(script) as server:
            what = job(endpoint(server.url, api="signed"), respect=True)
            await step(what)
            assert [call.header("x-number") for call in server.calls] == ["0", "0"]
            monkeypatch.setattr(flight, "_SIGNATURE_NS", 50 * MS)
            await step(what)
            first, again = (call.header("x-number") for call in server.calls[2:])
            assert first != again

    run(scenario())


# --- secrets ----------------------------------------------------------------------------------------------------------

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFAKEKEY",
    "AWS_SESSION_TOKEN": "IQoJb3JFAKE",
}


def test_what_signs_is_a_secret_where_something_is_signed() -> None:
    bearer = endpoint("http://h", api="bedrock", api_key_env=("K",))
    environ = AWS | {"K": "a-bearer-key"}
    assert secrets_of([endpoint("http://h", api="bedrock")], environ) == ["wJalrXUtnFAKEKEY", "IQoJb3JFAKE"]
    assert secrets_of([bearer], environ) == ["a-bearer-key"]
    assert secrets_of([endpoint("http://h")], environ) == []
    assert secrets_of([bearer, endpoint("http://h", api="bedrock")], {}) == []
    assert bedrock.DIALECT.signer is not None


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_an_endpoint_that_echoes_what_signs_is_not_quoted(name: str) -> None:
    secrets = secrets_of([endpoint("http://h", api="bedrock")], AWS)
    sample = Sample("e", 0, 0, "p", "measure", "auth_error", error_message=f"bad signature of {AWS[name]}, sorry")
    hide(sample, secrets)
    assert sample.error_message == "bad signature of [secret], sorry"


# --- several keys -----------------------------------------------------------------------------------------------------

KEYS = {"A": "key-a", "B": "key-b", "C": "key-c"}


@pytest.mark.parametrize("shape", ["closed", "open", "respect"])
def test_the_index_on_a_sample_is_that_of_the_key_that_arrived(shape: str, make: Make) -> None:
    async def script(call: Call) -> None:
        refused = shape == "respect" and call.number % 3 == 0
        await (call.send(reply(429, b"", retry_after_ms="1")) if refused else answer_well(call))

    async def scenario() -> None:
        async with serving(script) as one, serving(script) as other:
            several = endpoint(one.url, "a", api_key_env=("A", "B"))
            ends = [several, endpoint(other.url, "b", api_key_env=("C",))]
            async with lab(job(ends, respect=shape == "respect"), make, KEYS) as found:
                if shape == "open":
                    ran = await found.load(Step(Constant(300.0), 40))
                else:
                    ran = await found.step(range(8), requests=40, stride=4)
            for name, server, keys in (("a", one, ["Bearer key-a", "Bearer key-b"]), ("b", other, ["Bearer key-c"])):
                came: dict[str, list[str | None]] = {}
                for call in server.calls:
                    mark = json.loads(call.body)["messages"][0]["content"][1:].partition("]")[0]
                    came.setdefault(mark, []).append(call.header("authorization"))
                ours = [sample for sample in ran.samples if sample.endpoint == name]
                assert len(ours) == 40
                for sample in ours:
                    said = [*(one.key_index for one in sample.tries), sample.key_index]
                    assert [keys[index] for index in said] == came[sample.nonce]
                used = Counter(sample.key_index for sample in ours)
                assert used.keys() == set(range(len(keys)))
                assert shape != "open" or max(used.values()) - min(used.values()) <= 2, "all are used alike"

    run(scenario())


def test_each_key_has_connections_of_its_own() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            async with lab(job(endpoint(server.url, api_key_env=("A", "B"))), environ=KEYS) as found:
                assert await found.open(range(4)) == {}
                assert server.connections == 4
                await found.step(range(4), requests=40)
                assert server.connections == 4
            keys: dict[int, set[str | None]] = {}
            for call in server.calls:
                keys.setdefault(call.connection, set()).add(call.header("authorization"))
        assert Counter(len(found) for found in keys.values()) == {1: 4}

    run(scenario())


# --- output modes -----------------------------------------------------------------------------------------------------


def check_mode(mode: str, body: dict[str, Any]) -> None:
    said = body["messages"][-1]["content"]
    assert ("Answer with one JSON object" in said) is (mode == "prompted")
    assert mode != "prompted" or json.loads(said.rpartition("\n")[2]) == SCHEMA
    assert ("response_format" in body) is (mode == "json_schema")
    assert ({"tools", "tool_choice"} <= body.keys()) is (mode == "tool")
    assert ("tools" in body) is (mode == "tool")
    if mode == "json_schema":
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
        assert body["response_format"]["type"] == "json_schema"
    if mode == "tool":
        (tool,) = body["tools"]
        assert tool["function"]["parameters"] == SCHEMA
        assert body["tool_choice"]["function"]["name"] == tool["function"]["name"]


@pytest.mark.parametrize("shape", ["closed", "open"])
@pytest.mark.parametrize("modes", [MODES, ("tool", "text"), ("prompted",)], ids=["all", "two", "one"])
def test_each_arm_asks_in_its_own_way_for_the_prompt_of_its_pair(modes: tuple[str, ...], shape: str) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url), modes=modes, schema=SCHEMA)
            load = Step(Constant(300.0), 24)
            ran = await (opened(what, load) if shape == "open" else step(what, requests=24, slots=range(3)))
            bodies = {
                json.loads(call.body)["messages"][0]["content"][1:17]: json.loads(call.body) for call in server.calls
            }
        assert ran.seqs() == list(range(24))
        pairs: dict[int, list[Sample]] = {}
        for sample in ran.samples:
            body = bodies[sample.nonce]
            check_mode(sample.output_mode, body)
            asked = body["messages"][0]["content"].partition("]\n")[2].partition("\n\n")[0]
            assert asked == f"question {sample.prompt_id.removeprefix('p')}"
            pairs.setdefault(sample.seq // len(modes), []).append(sample)
        for pair in pairs.values():
            assert len({sample.prompt_id for sample in pair}) == 1
            assert sorted(sample.output_mode for sample in pair) == sorted(modes)
        assert len({sample.prompt_id for sample in ran.samples}) > 1

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("mode", ["text", "tool"])
def test_what_is_read_on_is_the_text_or_the_arguments_of_the_first_tool(mode: str, stream: bool) -> None:
    calls = [
        {"index": number, "id": f"c{number}", "type": "function", "function": {"name": "answer", "arguments": said}}
        for number, said in ((1, '{"other": 1}'), (0, '{"code": "x"}'))
    ]

    async def script(call: Call) -> None:
        if stream:
            body = event("Here: ") + event(delta={"tool_calls": calls}) + event(finish="tool_calls") + usage(3) + DONE
            await call.send(CHUNKED + chunk(body) + LAST_CHUNK)
        else:
            plain = completion("Here: ", 3)
            plain["choices"][0]["message"]["tool_calls"] = [calls[1], calls[0]]
            await call.send(reply(200, plain))

    async def scenario() -> None:
        async with serving(script) as server:
            what = job(endpoint(server.url, stream=stream), modes=(mode,), schema=SCHEMA)
            ran = await step(what)
        assert ran.one.text == ('{"code": "x"}' if mode == "tool" else "Here: ")
        assert ran.one.text_chars == len("Here: ")

    run(scenario())


# --- what a request is called -----------------------------------------------------------------------------------------


def said(answer: bytes) -> Script:
    """The script of a server that says this."""
    return lambda call: call.send(answer)


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id"])
@pytest.mark.parametrize("status", [200, 429])
def test_the_id_of_a_request_is_found_whatever_its_provider_calls_it(name: str, status: int, make: Make) -> None:
    async def scenario() -> None:
        body = completion("x", 1) | {"id": None}
        script = said(reply(status, body, **{name.upper(): "r-1"}))
        async with serving(script) as server, exchanging(endpoint(server.url, stream=False), make) as (_, send):
            sample = await send()
        assert (sample.request_id, sample.status) == ("r-1", status)

    run(scenario())


def test_of_several_ids_the_gateways_own_is_first_and_an_empty_one_is_none() -> None:
    async def scenario() -> None:
        headers = {"apim-request-id": "azure", "x-request-id": "", "x-amzn-requestid": "aws", "request-id": "r" * 999}
        script = said(reply(429, b"", **headers))
        async with serving(script) as server, exchanging(endpoint(server.url)) as (_, send):
            sample = await send()
        assert sample.request_id == "r" * 300

    run(scenario())


def test_a_key_of_an_api_that_could_be_signed_is_hidden_by_the_engine_that_runs() -> None:
    """The endpoint sends everything back that it was sent."""

    async def script(call: Call) -> None:
        said = f"no: {call.header('x-team')} {call.header('authorization')}"
        await call.send(reply(401, {"message": said}))

    async def scenario() -> None:
        environ = {"TEAM": "team-secret-1", "K": "bearer-secret-2"}
        async with serving(script) as server, engine(environ) as (_, link, _hello):
            to = endpoint(server.url, api="bedrock", api_key_env=("K",), header_env={"X-Team": "TEAM"})
            samples, _ = await link.step(job(to), [0], 1)
            assert samples[0].error_message == "no: [secret] Bearer [secret]"
            assert b"secret-" not in link.raw

    run(scenario())


def test_targets_of_what_is_not_signed_have_no_signer() -> None:
    assert all(one.signer is None for one in targets(endpoint("http://h", api_key_env=("A", "B")), 1.0, KEYS))
