"""The limits of a real nginx: refusals that nobody here wrote. Their body is HTML and names neither kind nor wait."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from harness import FAST, Cli, Done, Served, closes
from nginx_kit import Nginx, passing

from latbench.sim.options import Options

pytestmark = pytest.mark.long

BY_RATE = "    limit_req_zone $server_port zone=all:1m rate={rate};"
BY_CONNECTIONS = "    limit_conn_zone $server_port zone=all:1m;"
LONGER = replace(FAST, ttft_ns=200_000_000)


def limited(cli: Cli, url: str, requests: int, concurrency: int, mode: str) -> Done:
    """A run of so many requests in closed loops against `url`, however many of them are refused."""
    endpoint = {"name": "e", "provider": "acme", "api": "openai-chat", "base_url": f"{url}/v1", "model": "m"}
    load = [{"shape": "closed", "concurrency": concurrency, "requests": requests}]
    path = cli.scenario(endpoints=[endpoint], load=load, rate_limits=mode)
    return cli.run("run", path, "--json", "--no-abort")


@pytest.mark.parametrize(("status", "outcome"), [(429, "rate_limited"), (503, "overloaded")])
@pytest.mark.parametrize(
    ("zone", "limit", "options"),
    [
        (BY_RATE.format(rate="2r/s"), "limit_req zone=all burst=10 nodelay; limit_req_status {};", FAST),
        (BY_CONNECTIONS, "limit_conn all 2; limit_conn_status {};", LONGER),
    ],
    ids=["limit_req", "limit_conn"],
)
def test_each_refusal_is_counted_and_none_is_in_the_latencies(
    cli: Cli,
    start_sim: Callable[..., Served],
    start_nginx: Callable[..., Nginx],
    zone: str,
    limit: str,
    options: Options,
    status: int,
    outcome: str,
) -> None:
    sim = start_sim(options)
    front = start_nginx(sim.port, passing("/v1/", "", limit.format(status)), zone)
    done = limited(cli, front.url, 60, 6, "observe")
    assert done.code == 0, done.err
    answered = front.statuses(60)
    assert set(answered) == {200, status}, front.errors
    assert answered.total() == 60, "nothing is tried again"

    block = done.summary["endpoints"]["e"]
    assert closes(done.summary)
    assert {name: n for name, n in block["outcomes"].items() if n} == {"ok": answered[200], outcome: answered[status]}
    assert dict(cli.rows("SELECT status, count(*) FROM samples GROUP BY status")) == dict(answered)
    metrics = block["metrics"]
    assert metrics["e2e_ms"]["n"] == metrics["ttft_ms"]["n"] == answered[200] == sim.stats()["ok"]
    assert metrics["ttft_ms"]["min"] >= options.ttft_ns / 2e6, "a refusal is quicker than any answer"

    refused = cli.rows("SELECT kind, wait_ns, output_tokens, first_token_ns FROM samples WHERE status != 200")
    if status == 429:
        assert set(refused) == {("unknown", None, None, None)}, "the page says nothing, and so do we"
        assert block["rate_limits"]["by_kind"] == {"unknown": answered[429]}
    else:
        assert set(refused) == {(None, None, None, None)}
        assert block["rate_limits"]["by_kind"] == {}
    assert block["rate_limits"]["hits"] == answered[429]
    assert done.summary["providers"]["acme"]["rate_limits"]["hits"] == answered[429]


@pytest.mark.long
@pytest.mark.parametrize(
    ("zone", "limit", "options"),
    [
        (BY_RATE.format(rate="3r/s"), "limit_req zone=all burst=2 nodelay; limit_req_status 429;", FAST),
        (BY_CONNECTIONS, "limit_conn all 2; limit_conn_status 429;", LONGER),
    ],
    ids=["limit_req", "limit_conn"],
)
def test_with_respect_every_request_is_answered_in_the_end(
    cli: Cli,
    start_sim: Callable[..., Served],
    start_nginx: Callable[..., Nginx],
    zone: str,
    limit: str,
    options: Options,
) -> None:
    sim = start_sim(options)
    front = start_nginx(sim.port, passing("/v1/", "", limit), zone)
    done = limited(cli, front.url, 16, 5, "respect")
    assert done.code == 0, done.err
    block = done.summary["endpoints"]["e"]
    assert {name: n for name, n in block["outcomes"].items() if n} == {"ok": 16}
    hits = block["rate_limits"]["hits"]
    answered = front.statuses(16 + hits)
    assert answered == {200: 16, 429: hits}
    assert hits > 0
    assert block["rate_limits"]["by_kind"] == {"unknown": hits}
    assert cli.rows("SELECT count(*) FROM attempts")[0][0] == hits
    assert block["rate_limits"]["waited_s"] >= hits, "a second at least for each, because nginx asks for none"
    early = cli.rows("SELECT count(*) FROM samples WHERE sent_ns < due_ns + waited_ns")
    assert early == [(0,)], "what is timed is the last attempt: it left after all the waiting"
    assert block["metrics"]["e2e_ms"]["n"] == 16
    assert block["metrics"]["e2e_response_ms"]["max"] >= 1000, "the request's own time has the waiting in it"
