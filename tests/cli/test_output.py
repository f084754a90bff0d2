"""What comes out: one JSON document, the report again, the store's list, help, and nothing where it does not belong."""

import csv
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from harness import LATBENCH, PROMPTS, Cli, Scripted, Served, closes, one_off

pytestmark = pytest.mark.timeout(110)

# The document of design.md section 7. A mapping is a set of keys that must be there; None is any value.
PERCENTILES = ("p1", "p5", "p10", "p50", "p90", "p95", "p99", "p999")
METRIC = dict.fromkeys(["n", "mean", "min", *PERCENTILES, "max", "ci95", "need"]) | {
    "raw": {"p50": None, "p95": None, "p99": None}
}
METRICS = dict.fromkeys(
    (
        *("ttft_ms", "ttft_response_ms", "time_to_first_text_ms", "tpot_ms", "inter_chunk_ms"),
        *("e2e_ms", "e2e_response_ms", "generation_tokens_per_s", "e2e_tokens_per_s"),
    ),
    METRIC,
)
RATE_LIMITS = {"hits": None, "by_kind": None, "retry_after_s": {"p50": None, "max": None}, "waited_s": None}
OUTCOMES = dict.fromkeys(
    (
        *("ok", "rate_limited", "quota_exhausted", "overloaded", "auth_error", "invalid_request", "http_error"),
        *("stream_error", "truncated", "malformed", "timeout", "stalled", "connect_error", "cancelled", "dropped"),
        "lost",
    )
)
BLOCK: dict[str, Any] = {
    **dict.fromkeys(("provider", "api", "model", "reported_models", "empty")),
    "outcomes": OUTCOMES,
    "rate_limits": RATE_LIMITS,
    "tokens": dict.fromkeys(("input", "output", "reasoning", "cached", "source")),
    "metrics": METRICS,
    "throughput": dict.fromkeys(("requests_per_s", "output_tokens_per_s", "goodput_per_s")),
    "cost": {"usd": None, "usd_per_ok_request": None},
}
SLICED = BLOCK | {
    "by_task": {"review": BLOCK, "search": BLOCK},
    "by_language": {"python": BLOCK, "go": BLOCK},
    "by_tag": {"x": BLOCK},
    "by_input_length": {"0-500": BLOCK},
}
TWO = {"p50": None, "p99": None}
DOCUMENT: dict[str, Any] = {
    "schema_version": None,
    "run": dict.fromkeys(
        (
            *("id", "name", "scenario", "scenario_sha256", "started_at", "duration_s"),
            *("workers", "state", "window", "labels", "exit_code"),
        )
    ),
    "validity": {
        **dict.fromkeys(("verdict", "reasons", "planned", "sent", "ok", "dropped", "lost", "reconnects", "engine_cpu")),
        "warmup": {"outcomes": None, "errors": None},
        "send_lateness_ms": TWO,
        "client_lag_ms": TWO,
        "probe_lag_ms": TWO,
        "chunk_lag_ms": TWO,
        "null_test": {"ttft_error_ms": None, "lag_ms": None},
    },
    "endpoints": {"m": SLICED},
    "providers": {"m": {"rate_limits": RATE_LIMITS}},
    "steps": [{**dict.fromkeys(("shape", "concurrency", "rate", "phase_s")), "endpoints": {"m": SLICED}}],
    "thresholds": [],
}


def _missing(wanted: Any, found: Any, path: str = "") -> list[str]:
    """The keys that are not there. Null stands for what is not built yet."""
    if wanted is None or found is None:
        return []
    if isinstance(wanted, dict):
        gone = [f"{path}.{key}" for key in wanted if key not in found]
        below = [_missing(wanted[key], found[key], f"{path}.{key}") for key in wanted if key in found]
        return gone + [key for keys in below for key in keys]
    assert len(found) >= len(wanted), path
    return [key for index, part in enumerate(wanted) for key in _missing(part, found[index], f"{path}[{index}]")]


@pytest.mark.long
def test_the_document_its_report_again_and_the_list(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    labels = ["--label", "region=eu", "--label", "team=a=b", "--window", "peak"]
    done = cli.run(*one_off(endpoint.url, 64, 4, *labels, "--seed", "3"))
    assert (done.code, done.said) == (0, "")
    assert done.err.startswith("latbench: at most 64 requests, "), "a price is shown before the start"
    summary = done.summary
    assert _missing(DOCUMENT, summary) == []
    run, block = summary["run"], summary["endpoints"]["m"]
    assert (summary["schema_version"], run["state"], run["exit_code"], run["workers"]) == (1, "complete", 0, 1)
    assert (run["labels"], run["window"]) == ({"region": "eu", "team": "a=b"}, "peak")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", run["started_at"])
    ttft = block["metrics"]["ttft_ms"]
    assert ttft["ci95"]["p50"][0] <= ttft["p50"] <= ttft["ci95"]["p50"][1]
    assert (ttft["ci95"]["p99"], ttft["p99"]) == (None, None)
    assert ttft["need"]["p99"] == [368, int(ttft["n_eff"]["p99"])]
    assert block["metrics"]["ttft_ms"]["raw"]["p99"] > 0
    assert block["tokens"]["output"] == 64 * 8 == endpoint.stats()["tokens_out"]
    assert block["tokens"]["source"] == "usage"
    assert sum(part["outcomes"]["ok"] for part in block["by_task"].values()) == 64
    assert closes(summary)
    (directory,) = (cli.cwd / "runs").iterdir()
    assert directory.name.endswith(f"-quickstart-{run['id']}")
    assert sorted(file.name for file in directory.iterdir()) == ["report.md", "scenario.yaml", "summary.json"]
    assert json.loads((directory / "summary.json").read_text()) == summary

    assert cli.run("report", run["id"], "--format", "json").summary == summary
    assert cli.run("report", run["id"][:6], "--json").summary == summary
    assert cli.run("report", "latest", "--format", "json").summary == summary
    assert cli.run("report", "--format", "json", "--store", str(cli.cwd / "latbench.db")).summary == summary
    text = cli.run("report", run["id"])
    assert (text.code, text.err) == (0, "")
    assert text.trusted
    assert "\x1b" not in text.out
    rows = list(csv.DictReader(cli.run("report", "--format", "csv").out.splitlines()))
    assert len(rows) == 64
    assert {row["prompt_id"] for row in rows} <= {prompt["id"] for prompt in PROMPTS}

    shown = cli.run("runs", "show", run["id"][:4])
    assert shown.summary["id"] == cli.run("runs", "show", "latest").summary["id"] == run["id"]
    assert shown.summary["scenario"]["seed"] == 3
    listed = cli.run("runs", "list", "--json").summary["runs"]
    assert [(entry["id"], entry["state"]) for entry in listed] == [(run["id"], "complete")]
    table = cli.run("runs", "list")
    assert run["id"] in table.out
    assert (table.err, "\x1b" in table.out) == ("", False)


@pytest.mark.long
def test_text_is_the_default_and_the_latest_run_is_the_newest(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    flags = ["--url", endpoint.url, "--model", "m", "--requests", "6", "--prompts", "own.jsonl", "--max-tokens", "4"]
    first = cli.run("run", *flags)
    second = cli.run("run", *flags, "--store", "other.db", "--out", "here")
    assert (first.code, first.said, second.code) == (0, "", 0)
    assert first.out.startswith("verdict: ")
    assert first.trusted
    assert second.out.splitlines()[-2:] == ["store other.db", "run directory here"]
    assert (cli.cwd / "here/summary.json").is_file()
    third = cli.run("run", *flags, "--store", "other.db", "--json", env={"NO_COLOR": "1"})
    listed = cli.run("runs", "list", "--json", "--store", "other.db").summary["runs"]
    assert listed[0]["id"] == third.summary["run"]["id"]
    assert cli.run("report", "--store", "other.db", "--json").summary["run"]["id"] == third.summary["run"]["id"]
    unknown = cli.run("report", "zzzz")
    assert (unknown.code, unknown.out) == (2, "")
    assert "'zzzz'" in unknown.err
    ambiguous = cli.run("report", "", "--store", "other.db")
    assert (ambiguous.code, ambiguous.out) == (2, "")


@pytest.mark.parametrize(
    "verb", [[], ["run"], ["report"], ["runs"], ["runs", "list"], ["runs", "show"], ["sim"], ["worker"]]
)
def test_help(cli: Cli, verb: list[str]) -> None:
    done = cli.run(*verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: {' '.join(['latbench', *verb])} ")
    assert done.out == cli.run(*verb, "-h").out


def test_version(cli: Cli) -> None:
    done = cli.run("--version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"latbench, version \d+\.\d+\.\d+\S*\n", done.out)


def test_the_module_is_the_command(cli: Cli) -> None:
    assert cli.run("--help", program=(sys.executable, "-m", "latbench")).out == cli.run("--help").out


@pytest.mark.long
def test_flag_over_environment_over_file(cli: Cli, endpoint: Served) -> None:
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    cli.scenario(
        "scenarios/team.yaml", endpoints=endpoints, load=[{"shape": "closed", "concurrency": 2, "requests": 9}]
    )
    env = {"LATBENCH_RUN_REQUESTS": "7", "LATBENCH_RUN_JSON": "1", "LATBENCH_RUN_STORE": "named.db"}
    assert cli.run("run", "team", "--json").summary["validity"]["planned"] == 9
    env["LATBENCH_RUN_LABEL"] = "region=eu team=x"
    from_environment = cli.run("run", "team", env=env).summary
    assert from_environment["validity"]["planned"] == 7
    assert from_environment["run"]["labels"] == {"region": "eu", "team": "x"}
    assert cli.run("run", "team", "--requests", "5", env=env).summary["validity"]["planned"] == 5
    assert [len(cli.rows("SELECT 1 FROM runs", store=store)) for store in ("latbench.db", "named.db")] == [1, 2]
    bad = cli.run("run", "team", env={"LATBENCH_RUN_REQUESTS": "many"})
    assert (bad.code, bad.out) == (2, "")
    assert "many" in bad.err


@pytest.mark.long
def test_a_scenario_here_comes_before_the_shipped_one(cli: Cli, endpoint: Served) -> None:
    endpoints = [{"name": "mine", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 2, "requests": 4}]
    cli.scenario("scenarios/quickstart.yaml", endpoints=endpoints, load=load)
    assert list(cli.run("run", "--json").summary["endpoints"]) == ["mine"]


@pytest.mark.long
def test_the_shipped_scenario_by_name(cli: Cli, endpoint: Served) -> None:
    """Its pack, its seed, and a model of one's own."""
    done = cli.run(*("run", "code-assistant", "--url", endpoint.url, "--model", "m"), *("--requests", "12", "--json"))
    assert done.code == 0, done.err
    summary = done.summary
    assert (summary["run"]["scenario"], summary["validity"]["ok"]) == ("code-assistant", 12)
    assert set(summary["endpoints"]["m"]["by_task"]) <= {"generation", "completion", "review", "search"}


@pytest.mark.long
def test_the_simulated_endpoint_is_started_and_ended(cli: Cli) -> None:
    cli.prompts()
    flags = ["--requests", "20", "--prompts", "own.jsonl", "--max-tokens", "4", "--json"]
    done = cli.run("run", *flags)
    assert done.code == 0, done.err
    assert done.summary["validity"]["ok"] == 20
    assert cli.family() == []


@pytest.mark.long
def test_prompts_of_ones_own_from_a_folder(cli: Cli, start_scripted: Callable[..., Scripted]) -> None:
    """Test cases in people's shapes, one with a file beside it; what arrives is what stands in them."""
    server = start_scripted(200, "data: {}\n\n", "text/event-stream")
    cli.write("cases/first.json", json.dumps({"id": "one", "category": "review", "prompt": "Review MARKER-ONE."}))
    second = {"id": "two", "task_type": "generate", "prompt": "MARKER-TWO", "context_files": ["ctx/util.py"]}
    cli.write("cases/second.yaml", json.dumps(second | {"criteria": ["short"]}))
    cli.write("cases/ctx/util.py", "MARKER_FILE = 1\n")
    flags = ["--model", "m", "--requests", "12", "--prompts", "cases", "--json", "--no-abort"]
    done = cli.run("run", "--url", server.url, *flags)
    assert done.code == 97, done.err
    sent = [body.decode() for _, body in server.requests]
    assert len(sent) == 12
    assert any("MARKER-ONE" in body for body in sent)
    assert all("MARKER_FILE" in body for body in sent if "MARKER-TWO" in body)
    assert any("MARKER-TWO" in body for body in sent)
    assert all(("MARKER-ONE" in body) != ("MARKER-TWO" in body) for body in sent)
    assert set(cli.rows("SELECT DISTINCT prompt_id FROM samples")) == {("one",), ("two",)}


@pytest.mark.long
def test_a_report_to_a_closed_pipe_is_no_traceback(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    assert cli.run(*one_off(endpoint.url, 30, 4)).code == 0
    done = cli.run("-c", f"{LATBENCH} report --format csv | head -n 1; exit ${{PIPESTATUS[0]}}", program=("bash",))
    assert done.out.startswith("endpoint,step,seq")
    assert "Traceback" not in done.err
