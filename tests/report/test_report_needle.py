"""The part of the reports about needle trials: within 80 columns, and every alarm in words."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from latbench.analysis.needle.block import block
from latbench.analysis.needle.findings import findings
from latbench.analysis.needle.paired import paired_block
from latbench.analysis.needle.promise import promise
from latbench.analysis.needle.trials import BASE, CLOSED_BOOK, Trials, columns
from latbench.model.needle import TrialOutcome
from latbench.report import needle, plan, text
from latbench.report.text import COLUMNS, Page

sys.path.append(str(Path(__file__).parents[1] / "analysis"))
from needle_models import (
    absents,
    answered,
    blind,
    canaries,
    control,
    cutting,
    perfect,
    planned,
    prefix_cached,
    simulated,
    wrong,
)


def said(trials: Trials) -> str:
    """The section as it stands in the report."""
    page = Page(COLUMNS, False)
    text._needle(page, block(findings(trials, 7)))
    shown = page.text()
    assert all(len(line) <= COLUMNS for line in shown.splitlines())
    return shown


def test_one_table_has_accuracy_its_interval_and_latency_by_depth() -> None:
    rows = [row._replace(e2e_ms=(row.ttft_ms or 0) + 200) for row in planned(np.random.default_rng(1), 80)]
    shown = said(columns(rows))
    head, _, first = shown[shown.index("depth") :].splitlines()[:3]
    assert head.split() == ["depth", "right", "accuracy", "(95", "%)", "TTFT", "p50", "p95", "total", "p50", "p95"]
    cells = first.split()
    assert cells[:6] == ["0–20", "%", "80/80", "100", "%", "(95–100)"]
    assert len(cells) == 10  # p50 and p95 of both: enough values
    assert "needle: bug at 10k tokens" in shown
    assert "needle: description at 10k tokens" in shown
    assert "by depth of bug at 10k: no effect of position found" in shown
    assert "TTFT against depth: flat, as it should be" in shown


def test_with_several_steps_each_has_its_own() -> None:
    found = block(findings(simulated(perfect, 20, kinds=["bug"]), 7))
    step = {"endpoints": {"sim": {"needle": found}}}
    other = {"index": 1, "endpoints": {"sim": {"needle": None}}}
    summary = {"steps": [{"index": 0} | step, other, {"index": 2} | step]}
    assert [where for where, _ in needle.blocks("sim", summary)] == [", step 0", ", step 2"]
    assert [title for title, _ in needle.tables(found, ", step 2")] == ["needle: bug at 10k tokens, step 2"]


def test_models_are_held_against_each_other() -> None:
    rows = [row._replace(trial=str(at)) for at, row in enumerate(planned(np.random.default_rng(1), 40, kinds=["bug"]))]
    trials = {"good": columns(rows), "blind": answered(rows, blind, np.random.default_rng(1)), "same": columns(rows)}
    steps = [{"index": at, "needle_pairs": found} for at, found in enumerate([None, paired_block(trials)])]
    (what, line), (_, alike), _ = needle.pairs({"steps": steps})
    assert what == "good against blind, bug, step 1"
    assert line == (
        "of 200 trials that both answered, good alone was right in 40, blind alone in 0;"
        " good finds more (40 to 0 blocks, p < 0.001 after Holm)"
    )
    assert alike.endswith("good alone was right in 0, same alone in 0; nothing tells them apart")
    one = dict(paired_block(trials)[0], p=0.2, better=None, blocks=[3, 2])
    ((_, line),) = needle.pairs({"steps": [{"needle_pairs": [one]}]})
    assert line.endswith("no difference shown (3 to 2 blocks, p 0.200 after Holm)")


def test_details_and_counts_are_said() -> None:
    rows = [
        row._replace(
            line_right=at > 0, f1=0.5, our_tokens=10_000, input_tokens=9_300, unread=at < 2, ttft_counts=at > 4
        )
        for at, row in enumerate(planned(np.random.default_rng(1), 20, kinds=["bug"]))
    ]
    shown = " ".join(said(columns(rows)).split())
    assert "the line too: 99 of 100 answers give it rightly" in shown
    assert "sets: F1 0.50 on average" in shown
    assert "lengths: in o200k_base, of which the endpoint counts 0.93 for each; `--scale 0.93` has them" in shown
    assert "answered unread: 2 answers came sooner than the prompt can be read" in shown
    assert "without TTFT: 3 of 100 trials, retried, of the warm-up, or cached in part" in shown


def test_alarms_are_said() -> None:
    assert "by depth: dip: the middle is" in said(simulated(blind, 50, kinds=["bug"]))
    cut = said(simulated(cutting(0.6), 30, kinds=["bug"]))
    assert "prompts cut at 10k: the head is missing, 60 % of it was read" in " ".join(cut.split())
    assert "incomplete: 150 of 150 trials have no answer" in cut
    cached = " ".join(said(simulated(prefix_cached, 50, kinds=["bug"])).split())
    assert "a cached prefix, it seems; its latency is not to be believed" in cached
    hidden = said(columns([*planned(np.random.default_rng(1), 20, kinds=["bug"]), *canaries(0, 10, 10)]))
    assert "prompts cut at 10k: the head is missing; nothing is said of position" in " ".join(hidden.split())


def test_controls_are_said() -> None:
    rows = [*planned(np.random.default_rng(1), 20, kinds=["bug"]), *absents(9, 10)]
    rows += control("bug", BASE, TrialOutcome.WRONG_DECOY, 10) + control("bug", CLOSED_BOOK, TrialOutcome.CORRECT, 5)
    shown = said(columns(rows))
    assert "absent controls: 9 of 10 named something: it answers regardless" in shown
    assert "without filler, bug: 0/10 right: too hard without any filler" in shown
    assert "without the code: 5 of 5 right: known beforehand, or leaked" in shown


def test_answers_that_are_none_are_said() -> None:
    rows = [wrong(row, TrialOutcome.FORMAT_ERROR) for row in planned(np.random.default_rng(1), 20, kinds=["bug"])]
    shown = said(columns(rows))
    assert "not right: format_error 100" in shown
    assert "degenerate: nearly every answer is format_error" in shown
    assert "chance: guessing reaches 8.3 %: no more than that was shown" in shown


def test_how_far_is_said_with_what_was_tested() -> None:
    rng = np.random.default_rng(1)
    rows = [row for length in (4_000, 8_000) for row in planned(rng, 25, length, ["bug"])]
    rows = [wrong(row) if row.length == 8_000 and row.depth > 0.6 else row for row in rows]
    shown = " ".join(said(columns(rows)).split())
    assert "effective context, bug: certified 4k, point 4k, in every depth 4k (at 85 %; tested 4k, 8k)" in shown
    assert "read reliably of bug at 8k: the first 4,800 and the last 0 tokens" in shown


def test_a_run_that_goes_on_with_another_says_so() -> None:
    assert needle.resumes({"resumes": "abc"}).startswith("goes on with run abc")
    assert needle.resumes({"resumes": None}) == ""


def test_slices_that_say_nothing_are_left_out() -> None:
    plain: Mapping[str, Any] = {"needle": None}
    assert needle.shown_slices(("turn", "task", "tag"), plain) == ("turn", "task", "tag")
    assert needle.shown_slices(("turn", "task", "tag"), {"needle": {}}) == ("turn", "tag")


def test_promises_are_said_once_for_all_lengths_of_which_they_are_the_same() -> None:
    lines = [*plan.promises([promise("bug", length, 25, (0.1, 0.3, 0.5, 0.7, 0.9)) for length in (4_000, 32_000)])]
    assert len(lines) == 1
    assert lines[0].startswith("bug at 4k, 32k: 125 trials: accuracy within 5 points, if 90 % are right; ")
    assert "too few to certify" in next(plan.promises([promise("bug", 1_500, 2, ())]))
    assert "not powered for position;" in next(plan.promises([promise("bug", 1_500, 2, ())]))
