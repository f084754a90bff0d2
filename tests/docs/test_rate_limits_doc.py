"""docs/rate-limits.md: its example is run, and what it shows of the summary is what comes out, figures apart."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from test_docs import ROOT, blocks, first_column, write_files

from latbench.engine.patience import LONGEST_WAIT_NS, MAX_TRIES
from latbench.providers.refusals import _KIND_PHRASES
from latbench.scenario.schema import Scenario

PAGE = ROOT / "docs" / "rate-limits.md"
PLACES = {"url": "http://127.0.0.1:8100/v1", "clients": "concurrency: 1"}
TOLERANCE = 0.1


def block(marker: str) -> str:
    (text,) = [block.text for block in blocks(PAGE) if block.marker == marker]
    return text


def picked(shown: Any, found: Any) -> Any:
    """Of what was found, that which is shown: the same keys of mappings, all of a list."""
    if isinstance(shown, dict):
        return {key: picked(value, found[key]) for key, value in shown.items()}
    if isinstance(shown, list):
        assert len(shown) == len(found)
        return [picked(*pair) for pair in zip(shown, found, strict=True)]
    return found


def without_figures(value: Any) -> Any:
    """Numbers are what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_figures(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_figures(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"\d[\d,.]*", "0", value)
    return 0 if isinstance(value, int | float) and not isinstance(value, bool) else value


@pytest.mark.long
def test_the_example_shows_what_comes_out(
    tmp_path: Path, environment: dict[str, str], simulate: Callable[..., AbstractContextManager[str]]
) -> None:
    write_files(PAGE, tmp_path)

    def run(example: str, **changes: str) -> dict[str, Any]:
        scenario = tmp_path / f"{example}.yaml"
        text = scenario.read_text(encoding="utf-8")
        for old, new in changes.items():
            old = PLACES[old]
            assert old in text
            text = text.replace(old, new)
        scenario.write_text(text, encoding="utf-8")
        (command,) = block(f"run: {example}").splitlines()
        written = tmp_path / command.rpartition("> ")[2]
        done = subprocess.run(
            ["sh", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))["endpoints"]["sim"]
        return found

    with simulate(*shlex.split(block("run: sim"))[2:], "--port=0") as url:
        ceiling, polite, crowd = (
            run("ceiling", url=url),
            run("polite", url=url),
            run("polite", clients="concurrency: 4"),
        )

    shown = json.loads(block("shown: ceiling"))
    found = picked(shown, ceiling["rate_limits"])
    assert without_figures(found) == without_figures(shown)
    assert found["ceiling"]["requests"]["rate_per_min"] == pytest.approx(120, rel=TOLERANCE)
    assert found["ceiling"]["requests"]["burst"] == pytest.approx(10, rel=TOLERANCE)
    assert found["hits"] == ceiling["outcomes"]["rate_limited"] > 0

    shown = json.loads(block("shown: polite"))
    assert without_figures(picked(shown, polite)) == without_figures(shown)
    for block_of in (shown, polite):
        assert block_of["outcomes"]["ok"] == 20
        limits = block_of["rate_limits"]
        kept = limits["hits"]
        assert limits["audit"] == {"asked": kept, "followed": kept, "long_enough": kept, "too_short": 0}, limits
        assert kept > 0 < limits["waited_s"]
        assert block_of["metrics"]["e2e_ms"]["p50"] <= block_of["metrics"]["e2e_response_ms"]["p50"]
    audit = crowd["rate_limits"]["audit"]
    assert audit["too_short"] > audit["long_enough"] > 0


def test_the_words_and_figures_of_the_page_are_those_of_the_source() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert first_column("docs/rate-limits.md", "`rate_limits`") == list(
        Scenario.model_fields["rate_limits"].annotation.__args__  # type: ignore[union-attr]
    )
    kinds = set(first_column("docs/rate-limits.md", "kind"))
    assert kinds == {kind for kind, _ in _KIND_PHRASES} | {"unknown"}
    assert (MAX_TRIES, LONGEST_WAIT_NS) == (10, 600 * 10**9)
    assert "after ten attempts" in text
    assert "longer than ten minutes" in text
    accuracy = (ROOT / "tests" / "analysis" / "test_ceiling.py").read_text(encoding="utf-8")
    for cells in re.findall(r"^\| (?:none|exponential)[^|]*\| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE):
        assert re.search(rf"\b{cells[0]} of 600 +{cells[1]} +{cells[2]}\b", accuracy)
    assert len(re.findall(r"^\| (?:none|exponential)", text, re.MULTILINE)) == 2
