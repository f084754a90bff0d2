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


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=LONG)])
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
