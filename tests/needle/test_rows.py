"""From a trial and its sample to the row that the analysis reads."""

import pytest
from graded import CONTROL, DECOY, TARGET, Case, key, named, sample

from latbench.analysis.needle.findings import findings
from latbench.analysis.needle.trials import TrialRow, columns
from latbench.model.needle import TrialOutcome
from latbench.model.sample import Outcome, Sample
from latbench.needle.grade import grade
from latbench.needle.rows import row


def made(asked: Sample, case: Case | None = None, expected: float | None = None) -> TrialRow:
    trial = (case or Case(key())).trial
    return row(trial.recipe, trial.depth, trial.key.chance, grade(asked, trial, expected), asked, expected)


def test_a_right_answer():
    found = made(
        sample(named(TARGET), sent_ns=1_000_000, first_token_ns=251_000_000, input_tokens=1_000, token_source="usage")
    )
    assert (found.kind, found.control, found.length, found.block, found.stratum) == ("bug", "none", 1_000, "b", 0.1)
    assert (found.outcome, found.right, found.ttft_ms, found.ttft_counts) == (TrialOutcome.CORRECT, True, 250.0, True)
    assert (found.input_tokens, found.expected_input_tokens, found.named_depth, found.chance) == (1_000, None, 0.1, 0.5)


def test_what_has_no_ttft():
    assert made(sample(named(TARGET), sent_ns=1)).ttft_ms is None
    assert made(sample(named(TARGET), Outcome.TRUNCATED, sent_ns=1, first_token_ns=2)).ttft_ms is None
    cached = sample(named(TARGET), sent_ns=1, first_token_ns=2, input_tokens=100, cached_tokens=50)
    assert made(cached).ttft_counts is False


def test_counts_that_are_not_the_endpoints_are_no_witness():
    assert made(sample(named(TARGET), input_tokens=10, token_source="tokenizer"), expected=1_000).input_tokens is None


def test_rows_are_what_findings_read():
    rows = [made(sample(named(name))) for name in (TARGET, DECOY, TARGET)]
    rows += [made(sample(named(DECOY)), Case(CONTROL)), made(sample(None, Outcome.TIMEOUT))]
    found = findings(columns(rows), seed=1)
    (one,) = found.lengths
    assert one.outcomes == {"correct": 2, "timeout": 1, "wrong_decoy": 1}
    assert one.share.accuracy == pytest.approx(2 / 3)
    assert one.distances.tolist() == [pytest.approx(0.5)]
    assert found.absent is not None
    assert found.absent.present == 1
