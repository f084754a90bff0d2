"""`latbench plan` says what a run would send, and sends nothing."""

from typing import Any

import pytest
from harness import Cli, Served

pytestmark = pytest.mark.timeout(60)

PRICE = {"input": 3.0, "output": 15.0}


def _scenario(cli: Cli, url: str = "https://nowhere.invalid/v1", **keys: Any) -> None:
    names = keys.pop("names", ["m"])
    price = keys.pop("price", PRICE)
    endpoints = [
        {"name": name, "api": "openai-chat", "base_url": url, "model": "m"} | ({"price": price} if price else {})
        for name in names
    ]
    cli.scenario(endpoints=endpoints, **keys)


def test_a_plan_is_said_and_not_sent(cli: Cli, endpoint: Served) -> None:
    load = [
        {"shape": "closed", "concurrency": 2, "requests": 40},
        {"shape": "constant", "rate": "10/s", "duration": "6s", "warmup": "0s"},
    ]
    _scenario(cli, endpoint.url, load=load, seed=3)
    done = cli.here("plan", "mine.yaml")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "step 0: closed 2" in lines
    assert "step 1: constant 10/s" in lines
    assert lines.count("  percentiles: p10, p50, p90") == 2
    assert "  duration: at most 6 s, and the last answers" in lines
    assert endpoint.stats()["requests"] == 0
    assert sorted(path.name for path in cli.cwd.iterdir()) == ["mine.yaml", "own.jsonl"]


def test_the_document_holds_the_same_as_the_text(cli: Cli) -> None:
    load = [{"shape": "sessions", "rate": "2/s", "turns": 3, "requests": 5}]
    _scenario(cli, names=["a", "b"], load=load, budget={"usd": 0.003, "requests": 20})
    found = cli.here("plan", "mine.yaml", "--json").summary
    (step,) = found["steps"]
    assert (found["scenario"], len(found["scenario_sha256"])) == ("mine", 64)
    assert (found["endpoints"], found["unpriced"]) == (["a", "b"], [])
    assert (step["arrivals"], step["requests"], found["requests"]) == (5, 15, 30)
    assert found["output_tokens"] == 30 * 8
    assert found["budget"] == {"requests": 20, "tokens": None, "nano_usd": 3_000_000}
    assert found["over"] == ["requests", "usd"]
    assert sorted(step["request_usd"]) == ["a", "b"]
    text = cli.here("plan", "mine.yaml").out
    assert "mine would send at most 30 requests" in text
    assert "(budget: 0.003 USD, 20 requests, which ends it earlier)" in " ".join(text.split())
    assert "requests to each endpoint: 15 in 5 sessions" in text
    assert "a request: about" in text
    assert "tokens, a about 0.000" in " ".join(text.split())
    assert "USD, b about 0.000" in " ".join(text.split())


def test_flags_are_those_of_a_run(cli: Cli) -> None:
    _scenario(cli, price=None, load=[{"shape": "closed", "concurrency": 2, "requests": 40}])
    flags = ("--rate", "5/s", "--duration", "20s", "--max-tokens", "5", "--seed", "9", "--json")
    found = cli.here("plan", "mine.yaml", *flags).summary
    again = cli.here("plan", "mine.yaml", *flags[:-2], "10", "--json").summary
    (step,) = found["steps"]
    assert step["load"] == "poisson 5/s"
    assert step["requests"] == step["arrivals"] > step["measured"] > 0
    assert step["request_output_tokens"] == 5
    assert (found["usd"], found["unpriced"]) == (None, ["m"])
    assert again["requests"] != found["requests"]


def test_what_nobody_knows_is_not_made_up(cli: Cli) -> None:
    _scenario(cli, load=[{"shape": "closed", "concurrency": 2, "duration": "30s"}])
    text = " ".join(cli.here("plan", "mine.yaml").out.split())
    assert "USD each; no limit on their number but the duration" in text
    assert "requests: as many as the duration allows" in text
    assert "percentiles: depend on how many requests there will be" in text
    assert "the step:" not in text
    found = cli.here("plan", "mine.yaml", "--json").summary
    assert (found["requests"], found["usd"]) == (None, None)


def test_too_few_requests_support_nothing(cli: Cli) -> None:
    _scenario(cli, load=[{"shape": "closed", "concurrency": 1, "requests": 3}])
    text = cli.here("plan", "mine.yaml").out
    assert "  percentiles: none: too few requests" in text
    assert "  duration: as long as the answers take" in text


def test_keys_need_not_be_there(cli: Cli) -> None:
    keyed = {"name": "m", "api": "openai-chat", "base_url": "https://nowhere.invalid/v1", "model": "m"}
    load = [{"shape": "closed", "concurrency": 1, "requests": 3}]
    cli.scenario(endpoints=[keyed | {"api_key_env": "NOT_SET_ANYWHERE"}], load=load)
    assert cli.here("plan", "mine.yaml").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "nothing-here"], "no scenario"),
        (["plan", "mine.yaml", "--rate", "4/s", "--concurrency", "2"], "--rate"),
        (["plan", "mine.yaml", "--rate", "4"], "--rate"),
        (["plan"], "SCENARIO"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, arguments: list[str], words: str) -> None:
    _scenario(cli, load=[{"shape": "closed", "concurrency": 2, "requests": 40}])
    done = cli.here(*arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err
