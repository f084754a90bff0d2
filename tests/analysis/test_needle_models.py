"""The models of the design, as data: perfect, guessing, blind in the middle, truncating, cached, out of format."""

from dataclasses import fields

import numpy as np
import pytest
from needle_models import (
    KINDS,
    absents,
    answered,
    blind,
    canaries,
    cutting,
    drawn,
    flat,
    guessing,
    perfect,
    planned,
    prefix_cached,
    simulated,
    unformatted,
)

from latbench.analysis.needle.findings import DIP, INCOMPLETE, PRIMACY, RECENCY, TRUNCATED, Findings, findings
from latbench.analysis.needle.trials import TrialRow, Trials, columns
from latbench.analysis.needle.truncation import HEAD, TAIL, UNKNOWN
from latbench.model.needle import TrialOutcome


def both(*parts: Trials) -> Trials:
    return Trials(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Trials)))


def shapes(found: Findings) -> set[str]:
    return {shape for one in found.lengths for shape in one.depth.shapes}


def test_a_perfect_model_has_everything_at_every_depth():
    rng = np.random.default_rng(1)
    rows = [row for length in (4_000, 10_000) for row in planned(rng, 50, length, ("constant", "bug", "description"))]
    found = findings(columns([*rows, *absents(0, 30)]), seed=7)
    assert len(found.lengths) == 6
    for one in found.lengths:
        assert one.share.accuracy == one.share.success == 1.0
        assert [cell.share.accuracy for cell in one.cells] == [1.0] * 5
        assert sum(cell.share.planned for cell in one.cells) == 250
        assert (one.depth.shapes, one.depth.silent, one.depth.p_dip) == ((), None, None)
        assert one.depth.powered
        assert (one.ends.head_tokens, one.ends.tail_tokens) == (one.length, one.length)
        assert one.outcomes == {"correct": 250}
    for context in found.contexts:
        assert context.point.tokens == context.certified.tokens == context.worst_stratum.tokens == 10_000
        assert context.certified.open_ended
        assert context.relative is None
    assert not found.timing.tripped
    assert found.absent is not None
    assert not found.absent.answers_regardless
    assert found.degenerate is None


def test_a_guessing_model_is_at_chance():
    found = findings(simulated(guessing), seed=7)
    for one in found.lengths:
        assert one.share.at_chance
        assert all(cell.share.at_chance for cell in one.cells)
        assert one.depth.shapes == ()
    assert all(context.certified.tokens is None for context in found.contexts)
    assert not any(one.share.at_chance for one in findings(simulated(flat(0.5)), seed=7).lengths)


def test_a_model_that_is_blind_in_the_middle_has_a_dip():
    for seed in range(5):
        found = findings(simulated(blind, seed=seed), seed=seed)
        for one in found.lengths:
            assert one.depth.shapes == (DIP,)
            assert one.depth.p_dip is not None
            assert one.depth.p_dip < 1e-6
            assert one.cells[2].share.correct == 0
            assert one.ends.head_tokens == one.ends.tail_tokens == 4_000


@pytest.mark.parametrize("kept", [0.95, 0.7, 0.55, 0.4, 0.2, 0.08])
def test_a_cut_head_is_a_verdict_and_no_dip(kept: float):
    found = findings(simulated(cutting(kept)), seed=7)
    (verdict,) = found.truncation
    assert verdict.cut == HEAD or (kept > 0.9 and verdict.cut is not None)
    assert verdict.read_share == pytest.approx(kept)
    assert verdict.short == verdict.counted == 500
    assert shapes(found) == set()
    assert {one.depth.silent for one in found.lengths} == {TRUNCATED}
    assert all(one.outcomes == {"truncated_prompt": 250} for one in found.lengths)
    assert all(context.certified.tokens is None for context in found.contexts)


def test_a_cut_head_that_nobody_counts_is_found_by_the_canaries():
    rng = np.random.default_rng(3)
    rows = [cutting(0.55, counts=False)(rng, row) for row in planned(rng, 50)]
    found = findings(columns([*rows, *canaries(0, 10, 10)]), seed=7)
    assert found.truncation[0].cut == HEAD
    assert found.truncation[0].canaries == ((0, 10), (10, 10))
    assert shapes(found) == set()
    without = findings(columns(rows), seed=7)
    assert without.truncation[0].cut is None
    assert shapes(without) == {RECENCY}  # a step is no dip, whatever the quadratic contrast says


def test_a_cliff_is_no_dip_though_the_contrast_is_large():
    for one in findings(simulated(cutting(0.4, counts=False)), seed=7).lengths:
        assert one.depth.p_dip is not None
        assert one.depth.p_dip < 0.05
        assert one.depth.shapes == (RECENCY,)


def test_a_cut_tail_is_told_from_a_cut_head():
    def keeps_head(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
        outcome = TrialOutcome.TRUNCATED_PROMPT
        return row._replace(outcome=outcome, right=row.depth < 0.5, input_tokens=5_000)

    assert findings(simulated(keeps_head), seed=7).truncation[0].cut == TAIL
    assert findings(both(simulated(perfect), columns(canaries(10, 0, 10))), seed=7).truncation[0].cut == TAIL
    assert findings(both(simulated(perfect), columns(canaries(3, 0, 10))), seed=7).truncation[0].cut is None
    assert findings(both(simulated(perfect), columns(canaries(10, 10, 10)[:10])), seed=7).truncation[0].cut is None


def test_a_cut_that_left_one_half_untried_has_no_known_end():
    rows = [cutting(0.5)(np.random.default_rng(1), row) for row in planned(np.random.default_rng(1), 5)]
    found = findings(columns(row for row in rows if row.depth > 0.6), seed=7)
    assert found.truncation[0].cut == UNKNOWN


def test_a_block_with_one_timed_trial_says_nothing_of_depth():
    rows = list(planned(np.random.default_rng(1), 2, kinds=("bug",)))
    rows = [row._replace(ttft_ms=None) if 0 < at < 5 else row for at, row in enumerate(rows)]
    assert findings(columns(rows), seed=7).timing.n == 5


def test_one_short_count_is_no_verdict():
    rng = np.random.default_rng(1)
    rows = list(planned(rng, 50))
    rows[0] = rows[0]._replace(input_tokens=100, outcome=TrialOutcome.TRUNCATED_PROMPT)
    found = findings(columns(rows), seed=7)
    assert (found.truncation[0].short, found.truncation[0].cut) == (1, None)


def test_a_prefix_cache_trips_the_control_of_ttft():
    for seed in range(5):
        timing = findings(simulated(prefix_cached, blocks=10, seed=seed), seed=seed).timing
        assert timing.tripped
        assert timing.cached_prefix
        assert timing.change is not None
        assert timing.change < -0.5
    rng = np.random.default_rng(1)
    assert findings(answered(drawn(rng, 100), prefix_cached, rng), seed=1).timing.cached_prefix
    assert not findings(answered(drawn(rng, 100), perfect, rng), seed=1).timing.tripped


def test_a_queue_that_fills_up_hides_no_cache_and_is_none():
    """Fifty requests at once wait longer and longer; depth is drawn for each of them."""

    def queued(seed: int, cached: bool) -> Findings:
        rows = drawn(np.random.default_rng(seed), 100)
        waiting = [row._replace(ttft_ms=(row.ttft_ms or 0) * (1 + min(at, 50))) for at, row in enumerate(rows)]
        return findings(columns(prefix_cached(np.random.default_rng(), one) if cached else one for one in waiting), 7)

    assert all(queued(seed, True).timing.cached_prefix for seed in range(5))
    assert sum(queued(seed, False).timing.tripped for seed in range(20)) <= 1


def test_what_does_not_count_for_ttft_trips_nothing():
    rows = [row._replace(ttft_counts=False) for row in planned(np.random.default_rng(1), 10)]
    found = findings(columns([prefix_cached(np.random.default_rng(1), row) for row in rows]), seed=1)
    assert (found.timing.n, found.timing.p) == (0, None)
    assert found.lengths[0].ttft_ms["n"] == 0


def test_the_wrong_format_is_told_from_not_finding_anything():
    found = findings(simulated(unformatted), seed=7)
    assert found.degenerate == "format_error"
    assert all(one.outcomes == {"format_error": 250} for one in found.lengths)
    assert all(one.share.accuracy == 0.0 for one in found.lengths)
    assert shapes(found) == set()


def test_row_28_always_absent_is_degenerate():
    def nothing(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
        return row._replace(outcome=TrialOutcome.FALSE_ABSENT, right=False)

    rows = [nothing(np.random.default_rng(1), row) for row in planned(np.random.default_rng(1), 5)]
    found = findings(columns([*rows, *absents(0, 10)]), seed=7)
    assert found.degenerate == "false_absent"
    assert all(one.share.accuracy == 0 for one in found.lengths)
    assert found.absent is not None
    assert (found.absent.present, found.absent.answered) == (0, 10)


def test_fifty_requests_at_drawn_depths_are_not_powered_for_position():
    rng = np.random.default_rng(1)
    for trials in (50, 100):
        (one,) = findings(answered(drawn(rng, trials), flat(0.9), rng), seed=7).lengths
        assert not one.depth.tests.blocked
        assert not one.depth.powered
        assert one.share.ci95 is not None
        assert sum(cell.share.planned for cell in one.cells) == trials
    (one,) = findings(answered(drawn(rng, 400), blind, rng), seed=7).lengths
    assert DIP in one.depth.shapes


def test_a_cell_with_too_much_missing_claims_nothing():
    def failing(rng: np.random.Generator, row: TrialRow) -> TrialRow:
        lost = rng.random() < 0.1
        return row._replace(outcome=TrialOutcome.TIMEOUT, right=False) if lost else blind(rng, row)

    found = findings(simulated(failing), seed=7)
    assert {one.depth.silent for one in found.lengths} == {INCOMPLETE}
    assert shapes(found) == set()
    share = found.lengths[0].share
    assert share.incomplete
    assert share.accuracy is not None
    assert share.worst < share.accuracy < share.best


@pytest.mark.parametrize(("better", "shape"), [(True, RECENCY), (False, PRIMACY)])
def test_a_trend_has_a_name(better: bool, shape: str):
    def sloping(rng: np.random.Generator, row: TrialRow) -> TrialRow:
        depth = row.depth if better else 1 - row.depth
        return row if rng.random() < 0.5 + 0.5 * depth else row._replace(outcome=TrialOutcome.HALLUCINATED, right=False)

    assert shapes(findings(simulated(sloping), seed=7)) == {shape}


def test_the_same_trials_and_seed_give_the_same_findings():
    trials = simulated(flat(0.8), blocks=20)
    first, second = findings(trials, seed=3), findings(trials, seed=3)
    assert first.timing == second.timing
    assert first.pooled == second.pooled
    assert [one.depth.p_any for one in first.lengths] == [one.depth.p_any for one in second.lengths]
    assert set(first.pooled) == set(KINDS)


def test_nothing_at_all():
    found = findings(columns([]), seed=1)
    assert (found.lengths, found.contexts, found.absent, found.degenerate) == ((), (), None, None)


def test_trials_of_which_none_was_answered():
    def lost(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
        return row._replace(outcome=TrialOutcome.WITHDRAWN, right=False, ttft_ms=None)

    found = findings(simulated(lost, blocks=3), seed=1)
    for one in found.lengths:
        assert (one.share.accuracy, one.share.success, one.share.sent) == (None, None, 0)
        assert one.depth.detectable is None
        assert one.share.at_chance
    assert set(found.pooled.values()) == {None}


def test_how_far_off_wrong_answers_looked():
    rows = [row._replace(named_depth=0.5) for row in planned(np.random.default_rng(1), 4, kinds=("bug",))]
    rows = [
        row if at % 2 else row._replace(outcome=TrialOutcome.WRONG_DECOY, right=False) for at, row in enumerate(rows)
    ]
    (one,) = findings(columns(rows), seed=1).lengths
    assert len(one.distances) == 10
    assert np.abs(one.distances).max() <= 0.5
