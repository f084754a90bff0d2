"""Scrapes are answered at once, whatever the one before it does; everything else is refused in a few words."""

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click
import pytest
from harness import Cli, one_off
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from latbench.cli.exporting import Exporter, address, export_options
from latbench.export.prometheus import registry_of
from latbench.export.scrape import Scrape
from latbench.export.server import LONGEST_HEAD, MetricsServer, answer
from latbench.metrics import series
from latbench.metrics.distribution import Distribution
from latbench.metrics.series import Snapshot
from latbench.model.errors import UserError

HOSTILE = 'a"}\n# HELP x\\ {evil="1"} \u2028 \x1b[31m'


def told() -> Snapshot:
    found = Snapshot()
    found.set(series.STEP, ("chat", HOSTILE), 3)
    ttft = Distribution(series.LATENCY)
    ttft.record([100_000_000, 10**15])
    found.set(series.TTFT, ("chat", "", "p", "e", "m", "review"), ttft)
    found.set(series.COST, ("chat", "", "p", "e", "m"), 0.25)
    return found


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0) as found:
        found.serve(Scrape(told).render)
        yield found


def port_of(server: MetricsServer) -> int:
    return int(server.url.rsplit(":", 1)[1].split("/")[0])


def get(port: int, path: str = "/metrics", method: str = "GET", accept: str = "") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Accept": accept})
    return connection.getresponse()


def test_a_scrape_is_what_prometheus_reads(server: MetricsServer) -> None:
    response = get(port_of(server))
    families = {family.name: family for family in text_string_to_metric_families(response.read().decode())}
    assert families["latbench_run_step"].samples[0].labels["window"] == HOSTILE
    assert families["latbench_cost_usd"].samples[0].value == 0.25
    found = {one.labels.get("le"): one.value for one in families["latbench_ttft_seconds"].samples}
    assert (found["0.075"], found["0.1"], found["600.0"], found["+Inf"]) == (0, 1, 1, 2)


OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"))


ACCEPTED = ("", OPEN_METRICS, OPEN_METRICS.replace("1.0.0", "0.0.1"), "text/plain;version=1.0.0", "*/*")


@given(
    TEXT, TEXT, st.lists(st.integers(0, 10**13)), st.floats(0, 1e15), st.integers(0, 10**12), st.sampled_from(ACCEPTED)
)
def test_a_scrape_is_what_the_library_would_write(
    scenario: str, task: str, values: list[int], dollars: float, requests: int, accept: str
) -> None:
    found, ttft = Snapshot(), Distribution(series.LATENCY)
    ttft.record(values)
    for name in (task, task + "2"):
        found.set(series.TTFT, (scenario, "", "p", "e", "m", name), ttft)
    found.set(series.COST, (scenario, "peak", "p", "e", "m"), dollars)
    found.set(series.REQUESTS, (scenario, "", "p", "e", "m", task, "ok"), requests)
    found.set(series.STEP, (scenario, ""), 3)
    scrape = Scrape(lambda: found)
    encode, content_type = choose_encoder(accept)
    for _ in range(2):
        assert scrape.render(accept) == (content_type, encode(registry_of(lambda: found)))


def test_help_needs_no_escapes() -> None:
    assert not [one.name for one in series.SERIES if "\\" in one.help or "\n" in one.help or '"' in one.help]


def test_open_metrics_for_those_who_want_it(server: MetricsServer) -> None:
    response = get(port_of(server), accept=OPEN_METRICS)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.read().endswith(b"# EOF\n")


def test_head_and_what_is_not_there(server: MetricsServer) -> None:
    port = port_of(server)
    head = get(port, method="HEAD")
    assert (head.status, head.read()) == (200, b"")
    assert int(head.headers["content-length"]) > 100
    assert get(port, "/metrics?name[]=x").status == 200
    assert get(port, "/").status == 404
    assert get(port, method="POST").status == 405
    assert answer(b"\xff\xfe nonsense", Scrape(told).render).startswith(b"HTTP/1.1 405 ")


def test_those_who_say_nothing_keep_nobody_waiting(server: MetricsServer) -> None:
    port = port_of(server)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
    assert get(port).status == 200
    for one in silent:
        one.close()


def test_a_head_without_an_end_is_cut_off(server: MetricsServer) -> None:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as connection:
        try:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 2 * LONGEST_HEAD)
            assert connection.recv(10) == b""
        except ConnectionError:
            pass  # cut off while it was still sending


def test_many_at_once(server: MetricsServer) -> None:
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(5):
            statuses.append(get(port_of(server)).status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20


def test_a_port_that_is_taken(server: MetricsServer) -> None:
    with pytest.raises(
        UserError, match=r"--metrics-addr 127.0.0.1:\d+: cannot listen there \(Address already in use\)"
    ):
        MetricsServer("127.0.0.1", port_of(server))
    with pytest.raises(UserError, match="cannot listen there"):
        MetricsServer("no.such.host.invalid", 0)


@pytest.mark.long
def test_no_exporter_no_import() -> None:
    """A run without an exporter does not pay for its library."""
    code = "import sys, latbench.cli.run, latbench.run; print([m for m in sys.modules if 'prometheus_client' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# --- the command ------------------------------------------------------------------------------------------------------


@click.command()
@export_options
def only_exporting(**flags: Any) -> None:
    Exporter(**flags, say=None)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--metrics-addr", "nowhere"), "'nowhere' is not HOST:PORT"),
        (("--metrics-addr", "127.0.0.1:99999"), "is not HOST:PORT"),
        (("--metrics-addr", "0", "--metrics-keep", "5"), "a bare number; write 5s"),
        (("--pushgateway", "ftp://x"), "--pushgateway: must be a URL that starts with http:// or https://"),
        (("--remote-write", "http://u:secret@127.0.0.1:9"), "--remote-write: must not hold credentials"),
        (("--pushgateway", "http://127.0.0.1:9"), "--pushgateway http://127.0.0.1:9: "),
        (("--remote-write", "http://127.0.0.1:9/w?key=secret"), "is it up, and does it take pushes?"),
        (("--remote-write", "http://[::bad"), "--remote-write: must be a URL"),
    ],
)
def test_what_cannot_be_exported_to_is_an_error_before_the_run(flags: tuple[str, ...], said: str) -> None:
    with pytest.raises((UserError, click.BadParameter)) as caught:
        only_exporting(list(flags), standalone_mode=False)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_port_alone_is_one_of_the_loopback() -> None:
    context = click.Context(only_exporting)
    parameter = only_exporting.params[0]
    assert address(context, parameter, "9464") == ("127.0.0.1", 9464)
    assert address(context, parameter, "[::]:9464") == ("::", 9464)
    told: list[str] = []
    exporter = Exporter(("127.0.0.1", 0), 0.0, None, None, told.append)
    assert exporter.observed is not None
    assert told[0].startswith("metrics at http://127.0.0.1:")
    exporter.start()
    exporter.finish(wait=True)
    assert Exporter(None, 30.0, None, None, None).observed is None


def test_a_taken_port_is_an_error_before_the_run(cli: Cli) -> None:
    cli.prompts()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = cli.here(*one_off("http://127.0.0.1:9/v1", 1, 1, "--metrics-addr", str(port)))
    assert done.code == 2
    assert f"--metrics-addr 127.0.0.1:{port}: cannot listen there" in done.err
    assert not (cli.cwd / "latbench.db").exists()
