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


@pytest.mark.parametrize(
    "name", ["one_step", "three_steps", "conversations", "tool_loops", "levels", "limited", "compared"]
)
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


def refusals(number: int, said: str) -> list[dict[str, Any]]:
    known = {"endpoint": "acme", "outcome": "auth_error", "status": 401, "message": said}
    return [known | {"count": 9 - at} for at in range(number)]


def test_what_was_said_in_the_warm_up_stands_under_its_line(one_step: dict[str, Any]) -> None:
    found = json.loads(json.dumps(one_step))
    found["validity"]["warmup"]["errors"] = refusals(4, "[red]no\x1b[31m such\nkey")
    lines = text_of(found).splitlines()
    at = lines.index("warm-up, not counted below: ok 9")
    assert lines[at + 1 : at + 5] == [*(f"acme: {n} auth_error (HTTP 401): [red]no such key" for n in (9, 8, 7)), ""]


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


def test_missing_counts_shares_and_factors() -> None:
    assert figures.count(None) == figures.share(None) == figures.times(None) == "\N{EN DASH}"
    assert figures.reason({"code": "c", "value": None, "limit": None, "advice": ""}) == "c"


STEPS = [{"index": index, "words": f"closed {4**index}"} for index in range(3)]


@pytest.mark.parametrize(
    ("last", "first", "words"),
    [
        (1, 2, "holds the SLO up to step 1: closed 4; not at step 2: closed 16"),
        (2, None, "holds the SLO up to step 2: closed 16, the last one"),
        (None, 0, "does not hold the SLO, first at step 0: closed 1"),
        (2, 1, "holds the SLO, last at step 2: closed 16; but not at step 1: closed 4"),
        (None, None, ""),
    ],
)
def test_levels_in_words(last: int | None, first: int | None, words: str) -> None:
    assert figures.levels({"last_within_slo": last, "first_beyond_slo": first}, STEPS) == words


@pytest.mark.parametrize(
    ("usd", "more", "words"),
    [
        (12.345, {"known": 1}, "12.35 USD, 12.35 a request that was ok, 12.35 per 1,000 tokens"),
        (0.04567, {}, "0.0457 USD, 0.0457 a request that was ok, 0.0457 per 1,000 tokens"),
        (
            None,
            {"known": 0.0},
            "– USD, – a request that was ok, – per 1,000 tokens; tokens are known of 0.00 % of ok requests",
        ),
        (
            1.0,
            {"usd_per_1k_good": 2.0, "usd_per_completed_task": 3.0, "unbilled_unknown": 4},
            "1.0000 USD, 1.0000 a request that was ok, 1.0000 per 1,000 tokens, 2.0000 per 1,000 good requests,"
            " 3.0000 a completed task; not in it: requests of unknown tokens that may be billed, 4",
        ),
    ],
)
def test_cost_in_words(usd: float | None, more: dict[str, float], words: str) -> None:
    found = dict.fromkeys(("usd", "usd_per_ok_request", "usd_per_1k_tokens", "usd_per_completed_task"), usd)
    assert figures.cost(found | {"known": None, "usd_per_1k_good": None, "unbilled_unknown": 0} | more) == words


def test_tokens_in_words() -> None:
    found: dict[str, Any] = dict.fromkeys(("input", "output", "reasoning", "cached"), 7) | {"source": "tokenizer"}
    words = "input 7, output 7, reasoning 7, cached 7 (source: tokenizer)"
    for reference, more in ((None, ""), (0, ""), (9_000, "; visible text in o200k_base 9,000")):
        assert figures.tokens(found | {"reference": reference, "reference_per_own": None}) == words + more
    own = {"reference": 12, "reference_per_own": 1.2}
    assert figures.tokens(found | own).endswith(" 12, 1.20 for each of its own")


def test_what_leads_says_where_values_are_too_few() -> None:
    entry = {
        "name": "generation_tokens_per_s",
        "n": 9,
        "percentiles": {"p50": 31.0, "p5": None},
        "need": {"p5": [72, 9]},
        "ci95": {"p50": [27.54, 33.31], "p5": None},
        "limit": 20.0,
    }
    words = "generation p50 31.0 tokens/s (27.5–33.4), p5 n/a ≥72, has 9 (limit at least 20 tokens/s)"
    assert figures.lead([entry]) == [words]


def test_an_interval_is_rounded_outwards() -> None:
    table = {"n": 900, "need": {}, "p50": 255.7, "p95": 9.87, "ci95": {"p50": [240.2, 277.1], "p95": [8.001, 1234.5]}}
    assert figures.interval(table, "p50") == "240–278"
    assert figures.interval(table, "p95") == "8.00–1235"
    assert figures.with_interval(table, "p50") == "255.7 (240–278)"
    assert figures.with_interval(table | {"need": {"p50": [6, 5]}, "p50": None}, "p50") == "n/a ≥6, has 5"
    assert figures.with_interval(table | {"ci95": {"p50": None}}, "p50") == "255.7"
    assert figures.interval(table | {"ci95": {"p50": [17.3, 17.3]}}, "p50") == "17.3–17.3"


def test_the_parts_of_a_spread_in_words() -> None:
    part = {"n": 60, "prompts": 20, "within": 1.16, "between": 1.53, "share_between": 0.8913}
    none = dict.fromkeys(("within", "between", "share_between"))
    found = {"repeat": 3, "metrics": {"ttft": part, "tpot": part | none}}
    words = "3 times; spread of TTFT ×1.16 within a prompt, ×1.53 between (89.13 % of the variance is the prompts')"
    assert figures.repeats(found) == words
    assert figures.repeats({"repeat": 3, "metrics": {}}) == "3 times; spread of nothing: too few answers"
    lead = {"name": "error_rate", "label": "error rate", "unit": "share", "value": 0.0125, "limit": None}
    assert figures.lead([lead]) == ["error rate 1.25 %"]


def test_a_warning_about_intervals_says_where_and_what_to_do() -> None:
    found = {"code": "dependent", "value": 14.26, "limit": 10.0, "where": {"ttft": ["p50", "p95"]}, "advice": "wait"}
    assert figures.warning(found) == "dependent: 14.26 (limit 10): p50, p95 of TTFT: wait"
    many = found | {"where": {"ttft": ["p50"], "e2e": ["p50"], "e2e_tokens_per_s": ["p5"], "tpot": ["p95"]}}
    assert figures.warning(many) == "dependent: 14.26 (limit 10): p50, p5, p95 of 4 metrics: wait"


@pytest.mark.parametrize(
    ("name", "limit", "shown"),
    [("e2e", 60_000.0, "60 s"), ("e2e", 1500.0, "1.5 s"), ("e2e", 999.0, "999 ms"), ("ttft", 1000.0, "1 s")],
)
def test_long_limits_are_said_in_seconds(name: str, limit: float, shown: str) -> None:
    endpoint = {"throughput": None, "good": 1, "good_share": 1.0, "meets_slo": None}
    assert figures.slo(endpoint, {name: limit}).split(":")[0].endswith(f" at most {shown}")
    table = {"name": name, "n": 0, "percentiles": {"p50": None}, "need": {}, "ci95": {"p50": None}, "limit": limit}
    assert figures.lead([table])[0].endswith(f"(limit {shown})")
    assert figures.slo(endpoint, {"e2e_tokens_per_s": 2000.0}).startswith("end to end at least 2000 tokens/s:")


def test_a_column_without_a_figure_is_left_out_and_what_it_needs_is_said() -> None:
    head = ["ms", "n", "p50", "p95", "p99", "other"]
    rows = [["a", "9", "1.0", "n/a ≥72", "n/a ≥368", "–"], ["b", "80", "–", "2.0", "–", "–"]]
    found, note = figures.trimmed(head, rows)
    assert found == (["ms", "n", "p50", "p95"], [["a", "9", "1.0", "n/a ≥72"], ["b", "80", "–", "2.0"]])
    assert note == "p99 needs at least 368 independent values"
    assert figures.trimmed(head, []) == ((head, []), "")
    assert figures.trimmed(head[:3], [row[:3] for row in rows])[1] == ""
    few = [["a", "n/a ≥72, has 9"], ["b", "n/a ≥368"], ["", "has 9"]]
    assert figures.trimmed(["ms", "p95"], few)[1] == "p95 needs at least 72 independent values"


def test_what_has_no_values_is_named_and_not_tabulated(one_step: dict[str, Any]) -> None:
    """As where answers are not streamed: no walls of dashes."""
    spoiled = json.loads(json.dumps(one_step))
    (name, endpoint), *_ = spoiled["endpoints"].items()
    spoiled["endpoints"] = {name: endpoint}
    parts = [endpoint, *endpoint["by_task"].values()]
    for metric in ("ttft_ms", "time_to_first_text_ms", "tpot_ms", "inter_chunk_ms", "generation_tokens_per_s"):
        for part in parts:
            part["metrics"][metric] |= {"n": 0, **dict.fromkeys(("p1", "p5", "p10", "p50", "p90", "p95", "p99"))}
    endpoint["metrics"]["ttft_response_ms"] = endpoint["metrics"]["ttft_ms"]
    lines = text_of(spoiled).splitlines()
    assert "no values: TTFT, time to first text, TPOT, inter-chunk, generation (tokens/s)" in lines
    assert not any(line.startswith(("TTFT", "TPOT", "time to first text", "inter-chunk")) for line in lines)
    assert not any(f" {figures.MISSING}" in line for line in lines if not line.startswith("tokens:"))
    (head,) = (line for line in lines if line.startswith("by task"))
    assert head.split()[2:] == ["ok", "end", "to", "end", "p50", "ms"]


def test_a_long_name_is_broken_and_no_figure_is(levels: dict[str, Any]) -> None:
    spoiled = json.loads(json.dumps(levels))
    for step in spoiled["steps"]:
        step["words"] = f"trace {'a' * 60}.csv"
    found = text_of(spoiled)
    assert "…" not in found
    assert all(len(line) <= 80 for line in found.splitlines())
    shown = set(found.split())
    for table in (figures.step_table, figures.step_times_table):
        for row in table("acme-large", spoiled["steps"])[1]:
            assert {word for cell in row[1:] for word in cell.split()} <= shown


def test_the_note_on_thin_slices_is_only_there_with_one(one_step: dict[str, Any]) -> None:
    spoiled = json.loads(json.dumps(one_step))
    assert figures.THIN_NOTE in text_of(spoiled)
    for endpoint in spoiled["endpoints"].values():
        for part in endpoint["by_task"].values():
            part["thin"] = False
    assert figures.THIN_NOTE not in text_of(spoiled)


def test_slices_without_one_figure_are_counted_and_not_shown(one_step: dict[str, Any]) -> None:
    (shown,) = one_step["endpoints"]["acme-large"]["by_tag"].values()
    none = one_step["endpoints"][[*one_step["endpoints"]][1]]["by_tag"]["short"]
    found, note = figures.slice_rows({"a": none, "b": shown, "c": none})
    assert ([row[0] for row in found], note) == (["b"], "2 of 3 left out: too few answers for a figure")
    assert figures.slice_rows({"b": shown})[1] == ""
