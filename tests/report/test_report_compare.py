"""A comparison on a terminal: within 80 columns, hostile names harmless, colour never alone."""

import io
import re
from typing import Any

import msgspec
import pytest

from latbench.analysis.compare import Comparison, Row, Share
from latbench.analysis.differences import Difference
from latbench.report import compare

EVIL = "[red]evil[/red]\x1b[31m"
SIDE: dict[str, Any] = {
    "id": "3f2a9c0011",
    "name": "night",
    "scenario": "s",
    "started_at": "2026-11-22T14:00:00Z",
    "window": "peak",
    "validity": "valid",
}
ROWS = [
    Row("m", 0, "ttft", "p50", "ms", 512.3, 613.2, (400, 398), 1.197, (1.11, 1.304), 0.0, None, "REGRESSED"),
    Row("m", 0, "ttft", "p90", "ms", 512.3, 613.2, (400, 398), 1.197, (1.11, 1.304), 0.0, None, "REGRESSED"),
    Row("m", 0, "ttft", "p95", "ms", 700.0, None, (400, 398), None, None, None, 1.0, gate=True, why="B has too few"),
    Row("m", 0, "e2e", "p95", "ms", 1e5, 1e5, (400, 398), 1.0, (None, 1.1), 1.0, 1.0, gate=True, need=1234),
    Row("m", 0, "e2e", "p50", "ms", None, None, (0, 0)),
    Row("m", 0, "e2e_chars_per_s", "p5", "characters/s", 5.0, 4.0, (9, 9), 0.8, (0.7, 0.9), 0.0, None, "REGRESSED"),
    Row("m", 0, "e2e_reference_tokens_per_s", "p5", "reference tokens/s", 5.0, 4.0, (9, 9)),
    Row("m", 0, "generation_tokens_per_s", "p5", "tokens/s", 5.0, 6.0, (9, 9), 1.2, (1.1, 1.3), 0.0, None, "IMPROVED"),
]
SHARES = [
    Share("m", 0, "error rate", 0.0, 0.05, (400, 398), 0.05, (0.02, 0.08), "REGRESSED"),
    Share("m", 0, "rate-limited", None, None, (0, 0)),
]


def comparison(**changes: Any) -> Comparison:
    found = Comparison(
        SIDE, SIDE | {"window": None}, "descriptive", "one run each", 1.05, [], False,
        [("m", "m")], [(0, "closed 4")], ROWS, SHARES,
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def rendered(found: Comparison, *, color: bool = False) -> str:
    out = io.StringIO()
    compare.render(found, out, color)
    return out.getvalue()


def test_what_is_said() -> None:
    shown = rendered(comparison())
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:4] == [
        "A: run 3f2a9c0011 (night), 2026-11-22T14:00:00Z, window peak, valid",
        "B: run 3f2a9c0011 (night), 2026-11-22T14:00:00Z, valid",
        "descriptive only: one run each",
        "differs: nothing but the time",
    ]
    assert re.search(r"TTFT p50 +512.3 +613.2 +1.197 +1.110 to 1.304 +REGRESSED", shown)
    assert re.search(r"TTFT p95 \* +700.0 +– +– +– +INCONCLUSIVE", shown)
    assert re.search(r"end to end p95 \* +100,000 +100,000 +1.000 +\? to 1.100 +INCONCLUSIVE", shown)
    assert re.search(r"generation p5 +5.00 +6.00 +1.200 .* IMPROVED", shown)
    for hidden in ("p90", "characters", "reference", "end to end p50"):
        assert hidden not in shown, "it is in the document"
    assert "error rate: 0.00 % (A), 5.00 % (B), +5.00 points (+2.00 to +8.00); REGRESSED" in shown
    assert "rate-limited: – (A), – (B); INCONCLUSIVE" in shown
    assert "gate (rows with a *, together): INCONCLUSIVE" in shown
    assert "m, step 0: TTFT p95: B has too few" in shown
    assert "m, step 0: end to end p95: about 1,234 values a side would decide" in shown
    assert "values: 400 (A), 398 (B)" in shown


def test_what_differs() -> None:
    found = [Difference("cache", "cold", "x" * 99, blocks=True), Difference("endpoint m.model", EVIL, "n")]
    found += [Difference(f"labels.{number}", "1", "2") for number in range(14)]
    shown = rendered(comparison(differences=found, forced=True, endpoints=[("m", EVIL)]))
    assert f"NOT COMPARABLE: cache: cold (A), {'x' * 59}…" in " ".join(shown.split())
    assert "differs: endpoint m.model: [red]evil[/red] (A), n (B)" in shown
    assert "differs: 4 more (--json has them)" in shown
    assert "compared all the same (--force)" in shown
    assert "m (A), [red]evil[/red] (B), step 0: closed 4" in shown
    assert "end to end, reference" in shown, "two models may count tokens differently"
    assert "\x1b" not in shown


def test_windows() -> None:
    sides = {"a": {"window": "offpeak", "scenario": "s", "runs": ["1"], "windows": 1}}
    sides["b"] = {"window": "peak", "scenario": "s", "runs": ["2", "3"], "windows": 2}
    shown = rendered(comparison(**sides, claim="windows", caveat="paired by day over 5 days"))
    assert "A: window offpeak of s, 1 run\nB: window peak of s, 2 runs\nby window: paired by day" in shown
    assert "windows: 400 (A), 398 (B)" in shown
    assert "about 1,234 windows a side would decide" in shown


@pytest.mark.parametrize("verdict", ["REGRESSED", "INCONCLUSIVE", "EQUIVALENT", "IMPROVED"])
def test_the_gate(verdict: str) -> None:
    row = msgspec.structs.replace(ROWS[0], verdict=verdict, gate=True)
    found = comparison(rows=[row], shares=[])
    gate = "EQUIVALENT" if verdict == "IMPROVED" else verdict
    assert f"together): {gate}" in rendered(found)
    assert ("too close to the margin to tell" in rendered(found)) == (verdict == "INCONCLUSIVE")
    document = compare.document(found, "regressed")
    assert (document["gate"], document["fail_on"], document["rows"][0]["verdict"]) == (gate, "regressed", verdict)
    colored = rendered(found, color=True)
    plain = re.sub(r" +$", "", re.sub(r"\x1b\[[0-9;]*m", "", colored), flags=re.MULTILINE)
    assert plain == rendered(found), "colour only repeats what a word says"
    assert colored != plain


def test_nothing_was_measured() -> None:
    assert "no values on either side" in rendered(comparison(rows=[], shares=[]))
