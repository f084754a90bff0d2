"""docs/prometheus.md: its commands are run, its lists of boards and alerts are those that there are."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from harness import Cli, Served, free_port
from test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "prometheus.md"


def shown(what: str) -> str:
    """The block that is marked so."""
    (text,) = [block.text for block in blocks(PAGE) if block.marker == f"run: {what}"]
    return text


@pytest.mark.long
@pytest.mark.timeout(110)
@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")
def test_the_commands_work(cli: Cli, endpoint: Served) -> None:
    endpoints = [{"name": "m", "api": "openai-chat", "base_url": endpoint.url, "model": "m"}]
    load = [{"shape": "closed", "concurrency": 4, "requests": 40}]
    cli.scenario("my-scenario.yaml", endpoints=endpoints, load=load)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"

    def shell(text: str) -> str:
        done = cli.run(program=("sh", "-euc", text), env={"PATH": path})
        assert done.code == 0, done.err
        return done.out + done.err

    port = str(free_port())
    assert f"metrics at http://127.0.0.1:{port}/metrics" in shell(shown("scraped").replace("9464", port))
    shell(shown("history"))
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
