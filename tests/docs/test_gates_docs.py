"""docs/thresholds.md and docs/compare.md: their examples run, and what they list is what there is."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from test_docs import ROOT, blocks, write_files

from latbench.analysis.by_window import HONEST, LEAST
from latbench.analysis.compare import EQUIVALENT, IMPROVED, INCONCLUSIVE, LENGTH_MARGIN, MARGIN, PRIMARY, REGRESSED
from latbench.analysis.compare import SHARE_MARGIN as POINTS
from latbench.scenario.thresholds import COST, PERCENTILES, SHARES, THROUGHPUT, parse

THRESHOLDS, COMPARE = ROOT / "docs" / "thresholds.md", ROOT / "docs" / "compare.md"
LONG = pytest.mark.long


def run(page: Path, marker: str, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    (text,) = [block.text for block in blocks(page) if block.marker == marker]
    return subprocess.run(
        ["sh", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def at(page: Path, old: str, url: str, folder: Path) -> None:
    """Write the page's scenario with the endpoint's address in it."""
    write_files(page, folder)
    (scenario,) = folder.glob("*.yaml")
    text = scenario.read_text(encoding="utf-8")
    assert old in text
    scenario.write_text(text.replace(old, url), encoding="utf-8")


@LONG
def test_the_thresholds_of_the_example_pass(tmp_path: Path, environment: dict[str, str], sim_url: str) -> None:
    at(THRESHOLDS, "base_url: sim", f"base_url: {sim_url}", tmp_path)
    done = run(THRESHOLDS, "run: gated", tmp_path, environment)
    assert done.returncode in (0, 98), done.stdout + done.stderr  # on a busy machine requests may count for few
    suites = ET.parse(tmp_path / "thresholds.xml").getroot()
    assert [suites.get(key) for key in ("tests", "failures")] == ["11", "0"]
    assert done.stdout.startswith("verdict: ")
    assert "\nthresholds: " in done.stdout  # after the verdict's reasons, which are a matter of the machine


@LONG
def test_the_runs_of_the_example_are_compared(tmp_path: Path, environment: dict[str, str], sim_url: str) -> None:
    at(COMPARE, "https://host/v1", sim_url, tmp_path)
    done = run(COMPARE, "run: pair", tmp_path, environment)
    assert done.returncode == 0, done.stderr
    differences = [line for line in done.stdout.splitlines() if line.startswith("differs: ")]
    # The verdict of either run is a matter of the machine.
    assert all("nothing but the time" in line or "verdict" in line or "validity" in line for line in differences)
    assert differences
    document: dict[str, Any] = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert document["claim"] == "descriptive"
    assert {(row["metric"], row["percentile"]) for row in document["rows"] if row["gate"]} == set(PRIMARY)


def test_every_example_of_a_threshold_is_one() -> None:
    text = THRESHOLDS.read_text(encoding="utf-8")
    shown = re.findall(r"`((?:\[[^\]`]+\] )?\w+(?: p[\w/.]+)? (?:<=|>=|==|<|>) [^`]+)`", text)
    assert len(shown) >= 10
    for example in shown:
        parse(example)


def test_what_can_be_held_to_a_limit_is_listed() -> None:
    text = THRESHOLDS.read_text(encoding="utf-8")
    for name in (*PERCENTILES, *SHARES, *THROUGHPUT, *COST, "errors", "empty"):
        assert f"`{name}`" in text, name


def test_the_words_and_margins_of_a_comparison() -> None:
    text = COMPARE.read_text(encoding="utf-8")
    assert re.findall(r"^\| ([A-Z]+) \|", text, re.MULTILINE) == [REGRESSED, IMPROVED, EQUIVALENT, INCONCLUSIVE]
    assert f"act on: {MARGIN}, or" in text
    assert f"margin of {POINTS * 100:g} point" in text
    assert f"more than {LENGTH_MARGIN * 100:g} %" in text
    assert (LEAST, HONEST) == (3, 5)
    assert "fewer than three windows" in text
    assert "five or more" in text
