"""Bodies are encoded ahead, with a place for the nonce: the bytes are those that building from scratch would give."""

import json

import pytest
from engine_kit import Make, endpoint, job, run, step
from hypothesis import given
from hypothesis import strategies as st
from servers import CHUNKED, DONE, LAST_CHUNK, Call, answer_well, chunk, event, serving, usage

from latbench.engine import bodies
from latbench.engine.bodies import Bodies
from latbench.model.request import Ask, Endpoint, Message, Prompt
from latbench.plan.draw import nonce, open_with
from latbench.providers.registry import DIALECTS

TEXT = st.text(max_size=60)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), TEXT), min_size=1, max_size=4).map(tuple)
MARK = nonce("run-1", "e", 0, 7)


def prompt(messages: tuple[Message, ...], max_tokens: int | None = None) -> Prompt:
    return Prompt("p", "search", "go", messages, 1, "0" * 64, max_tokens=max_tokens)


def built(to: Endpoint, messages: tuple[Message, ...], max_tokens: int) -> bytes:
    return DIALECTS[to.api].build(to, Ask(messages, max_tokens)).body


@given(MESSAGES, st.sampled_from([{}, {"temperature": 0}, {"stop": ["[", "f0"]}]), st.booleans())
def test_the_nonce_stands_where_building_would_put_it(messages, body, stream) -> None:
    to = endpoint("http://h/v1", body=body, stream=stream)
    found = Bodies(job(to, prompts=[prompt(messages)])).get(0, 0, MARK).body
    assert found == built(to, open_with(MARK, messages), 64)


def test_a_prompt_that_holds_the_stand_in_is_left_as_it_is() -> None:
    to, messages = endpoint("http://h/v1"), (Message("user", f"what is {bodies._STAND_IN}?"),)
    assert Bodies(job(to, prompts=[prompt(messages)])).get(0, 0, MARK).body == built(to, open_with(MARK, messages), 64)


@given(MESSAGES)
def test_a_warm_prompt_goes_out_as_it_is(messages) -> None:
    to = endpoint("http://h/v1")
    assert Bodies(job(to, prompts=[prompt(messages)], cold=False)).get(0, 0, "").body == built(to, messages, 64)


def test_what_memory_does_not_hold_is_encoded_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    to = [endpoint("http://h/v1", name=name, model=name) for name in "ab"]
    kept = Bodies(job(to))
    for limit in (0, 500, 1200):
        monkeypatch.setattr(bodies, "MEMORY_BYTES", limit)
        found = Bodies(job(to))
        for which in range(2):
            assert [found.get(which, n, MARK) for n in range(5)] == [kept.get(which, n, MARK) for n in range(5)]
    assert len({kept.get(which, n, MARK).body for which in range(2) for n in range(5)}) == 10


@pytest.mark.parametrize(("own", "sent"), [(None, 64), (10, 10), (64, 64), (1000, 64)])
def test_the_smaller_limit_of_tokens_holds(own: int | None, sent: int) -> None:
    found = Bodies(job(endpoint("http://h/v1"), prompts=[prompt((Message("user", "x"),), own)])).get(0, 0, MARK).body
    assert json.loads(found)["max_tokens"] == sent


@pytest.mark.parametrize("own", [None, 10, 1000])
def test_what_a_trace_asks_for_holds_over_every_limit(own: int | None) -> None:
    found = Bodies(job(endpoint("http://h/v1"), prompts=[prompt((Message("user", "x"),), own)]))
    for wanted in (1, 64, 5000):
        body = found.get(0, 0, MARK, wanted).body
        assert json.loads(body)["max_tokens"] == wanted == found.max_tokens(0, wanted)
        assert body == built(endpoint("http://h/v1"), open_with(MARK, (Message("user", "x"),)), wanted)
    assert found.max_tokens(0) == json.loads(found.get(0, 0, MARK).body)["max_tokens"]


@given(MESSAGES, st.booleans())
def test_a_conversation_is_opened_by_its_nonce(messages, cold) -> None:
    to = endpoint("http://h/v1")
    found = Bodies(job(to, cold=cold)).conversation(0, list(messages), MARK if cold else "", 7).body
    assert found == built(to, open_with(MARK, messages) if cold else messages, 7)


def test_without_a_place_for_the_nonce_there_is_no_body() -> None:
    with pytest.raises(ValueError, match="no place for the nonce"):
        Bodies(job(endpoint("http://h/v1", body={"messages": []})))


def test_every_request_opens_with_its_own_nonce(make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url)), requests=8, slots=range(2), make=make)
            sent = {json.loads(call.body)["messages"][0]["content"].partition("]\n")[0] for call in server.calls}
        assert sent == {f"[{sample.nonce}" for sample in ran.samples}
        assert len(sent) == 8
        assert all(sample.nonce == nonce("run-1", "e", 0, sample.seq) for sample in ran.samples)

    run(scenario())


def test_a_warm_cache_is_sent_no_nonce() -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            ran = await step(job(endpoint(server.url), cold=False), requests=4)
            sent = {json.loads(call.body)["messages"][0]["content"] for call in server.calls}
        assert sent <= {f"question {number}" for number in range(5)}
        assert {sample.nonce for sample in ran.samples} == {""}

    run(scenario())


def test_a_prompt_of_100_000_tokens_arrives_whole(make: Make) -> None:
    text = "".join(f"def f{number}(): return 'naïve \U0001f980'\n" for number in range(16_000))
    assert len(text.encode()) > 500_000

    async def scenario() -> None:
        async with serving(answer_well) as server:
            what = job(endpoint(server.url), prompts=[prompt((Message("system", "s"), Message("user", text)))])
            ran = await step(what, requests=3, make=make)
            assert ran.outcomes() == {"ok": 3}
            for call in server.calls:
                assert json.loads(call.body)["messages"][1]["content"] == text

    run(scenario())


@pytest.mark.parametrize("at_once", [1, 37, 10_000], ids=["each alone", "some together", "all together"])
def test_an_answer_of_10_000_chunks_is_counted_whole(at_once: int, make: Make) -> None:
    pieces = [chunk(event(f"w{number} ")) for number in range(10_000)]

    async def script(call: Call) -> None:
        call.writer.write(CHUNKED)
        for start in range(0, len(pieces), at_once):
            await call.send(b"".join(pieces[start : start + at_once]))
        await call.send(chunk(event(finish="stop")) + chunk(usage(10_000)) + chunk(DONE) + LAST_CHUNK)

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), make=make)
        sample = ran.one
        assert (sample.outcome, sample.chunks, sample.output_tokens) == ("ok", 10_000, 10_000)
        assert len(sample.gaps) == 1 + 4 * 9_999
        assert sample.text_chars == sum(len(f"w{number} ") for number in range(10_000))

    run(scenario())
