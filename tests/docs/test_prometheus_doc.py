"""docs/prometheus.md: its commands are run, its lists of boards and alerts are those that there are."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from harness import Cli, Served, free_port
from test_docs import ROOT, blocks

sys.path.append(str(Path(__file__).parents[1] / "export"))
from export_kit import Prometheus, needs_prometheus

PAGE = ROOT / "docs" / "prometheus.md"


def shown(what: str) -> str:
    """The block that is marked so."""
    (text,) = [block.text for block in blocks(PAGE) if block.marker == f"run: {what}"]
    return text


def shell(cli: Cli, text: str, **env: str) -> str:
    """What the commands say, in a folder with a scenario of one's own."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = cli.run(program=("sh", "-euc", text), env={"PATH": path, **env})
    assert done.code == 0, done.err
    return done.out + done.err


def my_scenario(cli: Cli, endpoint: Served) -> None:
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 4, "requests": 40}]
    cli.scenario("my-scenario.yaml", endpoints=endpoints, load=load)


@needs_prometheus
@pytest.mark.long
@pytest.mark.timeout(110)
def test_the_shortest_way_to_a_board(cli: Cli, endpoint: Served) -> None:
    """With ports that are free here, and a scrape every second, so that nobody has to wait for the next one."""
    my_scenario(cli, endpoint)
    metrics, web = str(free_port()), str(free_port())
    shutil.copytree(ROOT / "grafana" / "prometheus", cli.cwd / "grafana" / "prometheus")
    config = cli.cwd / "grafana/prometheus/prometheus.yml"
    assert "127.0.0.1:9464" in config.read_text()
    config.write_text(config.read_text().replace("9464", metrics).replace("scrape_interval: 5s", "scrape_interval: 1s"))
    text = shown("board").replace("9464", metrics).replace("9090", web)
    shell(cli, text, LATBENCH_RUN_METRICS_KEEP="5s")
    server = Prometheus(f"http://127.0.0.1:{web}", cli.cwd)
    assert server.value('sum(last_over_time(latbench_requests_total{outcome="ok"}[5m]))') == 40


@needs_prometheus
@pytest.mark.long
@pytest.mark.timeout(110)
def test_the_commands_work(cli: Cli, endpoint: Served) -> None:
    my_scenario(cli, endpoint)
    port = str(free_port())
    assert f"metrics at http://127.0.0.1:{port}/metrics" in shell(cli, shown("scraped").replace("9464", port))
    shell(cli, shown("history"))
    assert list((cli.cwd / "data").iterdir())


def test_alerts_and_boards_are_those_that_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rules = yaml.safe_load((ROOT / "grafana/prometheus/rules.yml").read_text())
    alerts = [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert re.findall(r"^\| `(Latbench\w+)` \|", text, re.MULTILINE) == alerts
    line = next(line for line in text.splitlines() if line.startswith("| boards: "))
    assert len(re.findall(r"\*[a-z -]+\*", line)) == len(list((ROOT / "grafana/dashboards").glob("*.json")))
    (version,) = re.findall(r"grafana-foundation-sdk==\d+!(\d+\.\d+)\.\d+", (ROOT / "pyproject.toml").read_text())
    assert f"SDK for {version}" in text
    assert f"grafana/grafana:{version}." in (ROOT / "grafana/compose.yaml").read_text()
