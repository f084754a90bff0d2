"""Rate limits as the oracle applies them: every 429 that it wrote down is a hit, of the kind that was set.

The oracle has one limit in each run, so that the kind is known, and its bucket is known too: what latbench makes of the
limit (behaviour, rate, burst) is held against what the oracle was told.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, Done, Served, closes

pytestmark = pytest.mark.timeout(119)
LONG = pytest.mark.long

APIS = ("openai-chat", "anthropic")
QUICK = ("--ttft-ms", "5", "--itl-ms", "0")
BUCKET = ("--rpm", "600", "--burst", "20")
DEMAND = {"rpm": 300, "tokens_per_request": 2100}


def limits_of(api: str) -> tuple[str, ...]:
    """Whose headers the oracle's refusals have."""
    return ("--anthropic-limits",) if api == "anthropic" else ()


def statuses(served: Served, path: Path) -> list[int]:
    """What the oracle answered, request by request."""
    served.get("/oracle/stats")
    with path.open(newline="") as file:
        return [int(row["status"]) for row in csv.DictReader(file)]


def measure(cli: Cli, served: Served, api: str, load: dict[str, Any], *flags: str, **keys: Any) -> Done:
    """The run to its end; its arithmetic closes."""
    endpoint = {"name": "o", "provider": "p", "api": api, "base_url": served.url, "model": "oracle"}
    cli.scenario(endpoints=[endpoint], load=[load], **keys)
    done = cli.run("run", "mine.yaml", "--json", *flags)
    assert done.code == 0, done.err
    assert closes(done.summary)
    return done


def check_hits(cli: Cli, done: Done, answered: list[int], kind: str) -> dict[str, Any]:
    """Every 429 of the oracle is a hit of that kind, nothing else is, and no latency has any; the block of limits."""
    refused, taken = answered.count(429), answered.count(200)
    assert refused + taken == len(answered)
    assert min(refused, taken) > 0, "the load is meant to be refused in part"
    block = done.summary["endpoints"]["o"]
    limits: dict[str, Any] = block["rate_limits"]
    assert limits["hits"] == refused
    assert limits["by_kind"] == {kind: refused}
    assert sum(count for _, count in limits["per_second"]["series"]) == refused
    provider = done.summary["providers"]["p"]["rate_limits"]
    assert (provider["hits"], provider["by_kind"]) == (refused, {kind: refused})
    tried = cli.rows("SELECT outcome, status, kind FROM samples UNION ALL SELECT outcome, status, kind FROM attempts")
    assert sorted(tried, key=str) == sorted(
        [("ok", 200, None)] * taken + [("rate_limited", 429, kind)] * refused, key=str
    )
    assert block["outcomes"]["ok"] == taken
    for name in ("ttft_ms", "e2e_ms", "tpot_ms", "time_to_first_text_ms"):
        assert block["metrics"][name]["n"] == taken, f"{name} is of what was answered, and of nothing else"
    return limits


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("kind", "options", "think"),
    [
        ("requests", BUCKET, "0s"),
        pytest.param("tokens", ("--tpm", "3000"), "0s", marks=LONG),
        pytest.param("concurrency", ("--max-streams", "2"), "10ms", marks=LONG),
    ],
)
def test_each_429_is_a_hit_of_its_kind(
    cli: Cli, start_oracle: Callable[..., Served], api: str, kind: str, options: tuple[str, ...], think: str
) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, *options, *limits_of(api), "--csv", str(path))
    done = measure(cli, served, api, {"shape": "closed", "concurrency": 5, "requests": 90, "think": think})
    answered = statuses(served, path)
    assert len(answered) == 90
    limits = check_hits(cli, done, answered, kind)
    assert limits["waited_s"] == 0, "what is observed is not waited for"
    assert limits["audit"] == {"asked": limits["hits"], "followed": 0, "long_enough": 0, "too_short": 0}
    if kind != "concurrency":  # the oracle reports no headroom of that
        assert limits["headroom"][kind]["limit"] == int(options[1])


@LONG
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("api", APIS)
def test_the_ceiling_is_what_the_oracle_was_told(
    cli: Cli, start_oracle: Callable[..., Served], api: str, workers: str
) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, *BUCKET, *limits_of(api), "--csv", str(path))
    load = {"shape": "poisson", "rate": "25/s", "duration": "5s", "warmup": "0s"}
    done = measure(cli, served, api, load, "--workers", workers, demand=DEMAND)
    limits = check_hits(cli, done, statuses(served, path), "requests")
    check_ceiling(limits["ceiling"]["requests"])
    assert limits["ceiling"]["requests"]["refused"] == limits["hits"]
    assert limits["demand"]["words"].startswith("your peak of 300 requests/min; measured ceiling ")
    assert [need["verdict"] for need in limits["demand"]["needs"]] == ["holds", "unknown"]
    asked = limits["retry_after_s"]
    # OpenAI's headers ask in milliseconds, never for longer than one request needs; Anthropic's in whole seconds.
    assert (asked["max"] == 1) if api == "anthropic" else (0 < asked["p50"] <= asked["max"] <= 0.1)


def check_ceiling(found: dict[str, Any]) -> None:
    assert found["behaviour"] == "bucket", found["why"]
    assert found["rate_per_min"] == pytest.approx(600, rel=0.05)
    low, high = found["ci95"]
    assert low <= found["rate_per_min"] <= high
    assert 0.95 * low <= 600 <= 1.05 * high
    assert found["burst"] == pytest.approx(20, abs=2)


@LONG
def test_hits_of_the_warm_up_are_counted_apart(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    """The limiter knows of no phases: what it refused is either hit or warm-up."""
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, *BUCKET, "--csv", str(path))
    load = {"shape": "poisson", "rate": "25/s", "duration": "4s", "warmup": "2s"}
    summary = measure(cli, served, "openai-chat", load).summary
    limits = summary["endpoints"]["o"]["rate_limits"]
    before = summary["validity"]["warmup"]["outcomes"]
    answered = statuses(served, path)
    assert min(before["rate_limited"], limits["hits"]) > 0
    assert limits["hits"] == summary["endpoints"]["o"]["outcomes"]["rate_limited"]
    assert limits["hits"] + before["rate_limited"] == answered.count(429)
    assert summary["endpoints"]["o"]["outcomes"]["ok"] + before["ok"] == answered.count(200)
    ceiling = limits["ceiling"]["requests"]
    assert (ceiling["accepted"], ceiling["refused"]) == (answered.count(200), answered.count(429)), "it is of both"


# Anthropic's headers ask for whole seconds: two answers of a closed loop would come in step with them, so that a
# window of a second explained them as well as a bucket.
RESPECTED = {
    "openai-chat": {"shape": "closed", "concurrency": 2, "requests": 80, "think": "120ms"},
    "anthropic": {"shape": "closed", "concurrency": 6, "requests": 110, "think": "230ms"},
}


@LONG
@pytest.mark.parametrize("api", APIS)
def test_who_respects_a_limit_is_answered_in_the_end(cli: Cli, start_oracle: Callable[..., Served], api: str) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, *BUCKET, *limits_of(api), "--csv", str(path))
    done = measure(cli, served, api, RESPECTED[api], rate_limits="respect", demand=DEMAND | {"rpm": 900})
    answered = statuses(served, path)
    limits = check_hits(cli, done, answered, "requests")
    planned = int(str(RESPECTED[api]["requests"]))
    outcomes = done.summary["endpoints"]["o"]["outcomes"]
    assert {name: count for name, count in outcomes.items() if count} == {"ok": planned}
    ((samples, attempts),) = cli.rows("SELECT (SELECT count(*) FROM samples), (SELECT count(*) FROM attempts)")
    assert (samples, samples + attempts) == (planned, len(answered)), "an attempt is a row of the oracle's"
    # All were answered: so each refusal was waited for, and the last wait of each request was long enough.
    ((tried,),) = cli.rows("SELECT count(DISTINCT seq) FROM attempts")
    hits = limits["hits"]
    assert limits["audit"] == {"asked": hits, "followed": hits, "long_enough": tried, "too_short": hits - tried}
    ((asked_ns,),) = cli.rows("SELECT sum(wait_ns) FROM attempts")
    assert limits["waited_s"] >= asked_ns / 1e9
    check_ceiling(limits["ceiling"]["requests"])
    assert limits["demand"]["needs"][0]["verdict"] == "falls_short"
    assert limits["demand"]["words"].startswith("your peak of 900 requests/min; measured ceiling ")
    metrics = done.summary["endpoints"]["o"]["metrics"]
    assert metrics["e2e_ms"]["max"] < 1000, "the wait is no latency of an attempt"
