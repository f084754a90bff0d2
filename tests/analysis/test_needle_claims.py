"""Bounds, effective context, reliable ends, controls, pairs: what is claimed, and when it is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needle_models import STRATA, absents, answered, control, flat, perfect, planned, wrong
from scipy import stats

from latbench.analysis.needle.context import Walk, effective_context, reliable_ends, walk
from latbench.analysis.needle.controls import absent, bases, closed_book, degenerate
from latbench.analysis.needle.findings import findings
from latbench.analysis.needle.paired import paired, paired_block
from latbench.analysis.needle.shares import blocks_interval, least_all_correct, lower_bound, share, upper_bound
from latbench.analysis.needle.trials import ABSENT, BASE, CANARY, CLOSED_BOOK, ORDINARY, TrialRow, columns
from latbench.model.needle import TrialOutcome
from latbench.needle.trial import Control

counts = st.integers(1, 400).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))


def test_the_words_for_controls_are_those_of_the_recipes():
    assert {ORDINARY, ABSENT, BASE, CLOSED_BOOK, CANARY} == set(Control)


# --- bounds ---------------------------------------------------------------------------------------------------------


@given(counts)
def test_bounds_are_those_of_scipy(counted: tuple[int, int]):
    count, of = counted
    test = stats.binomtest(count, of)
    lower = stats.binomtest(count, of, alternative="greater").proportion_ci(0.95).low
    upper = stats.binomtest(count, of, alternative="less").proportion_ci(0.95).high
    assert lower_bound(count, of) == pytest.approx(lower, abs=1e-9)
    assert upper_bound(count, of) == pytest.approx(upper, abs=1e-9)
    assert lower_bound(count, of) <= test.statistic <= upper_bound(count, of)


@given(counts)
def test_bounds_rise_with_what_is_right_and_fall_with_what_is_wrong(counted: tuple[int, int]):
    count, of = counted
    assert lower_bound(count, of + 1) <= lower_bound(count, of) <= lower_bound(count + 1, of + 1)
    assert upper_bound(count, of + 1) <= upper_bound(count, of) <= upper_bound(count + 1, of + 1)


def test_bounds_of_nothing():
    assert (lower_bound(0, 0), upper_bound(0, 0)) == (0.0, 1.0)


@pytest.mark.parametrize(("of", "proven"), [(10, 0.74), (20, 0.86), (30, 0.905), (50, 0.942), (59, 0.95), (299, 0.99)])
def test_what_all_correct_runs_prove(of: int, proven: float):
    assert lower_bound(of, of) == pytest.approx(proven, abs=0.003)


@pytest.mark.parametrize(("threshold", "trials"), [(0.85, 19), (0.9, 29), (0.95, 59)])
def test_the_least_that_proves_a_threshold(threshold: float, trials: int):
    assert least_all_correct(threshold) == trials
    assert lower_bound(trials, trials) >= threshold > lower_bound(trials - 1, trials - 1)


@pytest.mark.parametrize(
    ("n", "correct", "half"), [(50, 45, 0.085), (100, 90, 0.06), (150, 135, 0.05), (400, 360, 0.03)]
)
def test_the_width_of_wilsons_interval_is_that_of_the_design(n: int, correct: int, half: float):
    rows = control("bug", ORDINARY, TrialOutcome.CORRECT, correct) + control(
        "bug", ORDINARY, TrialOutcome.OVERLONG, n - correct
    )
    found = share(columns(rows))
    assert found.ci95 is not None
    assert (found.ci95[1] - found.ci95[0]) / 2 == pytest.approx(half, abs=0.005)


def test_both_denominators():
    rows = [
        *control("bug", ORDINARY, TrialOutcome.CORRECT, 6),
        *control("bug", ORDINARY, TrialOutcome.FORMAT_ERROR, 2),
        *control("bug", ORDINARY, TrialOutcome.TIMEOUT, 1),
        *control("bug", ORDINARY, TrialOutcome.WITHDRAWN, 1),
    ]
    found = share(columns(rows))
    assert (found.accuracy, found.success) == (6 / 8, 6 / 9)
    assert (found.planned, found.sent, found.answered, found.missing) == (10, 9, 8, 2)
    assert found.incomplete
    assert (found.worst, found.best) == (0.6, 0.8)


def test_whole_blocks_are_drawn():
    """Blocks that are all right or all wrong make the interval wider than single trials would."""
    rows = [
        row if int(row.block.split("-")[2]) % 2 else wrong(row)
        for row in planned(np.random.default_rng(1), 40, kinds=("bug",))
    ]
    trials = columns(rows)
    low, high = blocks_interval(trials, seed=1) or (0, 0)
    wilson = share(trials).ci95 or (0, 0)
    assert high - low > 1.5 * (wilson[1] - wilson[0])
    assert low < 0.5 < high


# --- effective context ----------------------------------------------------------------------------------------------


def decaying(accuracies: dict[int, float], blocks: int = 25, seed: int = 1) -> list[TrialRow]:
    """One kind, exactly so many right at each length."""
    rows = []
    for length, accuracy in accuracies.items():
        made = list(planned(np.random.default_rng(seed), blocks, length, ("bug",)))
        right = round(accuracy * len(made))
        order = np.random.default_rng(seed + length).permutation(len(made))
        rows += [made[at] if place < right else wrong(made[at]) for place, at in enumerate(order)]
    return rows


def test_the_walk_ends_at_the_first_failure():
    lengths = [4, 8, 16, 32]
    assert walk(lengths, lambda at: at < 2) == Walk(8, False, ())
    assert walk(lengths, lambda at: True) == Walk(32, True, ())
    assert walk(lengths, lambda at: False) == Walk(None, False, ())
    assert walk(lengths, lambda at: at != 1) == Walk(4, False, (16, 32))
    assert walk([], lambda at: True) == Walk(None, False, ())


@given(st.lists(st.booleans(), max_size=7), st.lists(st.booleans(), max_size=7))
def test_passing_more_never_shortens_the_walk(some: list[bool], more: list[bool]):
    size = min(len(some), len(more))
    lengths, weak = list(range(1, size + 1)), some[:size]
    strong = [one or other for one, other in zip(weak, more, strict=False)]
    assert (walk(lengths, weak.__getitem__).tokens or 0) <= (walk(lengths, strong.__getitem__).tokens or 0)


def test_point_and_certified_differ_by_the_evidence():
    rows = decaying({4_000: 1.0, 8_000: 0.96, 16_000: 0.88, 32_000: 0.70, 64_000: 0.92})
    found = effective_context("bug", columns(rows), None, seed=1)
    assert found.point == Walk(16_000, False, (64_000,))
    assert found.certified == Walk(8_000, False, (64_000,))
    assert found.lengths == (4_000, 8_000, 16_000, 32_000, 64_000)
    assert found.relative is None
    few = effective_context("bug", columns(decaying({4_000: 1.0, 8_000: 1.0}, blocks=2)), None, seed=1)
    assert (few.point.tokens, few.certified.tokens) == (8_000, None)


def test_relative_is_to_ones_own_base():
    rows = decaying({4_000: 0.8, 8_000: 0.76, 16_000: 0.4})
    base = [row._replace(control=BASE, length=1_000) for row in decaying({4_000: 0.82})]
    found = effective_context("bug", columns(rows), columns(base), seed=1)
    assert found.point.tokens is None
    assert found.relative == Walk(4_000, False, ()) or found.relative == Walk(8_000, False, ())
    nothing = columns([wrong(row) for row in base])
    assert effective_context("bug", columns(rows), nothing, seed=1).relative == Walk(None, False, ())


def test_a_handful_of_right_answers_is_not_relative_to_anything():
    rows = decaying({4_000: 1.0}, blocks=3)
    base = columns([row._replace(control=BASE, length=1_000) for row in rows])
    assert effective_context("bug", columns(rows), base, seed=1).relative == Walk(None, False, ())
    more = decaying({4_000: 1.0}, blocks=4)
    base = columns([row._replace(control=BASE, length=1_000) for row in more])
    assert effective_context("bug", columns(more), base, seed=1).relative == Walk(4_000, True, ())


def test_a_length_that_is_refused_ends_every_walk():
    rows = decaying({4_000: 1.0, 8_000: 1.0})
    rows = [
        row._replace(outcome=TrialOutcome.CONTEXT_OVERFLOW, right=False) if row.length == 8_000 else row for row in rows
    ]
    found = effective_context("bug", columns(rows), None, seed=1)
    assert (found.refused, found.certified.tokens, found.certified.open_ended) == (8_000, 4_000, False)


def test_what_is_missing_certifies_nothing():
    made = decaying({4_000: 1.0})
    rows = [row._replace(outcome=TrialOutcome.TIMEOUT) if at % 5 == 0 else row for at, row in enumerate(made)]
    found = effective_context("bug", columns(rows), None, seed=1)
    assert (found.point.tokens, found.certified.tokens) == (4_000, None)


def test_the_worst_stratum_is_held_to_the_same_threshold():
    made = list(planned(np.random.default_rng(1), 40, 4_000, ("bug",)))
    rows = [wrong(row) if at % 20 == 0 else row for at, row in enumerate(made)]  # a quarter of the first stratum
    found = effective_context("bug", columns(rows), None, seed=1)
    assert found.certified.tokens == 4_000
    assert found.worst_stratum.tokens is None
    assert effective_context("bug", columns(made), None, seed=1).worst_stratum.tokens == 4_000


@pytest.mark.long
@pytest.mark.parametrize(("blocks", "understates"), [(5, 0.9), (25, 0.45)])
def test_certified_does_not_overstate(blocks: int, understates: float):
    """The design's table: with 125 trials a length, certified is right or too short, and point rarely too long."""
    truth = {4_000: 0.99, 8_000: 0.97, 16_000: 0.94, 32_000: 0.80, 64_000: 0.6}
    rng, over, under = np.random.default_rng(1), 0, 0
    for seed in range(60):
        rows = [flat(p)(rng, row) for length, p in truth.items() for row in planned(rng, blocks, length, ("bug",))]
        found = effective_context("bug", columns(rows), None, seed).certified.tokens or 0
        over += found > 16_000
        under += found < 16_000
    assert over / 60 <= 0.05
    assert under / 60 <= understates or blocks == 5


# --- the ends of a file ---------------------------------------------------------------------------------------------


def test_reliable_head_and_tail():
    made = list(planned(np.random.default_rng(1), 25, kinds=("bug",)))
    rows = [wrong(row) if 0.4 <= row.depth < 0.8 else row for row in made]
    found = reliable_ends("bug", 10_000, columns(rows))
    assert (found.head_tokens, found.tail_tokens) == (4_000, 2_000)
    whole = reliable_ends("bug", 10_000, columns(made))
    assert (whole.head_tokens, whole.tail_tokens) == (10_000, 10_000)
    none = reliable_ends("bug", 10_000, columns(map(wrong, made)))
    assert (none.head_tokens, none.tail_tokens) == (0, 0)


# --- controls -------------------------------------------------------------------------------------------------------


def test_naming_something_in_any_case():
    assert absent(columns([])) is None
    some, many = absent(columns(absents(3, 30))), absent(columns(absents(9, 30)))
    assert some is not None
    assert many is not None
    assert not some.answers_regardless
    assert many.answers_regardless
    assert many.lower == lower_bound(9, 30)


def test_a_kind_that_is_too_hard_without_any_filler():
    rows = control("bug", BASE, TrialOutcome.CORRECT, 7) + control("bug", BASE, TrialOutcome.WRONG_DECOY, 3)
    rows += control("constant", BASE, TrialOutcome.CORRECT, 10) + control("chain", BASE, TrialOutcome.TIMEOUT, 1)
    assert [(one.kind, one.too_hard) for one in bases(columns(rows))] == [
        ("bug", True),
        ("chain", False),
        ("constant", False),
    ]


def test_answers_that_are_known_without_the_code():
    def asked(right: int, of: int, chance: float) -> bool:
        rows = control("bug", CLOSED_BOOK, TrialOutcome.CORRECT, right, chance=chance)
        rows += control("bug", CLOSED_BOOK, TrialOutcome.HALLUCINATED, of - right, chance=chance)
        found = closed_book(columns(rows))
        assert found is not None
        assert (found.answered, found.right) == (of, right)
        return found.known

    assert asked(1, 20, 0.0)
    assert not asked(0, 20, 0.0)
    assert not asked(3, 20, 1 / 12)
    assert asked(6, 20, 1 / 12)
    assert closed_book(columns([])) is None
    lost = closed_book(columns(control("bug", CLOSED_BOOK, TrialOutcome.TIMEOUT, 2)))
    assert lost is not None
    assert not lost.known


def test_what_is_degenerate():
    def of(outcome: TrialOutcome, times: int) -> str | None:
        return degenerate(columns(control("bug", ORDINARY, outcome, times)))

    assert of(TrialOutcome.FALSE_ABSENT, 5) == "false_absent"
    assert of(TrialOutcome.FALSE_ABSENT, 4) is None
    assert of(TrialOutcome.CORRECT, 50) is None
    assert of(TrialOutcome.WRONG_DECOY, 50) is None
    assert of(TrialOutcome.TIMEOUT, 50) is None


def test_controls_are_not_part_of_accuracy():
    rng = np.random.default_rng(1)
    trials = [*planned(rng, 10), *absents(10, 10), *control("bug", BASE, TrialOutcome.WRONG_DECOY, 10)]
    found = findings(answered(trials, perfect, rng), seed=1)
    assert all(one.share.accuracy == 1 for one in found.lengths)
    assert len(found.bases) == 1
    assert {cell.depth for one in found.lengths for cell in one.cells} == set(STRATA)


# --- one model against another --------------------------------------------------------------------------------------


def answers(rights: dict[tuple[str, str], bool], kind: str = "bug") -> list[TrialRow]:
    """Trials of one length by block and name; each right or wrong."""
    return [
        TrialRow(kind, ORDINARY, 10_000, block, 0.5, 0.5, RIGHT if right else WRONG, right, trial=name)
        for (block, name), right in rights.items()
    ]


RIGHT, WRONG = TrialOutcome.CORRECT, TrialOutcome.WRONG_DECOY


def test_pairs_by_mcnemar():
    """The worked example of the exact test, b = 1 and c = 8; trials of a block of their own."""
    first = answers({(str(at), str(at)): at >= 1 for at in range(9)})
    second = answers({(str(at), str(at)): at < 1 for at in range(9)})
    alike = answers({("a", "a"): True}, "constant")
    other = answers({("a", "a"): True, ("b", "b"): False}, "constant")
    only_here = answers({("x", "x"): True}, "chain")
    bug, constant = paired({"a": columns([*first, *alike, *only_here]), "b": columns([*second, *other])})
    assert (bug.first, bug.second, bug.kind) == ("a", "b", "bug")
    assert (bug.pairs, bug.only_first, bug.only_second, bug.blocks) == (9, 8, 1, (8, 1))
    assert (bug.p, bug.better) == (pytest.approx(0.0390625), "a")
    assert (constant.pairs, constant.only_first, constant.blocks, constant.p, constant.better) == (
        1,
        0,
        (0, 0),
        None,
        None,
    )


def test_trials_of_one_block_are_one_voice():
    """A block that one model does not understand says so five times, and counts once; a draw says nothing."""
    names = [(block, depth) for block in "pqr" for depth in "12345"]
    first = dict.fromkeys(names, True)
    second = {(block, depth): block != "p" for block, depth in names}
    second["q", "1"], first["q", "2"] = False, False
    (found,) = paired({"a": columns(answers(first)), "b": columns(answers(second))})
    assert (found.pairs, found.only_first, found.only_second, found.blocks, found.p) == (15, 6, 1, (1, 0), 1.0)


def test_what_one_has_not_answered_is_no_pair():
    first = answers({(str(at), str(at)): True for at in range(3)})
    unheard = first[0]._replace(outcome=TrialOutcome.TIMEOUT, right=False)
    absent = first[1]._replace(control=ABSENT)
    (found,) = paired({"a": columns(first), "b": columns([unheard, absent, first[2]])})
    assert (found.pairs, found.blocks) == (1, (0, 0))


def test_each_against_each_and_holm_over_all():
    good = columns(answers({(str(at), str(at)): True for at in range(8)}))
    poor = columns(answers({(str(at), str(at)): False for at in range(8)}))
    found = paired_block({"a": good, "b": poor, "c": good})
    assert [(one["first"], one["second"], one["better"], one["p"]) for one in found] == [
        ("a", "b", "a", pytest.approx(2 * 2 / 2**8)),
        ("a", "c", None, None),
        ("b", "c", "c", pytest.approx(2 * 2 / 2**8)),
    ]
    assert paired_block({"a": columns([]), "b": good}) == []
