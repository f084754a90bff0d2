"""Two runs, watched by a real Prometheus: everything that the boards, rules and variables ask for has an answer."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from export_kit import (
    BOARDS,
    RULES,
    Prometheus,
    expressions,
    filled,
    inventive,
    needs_prometheus,
    prometheus,
    server_metrics,
)
from harness import Cli, free_port, simulated, wait_until

from latbench.metrics.series import TTFT
from latbench.sim.options import Options

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), needs_prometheus]

QUICK = {"ttft_ns": 20_000_000, "itl_ns": 2_000_000, "prefill_rate": 1e9, "slots": 64, "slowdown": 0.0}
STUCK = Options(ttft_ns=60_000_000_000, slots=64, slowdown=0.0)
PRICE = {"input": 3.0, "output": 15.0}
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())


@dataclass
class Watched:
    """A Prometheus that has watched two runs, and what those came to."""

    prometheus: Prometheus
    since_s: float
    until_s: float
    summaries: list[dict[str, Any]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "work").mkdir()
    (folder / "said").mkdir()
    cli, port = Cli(folder / "work", folder / "said"), free_port()
    since_s = time.time()
    with (
        simulated(Options(**QUICK, rpm=600, burst=20)) as by_requests,
        simulated(Options(**QUICK, tpm=3_000)) as by_tokens,
        inventive() as changing,
        inventive(failing=5) as failing,
        simulated(STUCK) as stuck,
        server_metrics() as server,
        prometheus(folder / "prometheus", [port, server], rules=_at_once(RULES.read_text())) as found,
    ):
        wait_until(lambda: "LatbenchNoData" in found.alerts())
        scenario = cli.scenario(
            endpoints=[
                _endpoint("requests", by_requests.url, limits={"rpm": 500}),
                _endpoint("tokens", by_tokens.url, limits={"tpm": 4_000}),
                _endpoint("changing", changing.url),
                _endpoint("failing", failing.url),
            ],
            load=[
                {"shape": "poisson", "rate": "12/s", "duration": "7s", "warmup": "2s"},
                {"shape": "closed", "concurrency": 2, "duration": "5s", "warmup": "1s"},
            ],
            slo={"ttft": "10ms", "tpot": "40ms"},
            rate_limits="respect",
            drain="5s",
        )
        summaries = []
        for window in ("peak", "offpeak"):
            flags = ["--window", window, "--metrics-addr", port, "--metrics-keep", "4s", "--json"]
            done = cli.run("run", scenario, *map(str, flags), env={"LATBENCH_RUN_NO_NULL_TEST": "0"})
            assert done.code in (0, 97), done.err
            summaries.append(json.loads(done.out))
        _needles(cli, port)
        _nothing_ends(cli, port, stuck.url)
        yield Watched(found, since_s, time.time(), summaries)
    cli.end()


def _needles(cli: Cli, port: int) -> None:
    """A few needle trials, with a base of its own for each kind and half of them wrong."""
    headers = {"x-sim-needle-accuracy": "0.5", "x-sim-ttft": "5ms", "x-sim-itl": "0ms"}
    endpoint = _endpoint("needles", "sim", headers=headers)
    needle = {"kinds": ["description"], "lengths": ["2k"], "blocks": 3, "base": 3}
    scenario = cli.write(  # by itself: the harness's scenarios have prompts
        "needles.yaml",
        json.dumps({"name": "needles", "version": "1", "endpoints": [endpoint], "needle": needle}),
    )
    flags = ["--metrics-addr", str(port), "--metrics-keep", "4s", "--json"]
    done = cli.run("needle", scenario, *flags)
    assert done.code == 0, done.err


def _nothing_ends(cli: Cli, port: int, url: str) -> None:
    """A run in which no request ends for some seconds, and then all of them in vain."""
    load = [{"shape": "closed", "concurrency": 24, "duration": "20s", "warmup": "1s"}]
    scenario = cli.scenario(
        "stuck.yaml", endpoints=[_endpoint("stuck", url)], load=load, timeouts={"first_output": "6s"}
    )
    done = cli.run("run", scenario, "--metrics-addr", str(port), "--metrics-keep", "4s", "--json")
    assert done.code in (96, 97), done.err


def _endpoint(name: str, url: str, **more: object) -> dict[str, object]:
    about = {"name": name, "provider": f"p-{name}", "base_url": url, "api": "openai-chat", "model": f"m-{name}"}
    return {**about, "price": PRICE, **more}


def _at_once(rules: str) -> str:
    """The rules over seconds instead of minutes and hours, and alerts that fire as soon as they are true."""
    for long, short in (("for: 1m", "for: 0s"), ("[5m]", "[10s]"), ("[1h]", "[10s]"), ("[26h]", "[3s]")):
        assert long in rules
        rules = rules.replace(long, short)
    return rules


def _finite(series: list[dict[str, Any]]) -> bool:
    return any(value not in ("NaN", "+Inf", "-Inf") for one in series for _, value in one["values"])


def test_every_expression_of_every_board_has_data(watched: Watched) -> None:
    asked = list(expressions())
    assert len(asked) > 100
    silent = [
        place
        for place, expr in asked
        if not _finite(watched.prometheus.series(filled(expr), watched.since_s, watched.until_s))
    ]
    assert not silent


def test_every_variable_has_values(watched: Watched) -> None:
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] != "query":
                continue
            metric, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").split(", ")
            assert watched.prometheus.api(f"label/{label}/values", **{"match[]": metric}), variable["name"]


def test_every_recording_rule_has_data(watched: Watched) -> None:
    groups = watched.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert all(rule["health"] == "ok" for rule in rules), rules
    for rule in rules:
        if rule["type"] == "recording":
            assert _finite(watched.prometheus.series(rule["name"], watched.since_s, watched.until_s)), rule["name"]


@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_fire_in_a_run_that_is_made_to_fire_them(watched: Watched, alert: str) -> None:
    expr = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    assert watched.prometheus.series(expr, watched.since_s, watched.until_s)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_quantiles_agree_with_the_summary_within_a_bucket(watched: Watched, q: float) -> None:
    assert TTFT.bounds is not None
    bounds = (0.0, *TTFT.bounds.upper)
    for window, summary in zip(("peak", "offpeak"), watched.summaries, strict=True):
        for endpoint in ("requests", "tokens"):
            blocks = [step["endpoints"][endpoint]["metrics"]["ttft_ms"] for step in summary["steps"]]
            own = [block["raw"][f"p{q * 100:g}"] / 1000 for block in blocks if block["n"]]
            selector = f'endpoint="{endpoint}", window="{window}"'
            expr = f"sum by (le) (max_over_time(latbench_ttft_seconds_bucket{{{selector}}}[10m]))"
            told = watched.prometheus.value(f"histogram_quantile({q}, {expr})", watched.until_s)
            assert told is not None
            low = max(bound for bound in bounds if bound < min(own))
            high = min(bound for bound in bounds if bound >= max(own))
            assert low <= told <= high


def test_counters_agree_with_the_summary(watched: Watched) -> None:
    for window, summary in zip(("peak", "offpeak"), watched.summaries, strict=True):
        for name, block in summary["endpoints"].items():
            selector = f'endpoint="{name}", window="{window}"'

            def last(metric: str, more: str = "", selector: str = selector) -> float | None:
                return watched.prometheus.value(
                    f"sum(max_over_time({metric}{{{selector}{more}}}[10m]))", watched.until_s
                )

            for outcome, count in block["outcomes"].items():
                assert (last("latbench_requests_total", f', outcome="{outcome}"') or 0) == count
            assert last("latbench_good_requests_total") == block["good"]
            assert last("latbench_tokens_total", ', type="output"') == block["tokens"]["output"]
            assert last("latbench_cost_usd_total") == pytest.approx(block["cost"]["usd"])
            assert last("latbench_rate_limit_hits_total") == block["rate_limits"]["hits"]
            assert last("latbench_planned_requests_total") == sum(block["outcomes"].values())


def test_ten_thousand_names_of_a_server_make_no_series(watched: Watched) -> None:
    """`changing` named a model, a fingerprint and headers anew in each answer."""
    found = watched.prometheus.api("series", **{"match[]": '{endpoint="changing"}'})
    quiet = watched.prometheus.api("series", **{"match[]": '{endpoint="tokens"}'})
    assert len(found) <= len(quiet)
    for label in ("model", "kind", "outcome", "type", "task"):
        known = watched.prometheus.api(f"label/{label}/values", **{"match[]": '{endpoint="changing"}'})
        assert not [value for value in known if value.startswith(("model-", "thing", "kind_", "stop"))]


def test_the_end_stays_scrapeable(watched: Watched) -> None:
    for summary in watched.summaries:
        window = summary["run"]["window"]
        ended = watched.prometheus.value(
            f'max(max_over_time(latbench_run_ended_timestamp_seconds{{window="{window}"}}[10m]))', watched.until_s
        )
        assert ended is not None
        verdict = watched.prometheus.value(
            f'max(last_over_time(latbench_validity_verdict{{window="{window}"}}[10m]))', watched.until_s
        )
        assert verdict == ["valid", "suspect", "invalid"].index(summary["validity"]["verdict"])
