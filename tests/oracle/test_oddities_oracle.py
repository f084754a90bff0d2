"""Legal oddities of a stream change no figure: those of latbench equal the oracle's own, whatever the bytes look like.

Medians are held to 5 %, as in `test_oracle.py`: this is a look at what is counted, accuracy proper is `make bench`.
"""

from collections.abc import Callable
from typing import Any

import pytest
from harness import Cli, Served, closes

pytestmark = [pytest.mark.timeout(119), pytest.mark.long]

REQUESTS, CONCURRENCY, TOKENS, REASONING = 120, 20, 32, 20
SHAPE = ("--ttft-ms", "120", "--ttft-sigma", ".3", "--itl-ms", "15", "--itl-sigma", ".2")
ODD = {
    "coalesce": ("--coalesce", "4"),
    "reasoning": ("--reasoning-tokens", str(REASONING)),
    "early": ("--role-early", "0"),
    "lines": ("--crlf", "--pings"),
    "split": ("--split-bytes", "7"),
}
APIS = ("openai-chat", "anthropic", "openai-completions")
# Only in Chat Completions does the oracle stream reasoning.
CASES = [
    pytest.param(api, (name,), id=f"{api}-{name}")
    for api in APIS
    for name in ODD
    if api == "openai-chat" or name != "reasoning"
] + [
    pytest.param(api, tuple(name for name in ODD if api == "openai-chat" or name != "reasoning"), id=f"{api}-together")
    for api in APIS
]


@pytest.mark.parametrize(("api", "names"), CASES)
def test_figures_equal_the_oracles(
    cli: Cli, start_oracle: Callable[..., Served], api: str, names: tuple[str, ...]
) -> None:
    served = start_oracle(*SHAPE, *[word for name in names for word in ODD[name]])
    endpoint: dict[str, Any] = {"name": "o", "api": api, "base_url": served.url, "model": "oracle"}
    load = {"shape": "closed", "concurrency": CONCURRENCY, "requests": REQUESTS}
    cli.scenario(endpoints=[endpoint], load=[load], output={"max_tokens": TOKENS})
    done = cli.run("run", "mine.yaml", "--json")
    assert done.code == 0, done.err
    assert closes(done.summary)
    truth = served.get("/oracle/stats")
    block = done.summary["endpoints"]["o"]
    assert block["outcomes"]["ok"] == truth["ok"] == truth["requests"] == REQUESTS

    thought = "reasoning" in names
    tokens = block["tokens"]
    assert (tokens["source"], tokens["output"]) == ("usage", REQUESTS * TOKENS)
    assert tokens["reasoning"] == (None if api == "anthropic" else REQUESTS * REASONING if thought else 0)
    ((chunks, streamed),) = cli.rows("SELECT sum(chunks), sum(reasoning_streamed) FROM samples")
    assert (chunks, streamed) == (truth["chunks"], REQUESTS if thought else 0)
    if "coalesce" in names:
        assert chunks == REQUESTS * TOKENS / 4, "a chunk is not a token"

    metrics = block["metrics"]
    pairs = {
        "ttft_ms": "ttft_ms",
        "time_to_first_text_ms": "first_answer_ms",
        "tpot_ms": "tpot_ms",
        "e2e_ms": "e2e_ms",
        "inter_chunk_ms": "inter_chunk_ms",
    }
    for ours, theirs in pairs.items():
        assert metrics[ours]["n"] == truth[theirs]["n"], ours
        assert metrics[ours]["raw"]["p50"] == pytest.approx(truth[theirs]["p50"], rel=0.05), ours
    if thought:
        assert metrics["time_to_first_text_ms"]["raw"]["p50"] > metrics["ttft_ms"]["raw"]["p50"] + 100
    if "early" in names:
        ((early, first),) = cli.rows("SELECT max(headers_ns - sent_ns), min(first_token_ns - sent_ns) FROM samples")
        assert early < first, "the role chunk came at once, and was no output"
