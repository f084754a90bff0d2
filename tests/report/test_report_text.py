"""The terminal summary: golden files, width, hostile text, colour."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from latbench.report import figures
from latbench.report.text import MAX_CHARS, clean, render

PLACES = ("store latbench.db", "run directory runs/night", "summary runs/night/summary.json")


def text_of(summary: dict[str, Any], *, color: bool = False) -> str:
    out = io.StringIO()
    render(summary, out, color, PLACES)
    return out.getvalue()


@pytest.mark.parametrize("name", ["one_step", "three_steps"])
def test_golden(name: str, request: pytest.FixtureRequest, held_against: Callable[[str, str], None]) -> None:
    found = text_of(request.getfixturevalue(name))
    held_against(f"{name}.txt", found)
    assert max(len(line) for line in found.splitlines()[:-1]) <= 80
    assert {c for c in found if not c.isprintable()} == {"\n"}


def test_the_verdict_comes_before_any_figure(one_step: dict[str, Any]) -> None:
    lines = text_of(one_step).splitlines()
    assert lines[0] == "verdict: suspect"
    assert lines[1].startswith("suspect: reduced_precision")
    assert lines[-len(PLACES) :] == list(PLACES)


def test_raw_figures_are_never_shown(one_step: dict[str, Any]) -> None:
    spoiled = json.loads(json.dumps(one_step))
    for endpoint in spoiled["endpoints"].values():
        for metric in endpoint["metrics"].values():
            metric["raw"] = dict.fromkeys(metric["raw"], 987654.0)
    assert text_of(spoiled) == text_of(one_step)


def test_colour_only_when_asked_and_it_repeats_the_words(one_step: dict[str, Any]) -> None:
    coloured = text_of(one_step, color=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in text_of(one_step)
    assert "title" not in coloured
    assert [clean(line) for line in coloured.splitlines()] == [clean(line) for line in text_of(one_step).splitlines()]


def test_a_narrow_terminal_wraps_lines_and_never_shortens_a_figure(
    one_step: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    render(one_step, out)
    assert out.getvalue() == text_of(one_step).split("\nstore latbench.db")[0]


def test_a_thin_verdict_with_nothing_else(three_steps: dict[str, Any]) -> None:
    found = text_of(three_steps)
    assert "poisson 2.5/s" in found
    assert "rate limits" not in found
    assert "warm-up" not in found


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;file:///x\x1b\\link", "link"),
        ("a\nb\tc\r", "a b c"),
        ("\x9b31mx\x7f\x00", "31mx"),
        ("abc\u202edef\u200b\ufeff", "abcdef"),
        ("\ud800x\ue000", "x"),
        ("[red]x[/red]", "[red]x[/red]"),
        ("x" * 400, "x" * (MAX_CHARS - 1) + "…"),
        (17, "17"),
        ("\x1b", ""),
    ],
)
def test_clean(hostile: object, shown: str) -> None:
    assert clean(hostile) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "\N{EN DASH}"), (0.0, "0.00"), (9.994, "9.99"), (12.34, "12.3"), (1234.5, "1,234"), (-5, "-5.00")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert figures.number(value) == shown


def test_missing_counts_shares_and_loads() -> None:
    assert figures.count(None) == figures.share(None) == "\N{EN DASH}"
    assert figures.load({"shape": "unknown", "concurrency": None, "rate": None}) == "unknown"
    assert figures.reason({"code": "c", "value": None, "limit": None, "advice": ""}) == "c"
