"""The grammar and the rules of a scenario file, without a file."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from latbench.scenario.schema import (
    LoadEntry,
    Scenario,
    Step,
    default_warmup_ns,
    format_duration,
    format_key,
    nearest,
    parse_duration,
    parse_size,
    problems_of,
)

SECOND = 1_000_000_000


def scenario(**changes: Any) -> dict[str, Any]:
    endpoint = {"name": "a", "api": "openai-chat", "base_url": "sim", "model": "m"}
    load = {"shape": "closed", "concurrency": 1, "requests": 5}
    return {"name": "x", "endpoints": [endpoint], "prompts": {"pack": "p"}, "load": load} | changes


def endpoint(**changes: Any) -> dict[str, Any]:
    return scenario(endpoints=[scenario()["endpoints"][0] | changes])


def problems(data: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(data)
    return {format_key(path): message for path, message in problems_of(caught.value, Scenario)}


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", 250_000_000),
        ("30s", 30 * SECOND),
        ("5m", 300 * SECOND),
        ("1h", 3600 * SECOND),
        ("0s", 0),
        ("1.5s", 1_500_000_000),
        ("0.5ms", 500_000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (60, "a bare number; write 60s"),
        (1.5, "a bare number; write 1.5s"),
        (0, "a bare number; write 0s"),
        ("60", "a bare number; write 60s"),
        ("1h30m", "one number and one unit"),
        ("-1s", "one number and one unit"),
        ("10 s", "one number and one unit"),
        ("10S", "one number and one unit"),
        (True, "must be a duration"),
        (None, "must be a duration"),
        ("0.0000001ms", "finer than a nanosecond"),
        ("99999h", "at most 8760h"),
    ],
)
def test_what_is_not_a_duration(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_duration(value)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=8760 * 3600 * SECOND))
def test_a_duration_is_read_back_as_it_was(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("value", "size"), [(256, 256), ("256", 256), ("10k", 10_000), ("3M", 3_000_000), ("1.5k", 1500)]
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["10K", "10 k", "ten", "", "-1", 1.5, True, None, "1.0005k"])
def test_what_is_not_a_size(value: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_size(value)


@pytest.mark.parametrize(
    ("seconds", "warmup"),
    [(9, 3), (30, 10), (60, 10), (100, 10), (600, 60)],
)
def test_the_warm_up_is_ten_seconds_or_a_tenth_but_at_most_a_third(seconds: int, warmup: int) -> None:
    assert default_warmup_ns(None, seconds * SECOND) == warmup * SECOND


def test_a_step_that_counts_requests_has_no_warm_up_unless_it_says_so() -> None:
    assert default_warmup_ns(100, None) == 0
    assert default_warmup_ns(100, 60 * SECOND) == 0
    entry = LoadEntry.model_validate({"shape": "closed", "concurrency": 1, "requests": 5, "warmup": "2s"})
    assert entry.steps() == [Step("closed", 1, 5, None, 2 * SECOND, 0)]


def test_lists_make_steps_and_the_first_written_varies_slowest() -> None:
    written = {"shape": "closed", "think": ["0s", "1s"], "concurrency": [1, 4], "duration": "30s", "requests": None}
    steps = LoadEntry.model_validate(written).steps()
    assert [(step.think_ns, step.concurrency) for step in steps] == [(0, 1), (0, 4), (SECOND, 1), (SECOND, 4)]
    assert {(step.duration_ns, step.requests, step.warmup_ns) for step in steps} == {(30 * SECOND, None, 10 * SECOND)}


@settings(deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=4), st.lists(st.integers(1, 99), min_size=1, max_size=4))
def test_the_product_is_complete(concurrency: list[int], requests: list[int]) -> None:
    steps = LoadEntry.model_validate({"requests": requests, "shape": "closed", "concurrency": concurrency}).steps()
    assert [(step.requests, step.concurrency) for step in steps] == [(r, c) for r in requests for c in concurrency]


def test_defaults() -> None:
    made = Scenario.model_validate(scenario())
    assert (made.version, made.seed, made.cache, made.drain) == ("1", 0, "cold", 60 * SECOND)
    assert made.output.max_tokens == 256
    assert made.timeouts.first_output == 120 * SECOND
    assert made.endpoints[0].api_key_env == ()
    assert made.steps() == [Step("closed", 1, 5, None, 0, 0)]


def test_one_variable_or_several_hold_keys() -> None:
    for written, names in (("A", ("A",)), (["A", "B"], ("A", "B")), (None, ())):
        assert Scenario.model_validate(endpoint(api_key_env=written)).endpoints[0].api_key_env == names


@pytest.mark.parametrize("url", ["sim", "http://localhost:8000/v1", "https://host/v1/", "http://[::1]:80"])
def test_urls(url: str) -> None:
    assert Scenario.model_validate(endpoint(base_url=url)).endpoints[0].base_url == url.rstrip("/")


@pytest.mark.parametrize("proxy", [None, "env", "http://proxy:3128"])
def test_proxies(proxy: str | None) -> None:
    assert Scenario.model_validate(endpoint(proxy=proxy)).endpoints[0].proxy == proxy


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("host:8000/v1", "starts with http://"),
        ("ftp://host", "starts with http://"),
        ("http://", "starts with http://"),
        ("http://host:port", "starts with http://"),
        ("http://[::1", "starts with http://"),
        ("http://a b", "starts with http://"),
        ("https://me:s3cret@host", "must not hold credentials"),
        ("https://host/v1?api-key=s3cret", "remove what follows"),
        (5, "must be text; put it in quotes"),
        (None, "is empty"),
    ],
)
def test_what_is_not_a_url(url: object, message: str) -> None:
    for key in ("base_url", "proxy") if url is not None else ("base_url",):
        found = problems(endpoint(**{key: url}))
        assert message in found[f"endpoints[0].{key}"]
        assert "s3cret" not in str(found)


@pytest.mark.parametrize("name", ["Authorization", "api-key", "X-API-Key", "token", "X-Auth-Token", "Cookie"])
def test_a_secret_header_comes_from_the_environment(name: str) -> None:
    found = problems(endpoint(headers={name: "s3cret", "X-Team": "bench"}))
    assert found == {f"endpoints[0].headers.{name}": "a secret must not stand in the file; use {env: NAME}"}
    made = Scenario.model_validate(endpoint(headers={name: {"env": "NAME"}, "X-Team": "bench"}))
    assert made.endpoints[0].headers["X-Team"] == "bench"


@pytest.mark.parametrize("value", [3, {"env": 3}, {"env": "s3 cret"}, {"environment": "A"}, "a\nb", None])
def test_what_is_not_a_header(value: object) -> None:
    found = problems(endpoint(headers={"X-Team": value}))
    assert list(found) == ["endpoints[0].headers.X-Team"]
    assert "s3 cret" not in str(found)
    assert "not a header's name" in problems(endpoint(headers={"X Team": "a"}))["endpoints[0].headers.X Team"]
    framing = problems(endpoint(headers={"Content-Length": "3"}))
    assert "frames the request" in framing["endpoints[0].headers.Content-Length"]


@pytest.mark.parametrize(
    "key", ["model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"]
)
def test_the_body_holds_nothing_of_ours(key: str) -> None:
    found = problems(endpoint(body={key: 1, "temperature": 0}))
    assert found[f"endpoints[0].body.{key}"].startswith("latbench sets this field; use") or key == "messages"
    assert list(found) == [f"endpoints[0].body.{key}"]


@pytest.mark.parametrize(
    ("data", "key", "message"),
    [
        (scenario(slo={}), "slo", "unknown key; there are: name, "),
        (scenario(laod=[]), "laod", 'unknown key; did you mean "load"?'),
        (scenario(timeouts={"conect": "1s"}), "timeouts.conect", 'did you mean "connect"?'),
        (endpoint(modle="m"), "endpoints[0].modle", 'did you mean "model"?'),
        (endpoint(limits={"rmp": 1}), "endpoints[0].limits.rmp", 'did you mean "rpm"?'),
        (endpoint(price={"input": 1}), "endpoints[0].price.output", "missing; add it"),
        (endpoint(price={"input": -1, "output": 1}), "endpoints[0].price.input", "must be at least 0"),
        (endpoint(price={"input": "1", "output": 1}), "endpoints[0].price.input", "must be a number"),
        (endpoint(price={"input": float("inf"), "output": 1}), "endpoints[0].price.input", "must be a finite number"),
        (endpoint(api="openai_chat"), "endpoints[0].api", 'did you mean "openai-chat"?'),
        (endpoint(stream="yes"), "endpoints[0].stream", "must be true or false"),
        (endpoint(usage="of"), "endpoints[0].usage", 'must be auto or off; did you mean "off"?'),
        (endpoint(api_key_env="s3-cret"), "endpoints[0].api_key_env[0]", "the name of an environment variable"),
        (endpoint(api_key_env=[]), "endpoints[0].api_key_env", "an empty list"),
        (endpoint(model="a\nb"), "endpoints[0].model", "can be printed"),
        (endpoint(body=[]), "endpoints[0].body", "must be a mapping"),
        (scenario(endpoints=[]), "endpoints", "an empty list; give it at least one item"),
        (scenario(endpoints={"a": 1}), "endpoints", "must be a list"),
        (scenario(endpoints=["a"]), "endpoints[0]", "must be a mapping"),
        (scenario(endpoints=scenario()["endpoints"] * 2), "endpoints[1].name", "endpoints[0] has the same name"),
        (scenario(name="a/b"), "name", "only letters"),
        (scenario(version=1.1), "version", "must be text; put it in quotes"),
        (scenario(seed=2**63), "seed", "must be less than 9223372036854775808"),
        (scenario(seed=True), "seed", "must be a whole number"),
        (scenario(prompts={}), "prompts", "needs either pack or path"),
        (scenario(prompts={"pack": "a", "path": "b"}), "prompts", "needs either pack or path"),
        (scenario(prompts={"pack": "a", "tasks": {"search": 0}}), "prompts.tasks", "every weight is 0"),
        (scenario(prompts={"pack": "a", "tasks": {"serch": 1}}), "prompts.tasks.serch", 'did you mean "search"?'),
        (scenario(output={"max_tokens": 0}), "output.max_tokens", "must be at least 1"),
        (scenario(output={"max_tokens": "9000000000000M"}), "output.max_tokens", "must be at most"),
        (scenario(output={"mode": "json_schema"}), "output.mode", "must be text"),
        (scenario(cache="hot"), "cache", "must be cold or warm"),
        (scenario(timeouts={"total": "0s"}), "timeouts.total", "must be longer than 0s"),
        (scenario(drain=60), "drain", "a bare number; write 60s"),
        (scenario(drain=None), "drain", "is empty; give it a value or remove the key"),
        (scenario(load=[]), "load", "an empty list"),
        (scenario(load="closed"), "load[0]", "must be a mapping"),
        (scenario(load={"shape": "closed", "concurrency": 1}), "load[0]", "needs duration or requests"),
        (scenario(load={"shape": "closed", "concurrency": None, "requests": 1}), "load[0].concurrency", "is empty"),
        (
            scenario(load={"shape": "closed", "concurrency": [1, 0], "requests": 1}),
            "load[0].concurrency[1]",
            "at least 1",
        ),
        (scenario(load={"shape": "poisson", "concurrency": 1, "requests": 1}), "load[0].shape[0]", "must be closed"),
        (scenario(load={"shape": "closed", "concurrency": 1, "rate": 4}), "load[0].rate", "unknown key"),
        (scenario(labels={"region": 1}), "labels.region", "must be text; put it in quotes"),
        ([], "", "must be a mapping"),
    ],
)
def test_mistakes_name_the_key_and_what_to_do(data: object, key: str, message: str) -> None:
    found = problems(data)
    assert message in found[key]
    assert "pydantic" not in str(found)


def test_all_mistakes_are_found_at_once() -> None:
    found = problems(endpoint(modle="m", usage=5) | {"drain": 3})
    assert set(found) == {"endpoints[0].modle", "endpoints[0].usage", "drain"}


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest("modle", ["model", "name"]) == 'did you mean "model"?'
    assert nearest("zzz", ["model", "name"]) == "there are: model, name"
    assert nearest("zzz", ["model"]) == "there is: model"
