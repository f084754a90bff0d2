"""An open loop sends what was planned: the same from any number of workers, at the moments that the seed says."""

import resource
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from harness import LATBENCH, Cli, Served, one_off
from load_kit import SECOND, arrivals, at, measure, record, step
from scipy import stats

pytestmark = pytest.mark.timeout(110)

QUICK = ("--ttft-ms", "5", "--itl-ms", "0")


def planned(cli: Cli) -> set[tuple[object, ...]]:
    """Of each request of the last run: endpoint, step, number, when it was due in its step, prompt."""
    run = record(cli)
    began = [step["started_ns"] for step in run["steps"]]
    rows = cli.rows("SELECT endpoint, step, seq, due_ns, prompt_id FROM samples WHERE run_id = ?", run["id"])
    found = {(name, index, seq, due - began[index], prompt) for name, index, seq, due, prompt in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.long
def test_any_number_of_workers_sends_the_same(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    one, two = start_oracle(*QUICK), start_oracle(*QUICK)
    load = [step("poisson", rate="40/s", duration="1s"), step("poisson", rate="60/s", duration="1s")]
    sent = []
    for workers in ("1", "3"):
        done = measure(cli, [at(one, "a"), at(two, "b")], load, "--workers", workers, seed=5)
        assert done.code == 0, done.err
        sent.append(planned(cli))
    workers = cli.rows("SELECT count(DISTINCT worker) FROM samples WHERE run_id = ?", record(cli)["id"])
    assert workers == [(3,)]
    assert sent[0] == sent[1]
    assert Counter((row[0], row[1]) for row in sent[0]).keys() == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
    assert len(sent[0]) == one.get("/oracle/stats")["requests"]  # of two runs, half of all requests each


@pytest.mark.long
def test_poisson_gaps_at_the_endpoint_are_exponential(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, "--csv", str(path))
    done = measure(cli, [at(served)], [step("poisson", rate="30/s", duration="8s")], seed=3)
    assert done.code == 0, done.err
    arrived = arrivals(served, path)
    assert len(arrived) == done.summary["validity"]["ok"]
    gaps = np.diff(arrived) / SECOND
    assert stats.kstest(gaps, stats.expon(scale=1 / 30).cdf).pvalue > 0.01
    assert stats.kstest(gaps, stats.uniform(0, 2 / 30).cdf).pvalue < 0.01, "it can tell"


@pytest.mark.parametrize("workers", ["1", pytest.param("3", marks=pytest.mark.long)])
def test_a_burst_arrives_at_once(cli: Cli, start_oracle: Callable[..., Served], workers: str) -> None:
    served = start_oracle("--ttft-ms", "400", "--itl-ms", "0")
    load = [step("burst", size=50, every="1s", requests=100)]
    done = measure(cli, [at(served)], load, "--workers", workers)
    truth = served.get("/oracle/stats")
    assert (done.code, truth["requests"], truth["peak_active"]) == (0, 100, 50), done.err
    due = cli.rows("SELECT due_ns - min(due_ns) OVER (), count(*) FROM samples GROUP BY due_ns ORDER BY due_ns")
    assert due == [(0, 50), (SECOND, 50)]


@pytest.mark.long
def test_a_ramp_rises(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    path = cli.scratch / "oracle.csv"
    served = start_oracle(*QUICK, "--csv", str(path))
    done = measure(cli, [at(served)], [step("ramp", **{"from": "10/s", "to": "90/s"}, duration="4s")], seed=1)
    assert done.code == 0, done.err
    arrived = arrivals(served, path)
    quarter = np.histogram(arrived - arrived[0], bins=4, range=(0, 4 * SECOND))[0]
    expected = np.array([20, 40, 60, 80])
    assert np.all(np.abs(quarter - expected) < 4 * np.sqrt(expected)), quarter


@pytest.mark.long
@pytest.mark.parametrize("name", ["monday.csv", pytest.param("monday.jsonl", marks=pytest.mark.long)])
def test_a_trace_is_replayed(cli: Cli, start_oracle: Callable[..., Served], name: str) -> None:
    served = start_oracle(*QUICK)
    if name.endswith("csv"):
        cli.write(name, "offset,prompt,output_tokens\n0.0,beta,5\n0.25,,\n600ms,gamma,3\n")
    else:
        cli.write(
            name,
            '{"offset": 0.0, "prompt": "beta", "output_tokens": 5}\n{"offset": 0.25}\n'
            '{"offset": "600ms", "prompt": "gamma", "output_tokens": 3}\n',
        )
    done = measure(cli, [at(served)], [step("trace", path=name)])
    assert done.code == 0, done.err
    rows = sorted(planned(cli), key=lambda row: str(row[2]))
    assert [row[3] for row in rows] == [0, 250_000_000, 600_000_000]
    assert (rows[0][4], rows[2][4]) == ("beta", "gamma")
    assert cli.rows("SELECT output_tokens FROM samples ORDER BY seq") == [(5,), (8,), (3,)]


@pytest.mark.long
def test_sessions_carry_their_turns(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    served = start_oracle(*QUICK)
    done = measure(cli, [at(served)], [step("sessions", rate="20/s", turns=3, requests=12, think="20ms")])
    assert done.code == 0, done.err
    assert served.get("/oracle/stats")["requests"] == 36
    rows = cli.rows("SELECT seq / 3, seq % 3, input_tokens, due_ns, done_ns FROM samples ORDER BY seq")
    assert [row[:2] for row in rows] == [(session, turn) for session in range(12) for turn in range(3)]
    for before, after in pairwise(rows):
        if after[1]:
            assert after[2] > before[2], "a turn carries the earlier ones"
            assert after[3] >= before[4] + 20_000_000 - 2_000_000, "and is thought about"
    (block,) = done.summary["steps"][0]["endpoints"].values()
    assert block["sessions"]["outcomes"]["ok"] == 12


@pytest.mark.long
def test_a_cap_drops_what_would_exceed_it(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    """Answers take a second: of 20 that arrive within half of it, the first four fit."""
    served = start_oracle("--ttft-ms", "1000", "--itl-ms", "0")
    load = [step("constant", rate="40/s", requests=20, max_in_flight=4)]
    done = measure(cli, [at(served)], load)
    truth = served.get("/oracle/stats")
    assert (truth["requests"], truth["peak_active"]) == (4, 4)
    validity = done.summary["validity"]
    assert (validity["planned"], validity["dropped"], validity["sent"]) == (20, 16, 4)
    assert (done.code, validity["verdict"]) == (97, "invalid"), "more than 1 % dropped"


@pytest.mark.long
def test_endpoints_alternate(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    one, two = start_oracle(*QUICK), start_oracle(*QUICK)
    load = [step("constant", rate="50/s", duration="2s")]
    done = measure(cli, [at(one, "a"), at(two, "b")], load, endpoints_order={"alternate": {"slice": "500ms"}})
    assert done.code == 0, done.err
    rows = planned(cli)
    slices = {name: {int(str(row[3])) // 500_000_000 for row in rows if row[0] == name} for name in ("a", "b")}
    assert slices == {"a": {0, 2, 4, 6}, "b": {1, 3, 5, 7}}
    counts = [served.get("/oracle/stats")["requests"] for served in (one, two)]
    assert counts == [100, 100], "each is loaded for two seconds"
    assert [sum(row[0] == name for row in rows) for name in ("a", "b")] == counts


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_endpoints_alternate_in_a_closed_loop(cli: Cli, start_oracle: Callable[..., Served], workers: str) -> None:
    one, two = start_oracle("--ttft-ms", "20"), start_oracle("--ttft-ms", "20")
    load = [step("closed", concurrency=2, duration="1s")]
    order = {"alternate": {"slice": "500ms"}}
    done = measure(cli, [at(one, "a"), at(two, "b")], load, "--workers", workers, endpoints_order=order)
    assert done.code == 0, done.err
    due = {name: [int(str(row[3])) for row in planned(cli) if row[0] == name] for name in ("a", "b")}
    assert {ns // 500_000_000 for ns in due["a"]} == {0, 2}
    assert {ns // 500_000_000 for ns in due["b"]} == {1, 3}


# --- flags and limits -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_rate_is_a_flag(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    words = ("run", "--url", endpoint.url, "--model", "m", "--prompts", "own.jsonl", "--max-tokens", "8", "--json")
    done = cli.run(*words, "--rate", "50/s", "--requests", "40")
    assert done.code == 0, done.err
    (only,) = done.summary["steps"]
    assert (only["shape"], only["rate"], done.summary["validity"]["ok"]) == ("poisson", 50, 40)
    assert endpoint.stats()["requests"] == 40


def test_rate_and_concurrency_exclude_each_other(cli: Cli, endpoint: Served) -> None:
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, 8, 2, "--rate", "4/s"))
    assert (done.code, done.out, done.err.count("Traceback")) == (2, "", 0)
    assert "--rate" in done.err
    assert "--concurrency" in done.err
    assert endpoint.stats()["requests"] == 0


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_too_few_open_files_are_found_before_the_start(cli: Cli, endpoint: Served, workers: str) -> None:
    cli.prompts()
    limit = 300
    words = [str(word) for word in one_off(endpoint.url, 2000, 800, "--workers", workers)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert limit < min(soft, hard)
    done = cli.run(program=("sh", "-c", f'ulimit -n {limit}; exec "$0" "$@"', str(LATBENCH), *words))
    assert (done.code, done.err.count("Traceback")) == (2, 0), done.err
    assert f"may open {limit}" in done.err
    assert endpoint.stats()["requests"] == 0
    assert cli.rows("SELECT * FROM runs") == []
