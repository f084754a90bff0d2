"""What stands in the head of a request, and which secrets go where."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from engine_kit import Make, endpoint, job, run, step
from servers import Call, answer_well, serving

from latbench import __version__
from latbench.engine.credentials import targets
from latbench.model.errors import UserError


def heads(changes: dict[str, Any], environ: dict[str, str] | None = None, **base: str) -> list[dict[str, str]]:
    return [one.headers for one in targets(endpoint("http://h/v1", **changes), 1.0, environ or {})]


def test_what_is_sent_unasked() -> None:
    (head,) = heads({})
    assert head == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "user-agent": f"latbench/{__version__}",
    }


@pytest.mark.parametrize("name", ["User-Agent", "user-agent", "USER-AGENT", "Accept", "Content-Type", "X-Team"])
def test_a_header_of_the_users_wins_whatever_its_case(name: str) -> None:
    (head,) = heads({"headers": {name: "mine"}})
    assert head[name.lower()] == "mine"
    assert [key.lower() for key in head].count(name.lower()) == 1


def test_a_header_from_the_environment() -> None:
    environ = {"TEAM": " blue\n", "AGENT": "a"}
    (head,) = heads({"header_env": {"X-Team": "TEAM", "User-Agent": "AGENT"}}, environ)
    assert (head["x-team"], head["user-agent"]) == ("blue", "a")


def test_each_key_gets_a_target() -> None:
    found = heads({"api_key_env": ("K1", "K2")}, {"K1": "one", "K2": "two"})
    assert [head["authorization"] for head in found] == ["Bearer one", "Bearer two"]


def test_a_key_beats_a_header_of_the_same_name() -> None:
    """Several keys would be pointless otherwise."""
    found = heads({"api_key_env": ("K",), "headers": {"Authorization": "x"}}, {"K": "one"})
    assert found[0]["authorization"] == "Bearer one"


@pytest.mark.parametrize("environ", [{}, {"K": ""}, {"K": " \n"}])
@pytest.mark.parametrize("where", [{"api_key_env": ("K",)}, {"header_env": {"X": "K"}}])
def test_a_variable_that_is_not_set_is_named(environ: dict[str, str], where: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="endpoint e: the environment variable K is not set"):
        heads(where, environ)


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "a\x7fb", "a\tb"])
@pytest.mark.parametrize("where", [{"api_key_env": ("K",)}, {"header_env": {"X": "K"}}, {"headers": {"X": "{bad}"}}])
def test_a_control_character_is_refused_and_its_value_not_shown(bad: str, where: dict[str, Any]) -> None:
    filled = {name: {"X": bad} if name == "headers" else value for name, value in where.items()}
    with pytest.raises(UserError, match="a control character cannot stand in a header") as caught:
        heads(filled, {"K": f"secret{bad}"})
    assert "secret" not in str(caught.value)


def test_a_target_does_not_show_its_headers() -> None:
    (target,) = targets(endpoint("http://h/v1", api_key_env=("K",)), 1.0, {"K": "very-secret"})
    assert "very-secret" not in repr(target)


@pytest.mark.parametrize("base", ["/v1", "/v1/", "/a%20b/v1", ""])
def test_the_path_is_appended_to_the_base_url_as_it_stands(base: str, make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            await step(job(endpoint(server.url.removesuffix("/v1") + base)), make=make)
            assert server.calls[0].line == f"POST {base.rstrip('/')}/chat/completions HTTP/1.1"

    run(scenario())


def test_the_head_as_the_server_reads_it(make: Make) -> None:
    async def scenario() -> None:
        async with serving(answer_well) as server:
            to = endpoint(server.url, headers={"X-Team": "bänch", "aCCept": "text/x"}, api_key_env=("K",))
            await step(job(to), environ={"K": "one"}, make=make)
            (call,) = server.calls
            assert call.header("host") == f"127.0.0.1:{server.port}"
            assert call.header("x-team") == "bänch"
            assert call.header("accept") == "text/x"
            assert call.header("authorization") == "Bearer one"
            assert call.header("accept-encoding") == "identity"
            assert call.header("content-length") == str(len(call.body))
            assert call.header("connection") in (None, "keep-alive")
            assert call.header("cookie") is None
            names = [name.lower() for name, _ in call.headers]
            assert len(set(names)) == len(names)

    run(scenario())


def test_cookies_are_not_kept(make: Make) -> None:
    async def script(call: Call) -> None:
        assert call.header("cookie") is None
        body = b"data: [DONE]\n\n"
        await call.send(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async def scenario() -> None:
        async with serving(script) as server:
            ran = await step(job(endpoint(server.url)), requests=3, make=make)
        assert ran.outcomes() == {"ok": 3}

    run(scenario())


def test_slots_are_spread_over_the_keys(make: Make) -> None:
    """Four slots of each of two endpoints; one endpoint has two keys, the other none."""

    async def script(call: Call) -> None:
        await asyncio.sleep(0.005)
        await answer_well(call)

    async def scenario() -> None:
        async with serving(script) as server:
            two = [endpoint(server.url, "a", api_key_env=("K1", "K2")), endpoint(server.url, "b")]
            environ = {"K1": "one", "K2": "two"}
            ran = await step(job(two), requests=16, slots=range(8), environ=environ, make=make, stride=4)
            seen = Counter(call.header("authorization") for call in server.calls)
        assert ran.outcomes() == {"ok": 32}
        assert seen == {"Bearer one": 8, "Bearer two": 8, None: 16}
        assert {sample.slot // 2 % 2 for sample in ran.samples if sample.endpoint == "a"} == {0, 1}

    run(scenario())
