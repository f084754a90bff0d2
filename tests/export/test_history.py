"""What is in the store, for Prometheus: served added up, and written with its own times."""

import datetime
import json
import re
import signal
import sqlite3
from pathlib import Path

import pytest
from export_kit import BOARDS, filled, needs_prometheus, panels, prometheus, promtool, scrape
from harness import Cli, Served, free_port, one_off, wait_until

pytestmark = pytest.mark.timeout(120)


def measured(cli: Cli, endpoint: Served, requests: int, *more: str) -> str:
    """The id of a small run."""
    cli.prompts()
    done = cli.run(*one_off(endpoint.url, requests, 4, *more))
    assert done.code == 0, done.err
    return str(done.summary["run"]["id"])


def started(cli: Cli, run: str, moment: str) -> None:
    """Have a stored run begin at another time."""
    with sqlite3.connect(cli.cwd / "latbench.db") as connection:
        ((text,),) = connection.execute("SELECT record FROM runs WHERE id = ?", (run,)).fetchall()
        record = json.loads(text) | {"started_at": moment}
        connection.execute("UPDATE runs SET record = ?, started_at = ? WHERE id = ?", (json.dumps(record), moment, run))
    connection.close()


@pytest.mark.long
def test_the_store_is_served_as_the_sum_of_its_runs(cli: Cli, endpoint: Served) -> None:
    measured(cli, endpoint, 20)
    port = free_port()
    command = cli.start("serve-metrics", "--metrics-addr", str(port))
    line = 'latbench_requests_total{endpoint="m",model="m",outcome="ok",provider="m",scenario="quickstart"'

    def answered() -> float:
        text = scrape(port) if f":{port}/metrics" in command.err.read_text() else ""
        return sum(float(one.rsplit(" ", 1)[1]) for one in text.splitlines() if one.startswith(line))

    wait_until(lambda: answered() == 20)
    measured(cli, endpoint, 30)
    wait_until(lambda: answered() == 50)
    command.signal(signal.SIGTERM)
    assert command.wait().code == 0


def test_serving_what_is_not_there(cli: Cli) -> None:
    done = cli.here("serve-metrics", "--metrics-addr", "0")
    assert done.code == 2
    assert "there is no store here" in done.err


@pytest.mark.long
def test_runs_are_written_as_open_metrics(cli: Cli, endpoint: Served) -> None:
    first, second = measured(cli, endpoint, 20), measured(cli, endpoint, 30, "--window", "peak")
    done = cli.run("export", "openmetrics", "--every", "100ms")
    assert done.code == 0, done.err
    found = points(done.out)
    for window, count in (("", 20), ("peak", 30)):
        ok = [
            values
            for (name, labels), values in found.items()
            if name == "latbench_requests_total" and 'outcome="ok"' in labels and f'window="{window}"' in labels
        ]
        assert sum(values[-1][1] for values in ok) == count
        assert all(values[0][1] == 0 for values in ok)
    one_run = cli.run("export", "openmetrics", first, "--out", "one.om")
    assert (one_run.code, one_run.out) == (0, "")
    assert 'window="peak"' not in (cli.cwd / "one.om").read_text()
    assert second


def points(text: str) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """The points of each series, by name and labels, held to the format's rules.

    By hand: the parser of prometheus_client takes a histogram's second moment for a copy of the first.
    """
    assert text.endswith("# EOF\n")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    families: list[str] = []
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        if line.startswith("#"):
            continue
        name, labels, value, at = re.fullmatch(r"(\w+)\{(.*)\} (\S+) (\S+)", line).groups()  # type: ignore[union-attr]
        assert name.startswith(families[-1])
        found.setdefault((name, labels), []).append((float(at), float(value)))
    assert len(set(families)) == len(families)
    for (name, labels), values in found.items():
        times = [at for at, _ in values]
        assert times == sorted(set(times)), name
        if name.startswith("latbench_") and name.endswith(("_total", "_bucket", "_count")):
            # OpenTelemetry's have no window: there, the second run begins at 0 again.
            assert [value for _, value in values] == sorted(value for _, value in values)
        if 'le="+Inf"' in labels:
            counted = found[name.removesuffix("_bucket") + "_count", labels.replace(',le="+Inf"', "")]
            assert values == counted
    return found


@pytest.mark.long
def test_runs_that_cannot_be_told_apart_are_left_out(cli: Cli, endpoint: Served) -> None:
    first, second = measured(cli, endpoint, 20), measured(cli, endpoint, 20)
    for run in (first, second):
        started(cli, run, "2026-11-02T09:00:00Z")
    done = cli.run("export", "openmetrics")
    assert done.code == 0
    assert "began while" in done.err
    assert cli.run("export", "openmetrics", "--every", "0s").code == 2
    assert cli.run("export", "openmetrics", "nosuchrun").code == 2
    done = cli.run("export", "openmetrics", "--out", "no/such/folder.om")
    assert done.code == 2
    assert "--out no/such/folder.om: cannot be written (No such file or directory)" in done.err


@needs_prometheus
@pytest.mark.long
def test_a_week_of_the_store_fills_the_hours_of_the_week(cli: Cli, endpoint: Served, tmp_path: Path) -> None:
    """Prometheus reads the blocks that promtool makes, and the hour-of-week panel has data from the store."""
    monday = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
    for hour in (9, 33, 60):
        run = measured(cli, endpoint, 24, "--window", "peak" if hour == 9 else "offpeak")
        moment = monday + datetime.timedelta(hours=hour, minutes=5)
        started(cli, run, moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert cli.run("export", "openmetrics", "--every", "100ms", "--out", "week.om").code == 0
    promtool("tsdb", "create-blocks-from", "openmetrics", cli.cwd / "week.om", tmp_path / "data")
    start, end = monday.timestamp(), (monday + datetime.timedelta(days=7)).timestamp()
    with prometheus(tmp_path / "p", data=tmp_path / "data") as server:
        titles = {"TTFT p95 by hour of the week": "slot", "TTFT p95 by hour of the day": "hour"}
        for panel in panels(BOARDS["peak"]):
            if panel["title"] in titles:
                label = titles[panel["title"]]
                found = server.series(filled(panel["targets"][0]["expr"]), start, end, "1h")
                slots = {one["metric"][label] for one in found}
                assert slots == ({"110", "210", "313"} if label == "slot" else {"10", "13"})
