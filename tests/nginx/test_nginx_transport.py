"""What a real proxy does to connections and to the pace of a stream, and what is counted of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from harness import FAST, Cli, Served, closes, free_port, one_off
from nginx_kit import Nginx, passing

pytestmark = pytest.mark.long


def test_connections_that_the_server_ends_are_opened_again(
    cli: Cli, start_sim: Callable[..., Served], start_nginx: Callable[..., Nginx]
) -> None:
    """nginx says `connection: close` with every fifth answer, and numbers its connections."""
    front = start_nginx(start_sim(FAST).port, "        keepalive_requests 5;\n" + passing("/v1/", ""))
    cli.prompts()
    done = cli.run(*one_off(f"{front.url}/v1", 60, 4))
    assert done.code == 0, done.err
    assert closes(done.summary)
    lines = front.answered(60)
    assert {line[0] for line in lines} == {"200"}
    used = {line[3] for line in lines}
    assert 60 / 5 <= len(used) <= 60 / 5 + 4
    assert done.summary["validity"]["reconnects"] == 0, "it was told in time"
    opened = cli.rows("SELECT sum(new_connection) FROM samples")[0][0]
    assert len(used) - 4 <= opened <= len(used), "those of the slots are open before the start"


@pytest.mark.long
def test_coalesced_events_are_counted_one_by_one(
    cli: Cli, start_sim: Callable[..., Served], start_nginx: Callable[..., Nginx]
) -> None:
    """With a buffer and a limited rate nginx hands out what gathered, many events in one read."""
    sim = start_sim(replace(FAST, itl_ns=50_000))
    both = passing("/plain/", "/v1/") + "\n" + passing("/held/", "/v1/", "limit_rate 8k;", "on")
    front = start_nginx(sim.port, both)
    endpoints = [
        {"name": name, "api": "openai-chat", "base_url": f"{front.url}/{name}", "model": "m"}
        for name in ("plain", "held")
    ]
    load = [{"shape": "closed", "concurrency": 2, "requests": 6}]
    done = cli.run("run", cli.scenario(endpoints=endpoints, load=load, output={"max_tokens": 100}), "--json")
    assert done.code == 0, done.err
    rows = cli.rows("SELECT endpoint, count(*), min(chunks), max(chunks), sum(output_tokens) FROM samples GROUP BY 1")
    assert rows == [("held", 6, 100, 100, 600), ("plain", 6, 100, 100, 600)]
    blocks = done.summary["endpoints"]
    assert {name: block["metrics"]["ttft_ms"]["n"] for name, block in blocks.items()} == {"plain": 6, "held": 6}
    held, plain = (blocks[name]["metrics"] for name in ("held", "plain"))
    assert held["inter_chunk_ms"]["n"] == plain["inter_chunk_ms"]["n"] == 6 * 99
    assert held["inter_chunk_ms"]["p50"] == 0, "what came in one read has one stamp"
    assert held["e2e_ms"]["min"] > 500, "and the time is in the gaps between reads"


def test_a_gateway_whose_endpoint_is_gone(cli: Cli, start_nginx: Callable[..., Nginx]) -> None:
    """502 with a page of HTML: an HTTP error, and no silent success."""
    front = start_nginx(free_port(), passing("/v1/", ""))
    cli.prompts()
    done = cli.run(*one_off(f"{front.url}/v1", 8, 2, "--no-abort"))
    assert done.code == 97, done.err
    assert done.summary["endpoints"]["m"]["outcomes"]["http_error"] == 8
    assert front.statuses(8) == {502: 8}
    ((status, message),) = cli.rows("SELECT DISTINCT status, error_message FROM samples")
    assert status == 502
    assert "502 Bad Gateway" in message
