"""Tests of position: exact where they can be, held against brute force, against SciPy, and against chance.

How often a flat accuracy is called something else (2026-11, seeded):

    50 blocks of five, 3,000 runs: a dip                 90 %: 4.7 %    60 %: 4.3 %
    50 trials at drawn depths, 3,000 runs: a dip         90 %: 5.0 %    60 %: 5.9 %
    two kinds, 50 blocks each, 400 runs: any shape       90 %: 4.3 %    TTFT trips: 1.3 %
    100 trials at drawn depths, 400 runs: any shape      85 %: 4.5 %
"""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from needle_models import STRATA, answered, drawn, flat, planned, simulated
from scipy import stats

from latbench.analysis.intervals import holm_of_known
from latbench.analysis.needle.findings import findings
from latbench.analysis.needle.position import (
    depth_bins,
    depth_edges,
    dip_of,
    ends_above_middle,
    exact_p,
    heterogeneity_p,
    is_blocked,
    position,
    score_z,
    trend_of,
    valley,
    weights,
)
from latbench.analysis.needle.trials import columns
from latbench.model.needle import TrialOutcome

DEPTHS = np.array(STRATA)
DIP, TREND = np.array([2, -1, -2, -1, 2]), np.array([-2, -1, 0, 1, 2])
tables = arrays(np.int8, st.tuples(st.integers(1, 4), st.just(3)), elements=st.integers(-1, 1))


# --- contrasts ------------------------------------------------------------------------------------------------------


def test_the_contrasts_of_five_strata_are_those_of_the_design():
    assert weights(DEPTHS, 2) is not None
    assert weights(DEPTHS, 2).tolist() == DIP.tolist()
    assert weights(DEPTHS, 1).tolist() == TREND.tolist()
    assert weights(np.array([0.1, 0.5, 0.9]), 2).tolist() == [1, -2, 1]
    assert weights(np.array([0.2, 0.8]), 2) is None
    assert weights(np.array([0.2]), 1) is None


@given(st.lists(st.integers(0, 100), min_size=3, max_size=9, unique=True), st.sampled_from([1, 2]))
def test_any_depths_have_contrasts(percents: list[int], degree: int):
    depths = np.array(sorted(percents)) / 100
    found = weights(depths, degree)
    assert found is not None
    assert np.abs(found).max() >= 1
    assert abs(found.sum()) <= len(found) / 2  # rounded, so nearly nothing
    assert found[-1] >= 0  # a depth far from its neighbours may be rounded away
    assert found[0] >= 0 if degree == 2 else found[0] <= 0
    assert found.min() < 0 < found.max()


# --- within blocks --------------------------------------------------------------------------------------------------


def brute_force(table: np.ndarray, contrast: np.ndarray, two_sided: bool) -> float | None:
    """The p-value by going through every deal of every block."""
    rows = [row for row in table if 0 < (row > 0).sum() < (row >= 0).sum()]
    if not rows:
        return None
    deals = []
    for row in rows:
        present = np.flatnonzero(row >= 0)
        deals.append([int(contrast[present] @ np.array(deal)) for deal in permutations(row[present].tolist())])
    totals = np.array([sum(deal) for deal in product(*deals)])
    observed = sum(int(contrast[row > 0].sum()) for row in rows)
    if two_sided:
        return float(np.mean(np.abs(totals - totals.mean()) >= abs(observed - totals.mean()) - 1e-9))
    return float(np.mean(totals >= observed))


@given(tables, st.booleans())
def test_the_exact_p_value_is_that_of_all_deals(table: np.ndarray, two_sided: bool):
    contrast = np.array([1, -2, 1])
    found, expected = exact_p(table, contrast, two_sided=two_sided), brute_force(table, contrast, two_sided)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found == pytest.approx(expected, abs=1e-9)


@given(tables)
def test_the_order_of_blocks_changes_nothing(table: np.ndarray):
    contrast, mixed = np.array([1, -2, 1]), table[np.argsort(np.random.default_rng(1).random(len(table)))]
    first, second = exact_p(table, contrast, two_sided=False), exact_p(mixed, contrast, two_sided=False)
    assert first == (None if second is None else pytest.approx(second))


@given(tables)
def test_blocks_that_are_all_right_or_all_wrong_change_nothing(table: np.ndarray):
    more = np.vstack([table, np.ones((2, 3), np.int8), np.zeros((2, 3), np.int8)])
    assert exact_p(more, np.array([1, -2, 1]), two_sided=True) == exact_p(table, np.array([1, -2, 1]), two_sided=True)


def test_a_wider_dip_has_a_smaller_p_value():
    table = np.ones((50, 5), np.int8)
    found = []
    for wrong in (5, 10, 20):
        table[:wrong, 2] = 0
        found.append(exact_p(table, DIP, two_sided=False))
    assert found == sorted(found, reverse=True)
    assert found[-1] is not None
    assert found[-1] < 1e-6


def test_cochrans_q_is_that_of_the_books():
    """Against the chi-square that Q has for many blocks: for 400 of them, the two p-values are close."""
    rng = np.random.default_rng(4)
    for accuracies in (np.full(5, 0.8), np.array([0.8, 0.8, 0.72, 0.8, 0.8])):
        table = (rng.random((400, 5)) < accuracies).astype(np.int8)
        totals, per_block = table.sum(axis=0), table.sum(axis=1)
        q = 4 * (5 * (totals**2).sum() - totals.sum() ** 2) / (5 * per_block.sum() - (per_block**2).sum())
        found = heterogeneity_p(table, seed=1)
        assert found == pytest.approx(stats.chi2.sf(q, 4), abs=0.02)


def test_heterogeneity_of_blocks_with_missing_trials():
    table = np.array([[1, 0, -1], [0, 1, 1], [1, 1, 0], [-1, 1, 0], [-1, -1, 1]], np.int8)
    found = heterogeneity_p(table, seed=1)
    assert found is not None
    assert 0 < found <= 1
    assert heterogeneity_p(np.ones((4, 3), np.int8), seed=1) is None


def test_shuffled_depth_labels_give_uniform_p_values():
    """The placebo of the design: under it, small p-values are as rare as they claim to be."""
    rng = np.random.default_rng(8)
    table = (rng.random((40, 5)) < np.array([0.9, 0.7, 0.4, 0.7, 0.9])).astype(np.int8)
    found = []
    for _ in range(300):
        p = exact_p(rng.permuted(table, axis=1), TREND, two_sided=True)
        assert p is not None
        found.append(p)
    for level in (0.05, 0.2, 0.5, 0.8):
        expected = np.mean(np.array(found) <= level)
        assert stats.binomtest(round(expected * 300), 300, level).pvalue > 1e-4


# --- drawn depths ---------------------------------------------------------------------------------------------------


def test_the_score_of_a_line_is_cochran_and_armitages():
    """z of the trend is sqrt(n) times the correlation of outcome and depth: the textbook's statistic."""
    rng = np.random.default_rng(2)
    depth = rng.random(80)
    right = (rng.random(80) < 0.5 + 0.4 * depth).astype(np.float64)
    assert score_z(right, depth, 1) == pytest.approx(np.sqrt(80) * np.corrcoef(right, depth)[0, 1])


def test_scores_where_there_is_nothing_to_score():
    depth = np.linspace(0, 1, 20)
    assert score_z(np.ones(20), depth, 2) is None
    assert score_z(np.array([1.0, 0.0]), depth[:2], 2) is None
    assert score_z(np.array([1.0, 0.0] * 10), np.full(20, 0.5), 1) is None
    step = (depth > 0.5).astype(np.float64)
    assert score_z(step, depth, 2) == pytest.approx(0, abs=1e-3)  # the line separates: nothing is left for a dip


@given(arrays(np.float64, 30, elements=st.sampled_from([0.0, 1.0])))
def test_a_mirrored_file_has_the_same_dip_and_the_opposite_trend(right: np.ndarray):
    assume(0 < right.sum() < 30)
    depth = np.random.default_rng(1).random(30)
    dip, mirrored = score_z(right, depth, 2), score_z(right, 1 - depth, 2)
    trend, opposite = score_z(right, depth, 1), score_z(right, 1 - depth, 1)
    assert None not in (dip, mirrored, trend, opposite)
    assert dip == pytest.approx(mirrored, abs=1e-4)
    assert trend == pytest.approx(-opposite, abs=1e-6)


def test_drawn_depths_of_one_part_of_the_file_only():
    rows = [row._replace(depth=0.1 + row.depth / 20) for row in drawn(np.random.default_rng(1), 30)]
    found = position(columns(rows), seed=1)
    assert not ends_above_middle(found)
    assert np.isnan(found.accuracy).sum() == 4
    assert (found.dip, found.trend, found.p_any) == (None, None, None)


# --- what is shown --------------------------------------------------------------------------------------------------


def test_a_dip_is_measured_as_it_is_spoken_of():
    accuracy = 0.9 - 0.2 * valley(DEPTHS)
    assert dip_of(DEPTHS, accuracy) == pytest.approx(0.2)
    assert trend_of(DEPTHS, accuracy) == pytest.approx(0)
    assert dip_of(DEPTHS, 0.5 + 0.3 * DEPTHS) == pytest.approx(0)
    assert trend_of(DEPTHS, 0.5 + 0.3 * DEPTHS) == pytest.approx(0.3 * 0.8)
    assert dip_of(DEPTHS[:2], accuracy[:2]) is None
    assert trend_of(DEPTHS[:1], accuracy[:1]) is None


def test_two_strata_have_a_trend_and_no_dip():
    rows = [row for row in planned(np.random.default_rng(1), 20, kinds=("bug",)) if row.stratum in (0.1, 0.9)]
    rows = [row._replace(outcome=TrialOutcome.WRONG_DECOY, right=False) if row.stratum == 0.1 else row for row in rows]
    (one,) = findings(columns(rows), seed=1).lengths
    assert (one.depth.tests.p_dip, one.depth.shapes, one.depth.detectable) == (None, ("recency",), None)


def test_cells_go_by_actual_depth():
    trials = columns(planned(np.random.default_rng(1), 3, kinds=("bug",)))
    depths, part = depth_bins(trials)
    assert depths.tolist() == list(STRATA)
    edges = depth_edges(depths)
    assert edges == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert all(edges[at] <= depth <= edges[at + 1] for at, depth in zip(part, trials.depth, strict=True))


def test_what_is_blocked():
    assert is_blocked(columns(planned(np.random.default_rng(1), 2)))
    assert not is_blocked(columns(drawn(np.random.default_rng(1), 5)))
    assert not is_blocked(columns([]))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm(p_values: list[float | None]):
    found = holm_of_known(p_values)
    assert [one is None for one in found] == [one is None for one in p_values]
    known = [(p, corrected) for p, corrected in zip(p_values, found, strict=True) if p is not None]
    assert all(p <= corrected <= 1 for p, corrected in known)
    assert [corrected for _, corrected in sorted(known)] == sorted(corrected for _, corrected in known)


def test_holm_of_the_books():
    assert holm_of_known([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_of_known([0.01, None, 0.04]) == [0.02, None, 0.04]


# --- simulation studies ---------------------------------------------------------------------------------------------


def share_of_dips(p_values: list[float | None]) -> float:
    return float(np.mean([p is not None and p <= 0.05 for p in p_values]))


def test_a_flat_accuracy_gives_few_dips():
    rng = np.random.default_rng(5)
    tables = ((rng.random((50, 5)) < 0.9).astype(np.int8) for _ in range(150))
    assert share_of_dips([exact_p(table, DIP, two_sided=False) for table in tables]) < 0.12


@pytest.mark.long
@pytest.mark.parametrize("accuracy", [0.9, 0.6])
def test_flat_accuracy_gives_a_dip_no_more_often_than_it_may(accuracy: float):
    rng, runs = np.random.default_rng(5), 3_000
    tables = ((rng.random((50, 5)) < accuracy).astype(np.int8) for _ in range(runs))
    assert share_of_dips([exact_p(table, DIP, two_sided=False) for table in tables]) < 0.06
    z = []
    for _ in range(runs):
        z.append(score_z((rng.random(50) < accuracy).astype(np.float64), rng.random(50), 2))
    assert np.mean([one is not None and one > stats.norm.isf(0.05) for one in z]) < 0.065


@pytest.mark.long
def test_strong_differences_between_items_give_no_dips_either():
    rng = np.random.default_rng(6)
    p_values = []
    for _ in range(2_000):
        difficulty = 1 / (1 + np.exp(-(2.5 + 1.5 * rng.standard_normal((50, 1)))))
        p_values.append(exact_p((rng.random((50, 5)) < difficulty).astype(np.int8), DIP, two_sided=False))
    assert share_of_dips(p_values) < 0.06


@pytest.mark.long
def test_a_flat_run_states_a_shape_in_at_most_a_twentieth():
    stated = 0
    for seed in range(200):
        found = findings(simulated(flat(0.9), seed=seed), seed=seed)
        stated += any(one.depth.shapes for one in found.lengths)
    assert stated / 200 < 0.09  # 5 %, and what 200 runs can be off by


@pytest.mark.long
def test_heterogeneity_and_ttft_keep_their_levels():
    rng = np.random.default_rng(9)
    tables = ((rng.random((50, 5)) < 0.9).astype(np.int8) for _ in range(500))
    assert share_of_dips([heterogeneity_p(table, seed, 999) for seed, table in enumerate(tables)]) < 0.085
    tripped = sum(findings(simulated(flat(0.9), blocks=4, seed=seed), seed).timing.tripped for seed in range(400))
    assert tripped / 400 < 0.03


@pytest.mark.long
def test_drawn_depths_state_shapes_no_more_often_than_they_may():
    rng, stated = np.random.default_rng(10), 0
    for seed in range(200):
        (one,) = findings(answered(drawn(rng, 100), flat(0.85), rng), seed).lengths
        stated += bool(one.depth.shapes)
    assert stated / 200 < 0.09
