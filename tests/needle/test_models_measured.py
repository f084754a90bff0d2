"""The simulated models measured by `latbench needle`, from haystack to report: what each has to come to."""

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Cli, closes

from latbench.needle.trial import Kind

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

QUICK = {"x-sim-ttft": "0ms", "x-sim-itl": "0ms", "x-sim-prefill-rate": "100000000", "x-sim-slowdown": "0"}


def measured(cli: Cli, *flags: str, **headers: str) -> dict[str, Any]:
    """The needle block of a run against the simulated endpoint, whose options the headers change."""
    changed = {f"x-sim-{name.replace('_', '-')}": value for name, value in headers.items()}
    endpoint = {"name": "sim", "api": "openai-chat", "base_url": "sim", "model": "m", "headers": {**QUICK, **changed}}
    cli.write("needles.yaml", json.dumps({"name": "needles", "version": "1", "endpoints": [endpoint], "needle": {}}))
    done = cli.start("needle", "needles.yaml", *flags, "--json", "--out", "out").wait(500)
    assert done.code == 0, done.err
    assert closes(done.summary)
    block: dict[str, Any] = done.summary["endpoints"]["sim"]["needle"]
    return block


def test_perfect_scores_everything_on_every_rung_and_depth(cli: Cli) -> None:
    kinds = ",".join(Kind)
    found = measured(cli, "--preset", "smoke", "--kinds", kinds, "--lengths", "4k", "--sim-model", "perfect")
    assert {one["kind"] for one in found["lengths"]} == set(Kind)
    for one in found["lengths"]:
        assert [cell["accuracy"] for cell in one["depths"]] == [1.0] * 5
    assert found["controls"]["absent"]["present"] == 0
    assert {path.name for path in (cli.cwd / "out").glob("*.svg")} == {
        f"needle-{name}.svg" for name in ("accuracy", "certified", "ttft", "failures")
    }


def test_random_scores_chance(cli: Cli) -> None:
    found = measured(cli, "--preset", "position", "--sim-model", "random")
    for one in found["lengths"]:
        assert one["at_chance"]
        assert one["ci95"][1] < one["chance"] + 0.1
        assert one["position"]["shapes"] == []
    assert found["controls"]["absent"]["answers_regardless"]


def test_blind_in_the_middle_is_a_significant_dip(cli: Cli) -> None:
    found = measured(cli, "--preset", "position", "--sim-model", "blind")
    for one in found["lengths"]:
        assert one["position"]["shapes"] == ["dip"]
        assert one["position"]["p_dip"] < 0.001


def test_a_cut_head_is_a_verdict_and_no_dip(cli: Cli) -> None:
    found = measured(cli, "--preset", "position", "--sim-model", "head-truncated", needle_keep="7000")
    assert [one["cut"] for one in found["truncation"] if one["length"] == 10_000] == ["head"]
    for one in found["lengths"]:
        assert one["position"]["silent"] == "truncated"
        assert one["position"]["shapes"] == []


def test_a_prefix_cache_trips_the_control_of_ttft(cli: Cli) -> None:
    """Reading 10K tokens takes half a second here: what a busy machine adds is small beside it."""
    how = {"needle_silent": "true", "prefill_rate": "20000"}
    found = measured(cli, "--preset", "position", "--sim-model", "prefix-cache", **how)
    control = found["ttft_against_depth"]
    assert control["cached_prefix"]
    assert control["change"] < -0.4
    assert [one["accuracy"] for one in found["lengths"]] == [1.0, 1.0]


def test_pictures_are_drawn_again(cli: Cli) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    measured(cli, "--preset", "smoke", "--lengths", "2k")
    done = cli.run("report", "--heatmaps", "pictures", "--png")
    assert done.code == 0, done.err
    names = {"accuracy", "certified", "ttft", "failures"}
    assert {path.name for path in (cli.cwd / "pictures").iterdir()} == {
        f"needle-{name}.{form}" for name in names for form in ("svg", "png")
    }
    again = (cli.cwd / "pictures/needle-failures.svg").read_bytes()
    assert again == (cli.cwd / "out/needle-failures.svg").read_bytes()


def test_what_cannot_be_drawn_is_said(cli: Cli, tmp_path: Path) -> None:
    assert cli.run("report", "--png").said == "latbench: --png: say where to with --heatmaps DIR\n"
    cli.scenario(endpoints=[{"name": "sim", "api": "openai-chat", "base_url": "sim", "model": "m"}], load=[
        {"shape": "closed", "concurrency": 1, "requests": 1}
    ])  # fmt: skip
    assert cli.run("run", "mine.yaml", "--quiet").code == 0
    done = cli.run("report", "--heatmaps", str(tmp_path / "pictures"))
    assert done.code == 2
    assert "sent no needle trials; there is nothing to draw" in done.err
    assert not (tmp_path / "pictures").exists()
