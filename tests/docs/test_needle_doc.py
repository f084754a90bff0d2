"""docs/needle.md: its commands run, and say what the page says."""

import json
import subprocess
from pathlib import Path

import pytest
from test_docs import ROOT, blocks

NEEDLE = ROOT / "docs" / "needle.md"
LONG = pytest.mark.long


def run(marker: str, folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    (text,) = [block.text for block in blocks(NEEDLE) if block.marker == marker]
    return subprocess.run(
        ["sh", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@LONG
def test_the_books_own_case(tmp_path: Path, environment: dict[str, str]) -> None:
    """Within two minutes: the time limit of `run`."""
    done = run("run: fifty", tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (example,) = [block.text for block in blocks(NEEDLE) if block.language == "text"]
    head = example.splitlines()[1]
    assert head.split() == ["depth", "right", "accuracy", "(95", "%)", "TTFT", "p50", "p95", "total", "p50", "p95"]
    assert head.split() in [line.split() for line in done.stdout.splitlines()]
    for depth in ("0–20 %", "20–40 %", "40–60 %", "60–80 %", "80–100 %", "all"):
        assert any(line.startswith(depth) and "100 % (" in line for line in done.stdout.splitlines())
    assert "100/100" in done.stdout
    assert "absent controls: 0 of 10 named something" in done.stdout
    assert "by depth: not powered for position" in done.stdout
    assert "not powered for position" in done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


@LONG
def test_the_smaller_ones(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run("run: smaller", tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needle: description at 4k tokens" in done.stdout
    prompt = json.loads((tmp_path / "prompt.json").read_text(encoding="utf-8"))
    assert [message["role"] for message in prompt["messages"]] == ["system", "user"]
