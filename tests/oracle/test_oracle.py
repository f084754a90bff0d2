"""Held against the independent endpoint of ../shared/oracle, which knows what really left it."""

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, Served, closes

LONG = pytest.mark.long

pytestmark = pytest.mark.timeout(119)

TOKENS = 24
LEGAL: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--coalesce", "4"], {}),
    (["--reasoning-tokens", "20"], {}),
    (["--role-early", "0"], {}),
    (["--crlf", "--pings"], {}),
    (["--split-bytes", "7"], {}),
    (["--no-role-chunk"], {}),
    (["--no-usage"], {"token_source": "tokenizer"}),
    ([], {"stream": False}),
]
FAULTS = {
    **{f"--p-{name}": share for name, share in (("500", ".05"), ("529", ".02"), ("reset", ".03"), ("cut", ".03"))},
    **{f"--p-{name}": share for name, share in (("garbage", ".02"), ("error-event", ".02"), ("stall", ".02"))},
}
OUTCOME_OF = {
    "200": "ok",
    "500": "http_error",
    "529": "overloaded",
    "-1": "truncated",
    "-2": "stalled",
    "-3": "truncated",
    "-4": "malformed",
    "-5": "stream_error",
}


def _run(
    cli: Cli, served: Served, requests: int, concurrency: int, tokens: int, *more: str, **keys: Any
) -> dict[str, Any]:
    stream = keys.pop("stream", True)
    endpoint = {"name": "o", "api": "openai-chat", "base_url": served.url, "model": "oracle", "stream": stream}
    load = [{"shape": "closed", "concurrency": concurrency, "requests": requests}]
    cli.scenario(endpoints=[endpoint], load=load, output={"max_tokens": tokens}, **keys)
    done = cli.run("run", "mine.yaml", "--json", *more)
    assert done.code == 0, done.err
    assert closes(done.summary)
    return done.summary


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(o, e, id=" ".join([*o, *map(str, e)]) or "plain", marks=[] if at < 4 else LONG)
        for at, (o, e) in enumerate(LEGAL)
    ],
)
@pytest.mark.long
def test_legal_oddities_of_the_stream(
    cli: Cli, start_oracle: Callable[..., Served], options: list[str], expected: dict[str, Any]
) -> None:
    """Every request, every chunk and every token is counted, whatever the stream looks like."""
    served = start_oracle("--ttft-ms", "20", "--itl-ms", "2", *options)
    streamed = expected.get("stream", True)
    summary = _run(cli, served, 40, 8, TOKENS, stream=streamed)
    truth = served.get("/oracle/stats")
    block = summary["endpoints"]["o"]
    assert block["outcomes"]["ok"] == truth["ok"] == truth["requests"] == 40
    assert block["reported_models"] == {"oracle": 40}
    assert truth["peak_active"] <= 8
    source = expected.get("token_source", "usage")
    assert block["tokens"]["source"] == source
    if source == "usage":
        assert block["tokens"]["output"] == 40 * TOKENS
    if streamed:
        assert cli.rows("SELECT sum(chunks) FROM samples") == [(truth["chunks"],)]
        assert block["metrics"]["ttft_ms"]["n"] == block["metrics"]["tpot_ms"]["n"] == 40
    if "--reasoning-tokens" in options:
        assert block["metrics"]["ttft_ms"]["p50"] < block["metrics"]["time_to_first_text_ms"]["p50"]
    if "--role-early" in options:
        early, first = cli.rows("SELECT avg(first_byte_ns - sent_ns), avg(first_token_ns - sent_ns) FROM samples")[0]
        assert early < first, "a role chunk is no output"
        assert first / 1e6 >= 20


@LONG
@pytest.mark.parametrize("workers", ["1", "2"])
def test_faults(cli: Cli, start_oracle: Callable[..., Served], tmp_path: Path, workers: str) -> None:
    """Each fault that the oracle wrote down has become its outcome, and nothing else has."""
    truth = tmp_path / "truth.csv"
    options = [word for pair in FAULTS.items() for word in pair]
    served = start_oracle("--ttft-ms", "10", "--itl-ms", "2", "--seed", "4", "--csv", str(truth), *options)
    flags = ("--no-abort", "--workers", workers)
    summary = _run(cli, served, 400, 20, 12, *flags, timeouts={"idle": "1s"})
    assert served.get("/oracle/stats")["requests"] == 400
    rows = list(csv.DictReader(io.StringIO(truth.read_text())))
    expected = Counter(OUTCOME_OF[row["status"]] for row in rows if row["status"] != "-12")
    assert set(expected) == set(OUTCOME_OF.values()), "the seed is meant to show every fault"
    outcomes = summary["endpoints"]["o"]["outcomes"]
    assert {name: count for name, count in outcomes.items() if count} == expected
    assert summary["endpoints"]["o"]["metrics"]["e2e_ms"]["n"] == expected["ok"]


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_medians(cli: Cli, start_oracle: Callable[..., Served], workers: str) -> None:
    """A loose look at the figures; accuracy proper is `make bench`."""
    served = start_oracle("--ttft-ms", "120", "--ttft-sigma", ".3", "--itl-ms", "15", "--itl-sigma", ".2")
    summary = _run(cli, served, 300, 20, 40, "--workers", workers)
    truth = served.get("/oracle/stats")
    block = summary["endpoints"]["o"]
    assert block["outcomes"]["ok"] == truth["ok"] == 300
    assert block["tokens"]["output"] == 300 * 40
    assert cli.rows("SELECT sum(chunks) FROM samples") == [(truth["chunks"],)]
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        assert block["metrics"][name]["raw"]["p50"] == pytest.approx(truth[name]["p50"], rel=0.05), name


def _ordered(rows: list[dict[str, str]], figure: Callable[[dict[str, int]], float]) -> list[float]:
    """A figure of each answer by the oracle's own stamps, ascending."""
    numbers = [{name: int(value) for name, value in row.items()} for row in rows if row["status"] == "200"]
    return sorted(figure(row) for row in numbers)


def _truth(cli: Cli, served: Served, path: Path, tokens: int) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The metrics of a run of 300 requests, and what the oracle wrote down of each."""
    summary = _run(cli, served, 300, 30, tokens)
    served.get("/oracle/stats")  # it writes its rows out
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(rows) == 300
    return summary["endpoints"]["o"]["metrics"], rows


def _same(table: dict[str, Any], truth: list[float]) -> None:
    """Every third of the distribution: a median alone may be right by luck. Our own error is a few ms under load."""
    for name, per_mille in (("p5", 50), ("p50", 500), ("p95", 950)):
        found, wanted = (
            table["raw"][name] if name in table["raw"] else table[name],
            truth[-(-300 * per_mille // 1000) - 1],
        )
        assert found == pytest.approx(wanted, rel=0.05), name


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("generation_tokens_per_s", lambda row: (row["tokens"] - 1) * 1e9 / (row["t_last_ns"] - row["t_first_ns"])),
        ("e2e_tokens_per_s", lambda row: row["tokens"] * 1e9 / (row["t_last_ns"] - row["t_request_ns"])),
    ],
)
def test_speed_is_that_of_what_left_the_oracle(
    cli: Cli, start_oracle: Callable[..., Served], tmp_path: Path, name: str, figure: Callable[[dict[str, int]], float]
) -> None:
    """Generation speed by the gaps between tokens alone, end-to-end speed by the whole request."""
    path = tmp_path / "truth.csv"
    options = ("--ttft-ms", "150", "--ttft-sigma", ".5", "--itl-ms", "12", "--itl-sigma", ".5", "--csv", str(path))
    metrics, rows = _truth(cli, start_oracle(*options), path, 60)
    assert metrics[name]["n"] == 300
    _same(metrics[name], _ordered(rows, figure))


@pytest.mark.long
def test_ttft_with_reasoning_is_its_first_sign_and_text_comes_later(
    cli: Cli, start_oracle: Callable[..., Served], tmp_path: Path
) -> None:
    path = tmp_path / "truth.csv"
    options = ("--ttft-ms", "120", "--ttft-sigma", ".4", "--itl-ms", "10", "--itl-sigma", ".3")
    served = start_oracle(*options, "--reasoning-tokens", "20", "--csv", str(path))
    metrics, rows = _truth(cli, served, path, 40)
    _same(metrics["ttft_ms"], _ordered(rows, lambda row: (row["t_first_ns"] - row["t_request_ns"]) / 1e6))
    _same(
        metrics["time_to_first_text_ms"], _ordered(rows, lambda row: (row["t_answer_ns"] - row["t_request_ns"]) / 1e6)
    )
    assert metrics["time_to_first_text_ms"]["p50"] > metrics["ttft_ms"]["p50"] + 100
    assert metrics["tpot_ms"]["n"] == 300, "reasoning was streamed: its tokens took the time that was seen"
