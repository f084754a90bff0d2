"""What Locust's users expect of our locustfile: its options, keys, web UI, shapes, tables and files steer and show."""

import csv
import http.client
import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest
from harness import ROOT, Cli, Command, Served, free_port, wait_until

pytestmark = pytest.mark.timeout(110)

LOCUST = (str(Path(sys.executable).with_name("locust")),)
FILE = ROOT / "latbench/locustfile.py"
SECRET = "correct horse battery staple"
SLOW = ("--ttft-ms", "300", "--itl-ms", "0")


def line(served: Served, *more: str | Path, file: str | Path = FILE) -> list[str | Path]:
    return ["-f", file, "--latbench-url", served.url, "--latbench-model", "m", *more]


def headless(users: int, seconds: int) -> Sequence[str]:
    return ("--headless", "-u", str(users), "-r", "100", "-t", f"{seconds}s")


def spread(processes: int) -> Sequence[str]:
    """Several processes, at a port of their own."""
    port = str(free_port())
    ports = ("--master-bind-port", port, "--master-port", port)
    return ("--processes", str(processes), *ports) if processes > 1 else ()


def active(served: Served) -> int:
    found: int = served.get("/oracle/stats")["active"]
    return found


def reaches(served: Served, users: int) -> None:
    """That many requests are under way, and go on being."""
    row: list[int] = []

    def steady() -> bool:
        row.append(active(served))
        return row[-5:] == [users] * 5

    try:
        wait_until(steady)
    except AssertionError:
        raise AssertionError(f"{users} were wanted at a time, the last looks saw {row[-50:]}") from None


def conserved(cli: Cli) -> list[tuple[str, int, int]]:
    """For each run, in order: its state, how many samples there are, and how many were planned."""
    samples = "(SELECT count(*) FROM samples WHERE run_id = runs.id)"
    return cli.rows(f"SELECT state, {samples}, json_extract(record, '$.planned') FROM runs ORDER BY started_at, rowid")


def post(port: int, path: str, **form: object) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        head = {"content-type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urlencode(form), head)
        return connection.getresponse().status
    finally:
        connection.close()


def up(port: int, path: str = "/") -> bytes:
    """What the web UI says; nothing while it is not there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with suppress(OSError), closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else b""
    return b""


# --- steering ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_the_web_ui_steers_and_starts_again(cli: Cli, start_oracle: Callable[..., Served], processes: int) -> None:
    served = start_oracle(*SLOW)
    port = free_port()
    more = spread(processes)
    locust = cli.start(*line(served, "--web-port", str(port), *more), program=LOCUST)
    wait_until(lambda: up(port))
    if processes > 1:
        wait_until(lambda: len(json.loads(up(port, "/stats/requests"))["workers"]) == processes)
    for users in (3, 7, 2):
        assert post(port, "/swarm", user_count=users, spawn_rate=100) == 200
        reaches(served, users)
    assert post(port, "/stop") == 200
    assert active(served) == 0, "answers are awaited before the test is over"
    wait_until(lambda: conserved(cli)[-1:] and conserved(cli)[-1][0] == "complete")
    assert post(port, "/swarm", user_count=5, spawn_rate=100) == 200
    reaches(served, 5)
    assert post(port, "/stop") == 200
    wait_until(lambda: len(conserved(cli)) == 2 and conserved(cli)[-1][0] == "complete")
    runs = conserved(cli)
    assert all(samples == planned > 0 for _, samples, planned in runs)
    assert sum(samples for _, samples, _ in runs) == served.get("/oracle/stats")["requests"]
    locust.signal(signal.SIGINT)
    done = locust.wait(30.0)
    assert (done.code, done.out.count("verdict: "), done.err.count("Traceback")) == (0, 2, 0), done.err
    assert done.trusted, done.out
    wait_until(lambda: not cli.family(), 10.0)


@pytest.mark.long
def test_keys_steer(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    """w and W add a user and ten, s and S take them away."""
    served = start_oracle(*SLOW)
    ours, theirs = pty.openpty()
    command = [*LOCUST, *map(str, line(served, "--headless", "-u", "2", "-r", "100"))]
    locust = on_terminal(cli, command, theirs)
    try:
        reaches(served, 2)
        for key, users in (("w", 3), ("W", 13), ("s", 12), ("S", 2)):
            os.write(ours, key.encode())
            reaches(served, users)
        locust.signal(signal.SIGINT)
        done = locust.wait(30.0)
    finally:
        os.close(ours)
    assert done.code == 0, done.err
    assert done.trusted, done.out
    ((state, samples, planned),) = conserved(cli)
    assert (state, samples) == ("complete", planned)


def on_terminal(cli: Cli, command: Sequence[str], terminal: int) -> Command:
    """A command whose standard input is a terminal; what it prints goes to files."""
    told = " ".join(f"'{word}'" for word in command)
    try:
        return cli.start(program=("sh", "-c", f"exec {told} < {os.ttyname(terminal)}"))
    finally:
        os.close(terminal)


@pytest.mark.long
@pytest.mark.parametrize("import_ours", [True, False], ids=["one file", "two files"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_shape_steers(cli: Cli, start_oracle: Callable[..., Served], processes: int, import_ours: bool) -> None:
    served = start_oracle(*SLOW, "--csv", str(cli.scratch / "oracle.csv"))
    ours = "from latbench.locustfile import EndpointUser\n" if import_ours else ""
    cli.write(
        "shape.py",
        f"from locust import LoadTestShape\n{ours}\nclass Steps(LoadTestShape):\n    def tick(self):\n"
        "        now = self.get_run_time()\n        return (6 if 4 <= now < 10 else 2, 100) if now < 14 else None\n",
    )
    file = "shape.py" if import_ours else f"{FILE},shape.py"
    more = spread(processes)
    locust = cli.start(*line(served, "--headless", *more, file=file), program=LOCUST)
    for users in (2, 6, 2):
        reaches(served, users)
    done = locust.wait()
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert done.trusted, done.out
    ((state, samples, planned),) = conserved(cli)
    assert (state, samples) == ("complete", planned)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_on_a_terminal_drains(cli: Cli, start_oracle: Callable[..., Served], processes: int) -> None:
    """It goes to every process: the workers let the master end the run."""
    served = start_oracle("--ttft-ms", "600", "--itl-ms", "0")
    more = spread(processes)
    locust = cli.start(*line(served, "--headless", "-u", "4", "-r", "100", *more), program=LOCUST)
    wait_until(lambda: served.get("/oracle/stats")["ok"] >= 4 and active(served) == 4)
    os.killpg(locust.process.pid, signal.SIGINT)
    done = locust.wait(30.0)
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert done.out.startswith("verdict: ")
    assert cli.rows("SELECT DISTINCT outcome FROM samples") == [("ok",)], "what was in flight is awaited"
    ((state, samples, planned),) = conserved(cli)
    assert (state, samples) == ("complete", planned)
    assert planned == served.get("/oracle/stats")["requests"]
    wait_until(lambda: not cli.family(), 10.0)


# --- what Locust shows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [pytest.param(1), pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.long
def test_tables_csv_and_html(cli: Cli, start_oracle: Callable[..., Served], processes: int) -> None:
    served = start_oracle("--ttft-ms", "40", "--itl-ms", "1")
    more = spread(processes)
    wanted = ("--csv", "out", "--html", "out.html", *headless(4, 6), *more)
    done = cli.run(*line(served, *wanted), program=LOCUST)
    assert done.code == 0, done.err
    counted = cli.rows("SELECT count(*) FROM samples WHERE outcome = 'ok'")[0][0]
    with (cli.cwd / "out_stats.csv").open(newline="") as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    assert rows.keys() == {("POST", "m"), ("TTFT", "m"), ("", "Aggregated")}
    (written,) = {int(row["Request Count"]) for row in rows.values()}  # Aggregated is not doubled
    assert 0 < written <= counted, "Locust writes once a second, and not at the end"
    first, whole = (float(rows[kind, "m"]["Median Response Time"]) for kind in ("TTFT", "POST"))
    assert 39 <= first < whole
    html = (cli.cwd / "out.html").read_text()
    assert '"method": "TTFT"' in html
    assert '"method": "POST"' in html
    assert re.search(rf"TTFT\s+m\s+{counted}\s", done.err + done.out)
    assert re.search(rf"Aggregated\s+{counted}\s", done.err + done.out)


@pytest.mark.long
def test_failures_are_in_locusts_tables(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    served = start_oracle("--ttft-ms", "20", "--itl-ms", "1", "--rpm", "60", "--burst", "5")
    done = cli.run(*line(served, "--csv", "out", *headless(2, 3)), program=LOCUST)
    assert done.code == 0, done.err
    limited = cli.rows("SELECT count(*) FROM samples WHERE outcome = 'rate_limited'")[0][0]
    assert re.search(rf"^{limited}\s+POST m: EndpointFailed\('rate_limited'\) *$", done.err + done.out, re.MULTILINE)


# --- guards and secrets -----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_a_budget_ends_the_test(cli: Cli, start_oracle: Callable[..., Served], processes: int) -> None:
    served = start_oracle("--ttft-ms", "5", "--itl-ms", "0")
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": served.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 1, "requests": 1}]
    cli.scenario(endpoints=endpoints, load=load, budget={"requests": 37})
    more = spread(processes)
    words = ("-f", FILE, "--latbench-scenario", "mine.yaml", "--headless", "-u", "4", "-r", "100", *more)
    done = cli.run(*words, program=LOCUST)
    assert (done.code, served.get("/oracle/stats")["requests"]) == (96, 37), done.err
    wait_until(lambda: not cli.family(), 10.0)


@pytest.mark.long
def test_a_guard_that_stops_every_endpoint_ends_the_test(cli: Cli, start_oracle: Callable[..., Served]) -> None:
    served = start_oracle("--p-500", "1")
    done = cli.run(*line(served, "--headless", "-u", "4", "-r", "100"), program=LOCUST)
    assert done.code == 96, done.err
    assert "was stopped" in done.out


@pytest.mark.long
def test_an_endpoint_that_is_not_there_ends_the_test(cli: Cli) -> None:
    words = ("--latbench-url", f"http://127.0.0.1:{free_port()}/v1", "--latbench-model", "m")
    done = cli.run("-f", FILE, *words, "--headless", "-u", "2", "-r", "100", program=LOCUST)
    assert (done.code, done.err.count("Traceback")) == (2, 0), done.err
    assert conserved(cli) == []


def listening(pids: Sequence[int]) -> set[str]:
    """The addresses at which these processes listen, as /proc/net writes them."""
    inodes = set()
    for pid in pids:
        with suppress(OSError):
            for found in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    inodes.add(found.readlink().name.removeprefix("socket:[").removesuffix("]"))
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_nothing_listens_but_on_loopback(cli: Cli, endpoint: Served) -> None:
    web = free_port()
    more = ("--master", "--web-port", str(web), "--master-bind-port", str(free_port()))
    cli.start(*line(endpoint, *more), program=LOCUST)
    wait_until(lambda: up(web))
    assert listening(cli.family()) == {"0100007F"}


@pytest.mark.parametrize("bind", ["*", pytest.param("0.0.0.0", marks=pytest.mark.long)])
def test_a_master_that_others_reach_wants_a_secret(cli: Cli, endpoint: Served, bind: str) -> None:
    more = ("--master", "--master-bind-host", bind, "--master-bind-port", str(free_port()))
    done = cli.run(*line(endpoint, *more, *headless(1, 1)), program=LOCUST)
    said = [line for line in done.err.splitlines() if line.startswith("latbench: ")]
    assert (done.code, len(said), done.err.count("Traceback")) == (2, 1, 0), done.err
    assert "LATBENCH_SECRET" in said[0]


@pytest.mark.long
@pytest.mark.parametrize("right", [True, False])
def test_the_secret_is_wanted_of_workers(cli: Cli, endpoint: Served, right: bool) -> None:
    port = str(free_port())
    more = (
        "--master",
        "--master-bind-port",
        port,
        "--expect-workers",
        "1",
        "--expect-workers-max-wait",
        "8",
        *headless(2, 6),
    )
    master = cli.start(*line(endpoint, *more), program=LOCUST, env={"LATBENCH_SECRET": SECRET})
    theirs = {"LATBENCH_SECRET": SECRET if right else SECRET.upper()}
    worker = cli.start("-f", FILE, "--worker", "--master-port", port, program=LOCUST, env=theirs)
    done = master.wait()
    if right:
        assert (done.code, done.trusted) == (0, True), done.err
        assert endpoint.stats()["requests"] == conserved(cli)[0][1] > 0
        assert worker.wait(30.0).code == 0
    else:
        assert endpoint.stats()["requests"] == 0
        assert done.code == 1  # Locust's own: nobody is left to work
        assert worker.wait(30.0).code == 2
        assert "has another secret" in done.err
    assert SECRET not in done.err + done.out


@pytest.mark.long
def test_a_scenario_of_trials_is_refused_in_one_line(cli: Cli) -> None:
    done = cli.run("-f", FILE, "--latbench-scenario", "needle", *headless(2, 2), program=LOCUST)
    assert done.code == 2, done.err
    (said,) = [line for line in done.err.splitlines() if line.startswith("latbench: ")]
    assert "needle: not with Locust" in said
    assert "Traceback" not in done.err
