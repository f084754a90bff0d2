"""Needle trials as series: bins for labels, counts that add up, bounds beside every share."""

from itertools import product
from typing import Any

from latbench.analysis.needle.block import needle_block
from latbench.analysis.needle.published import ALL, publish
from latbench.analysis.needle.trials import TrialRow, columns
from latbench.metrics import series
from latbench.metrics.series import Snapshot
from latbench.model.needle import TrialOutcome

SCOPE = ("needles", "peak", "acme", "a", "m")
BUG = (*SCOPE, "bug", "10000")


def block_of(blocks: int = 30, **changes: Any) -> dict[str, Any]:
    rows = []
    for block, stratum in product(range(blocks), (0.1, 0.5, 0.9)):
        outcome = TrialOutcome.WRONG_DECOY if stratum == 0.5 else TrialOutcome.CORRECT
        row = TrialRow("bug", "none", 10_000, f"b{block}", stratum, stratum, outcome, stratum != 0.5)
        rows.append(row._replace(**changes))
    found = needle_block(columns(rows), seed=1)
    assert found is not None
    return found


def published(*blocks: dict[str, Any]) -> dict[series.Series, dict[tuple[str, ...], Any]]:
    total = Snapshot()
    for block in blocks:
        one = Snapshot()
        publish(one, SCOPE, block)
        total.merge(one)
    return total.points


def test_each_part_of_the_code_has_its_share_and_bounds() -> None:
    found = published(block_of())
    assert found[series.NEEDLE_ACCURACY] == {
        (*BUG, "0-30"): 1.0,
        (*BUG, "30-70"): 0.0,
        (*BUG, "70-100"): 1.0,
        (*BUG, ALL): 60 / 90,
    }
    for where, accuracy in found[series.NEEDLE_ACCURACY].items():
        assert found[series.NEEDLE_LOWER][where] <= accuracy <= found[series.NEEDLE_UPPER][where]
    assert found[series.NEEDLE_LOWER][*BUG, "0-30"] > 0.9


def test_counts_of_runs_add_up_and_shares_are_the_last_runs() -> None:
    found = published(block_of(), block_of(10, outcome=TrialOutcome.CORRECT, right=True))
    assert found[series.NEEDLE_TRIALS][*BUG, "30-70", "wrong_decoy"] == 30
    assert found[series.NEEDLE_TRIALS][*BUG, "0-30", "correct"] == 40
    assert sum(found[series.NEEDLE_TRIALS].values()) == 120
    assert found[series.NEEDLE_ACCURACY][*BUG, ALL] == 1.0


def test_ttft_has_a_mean_and_percentiles_where_there_are_enough() -> None:
    found = published(block_of(ttft_ms=800.0))[series.NEEDLE_TTFT]
    assert found[*BUG, "0-30", "mean"] == found[*BUG, ALL, "p50"] == 0.8
    assert {where[-1] for where in found if where[-2] == "0-30"} == {"mean", "p50"}
    assert series.NEEDLE_TTFT not in published(block_of())


def test_effective_context_by_rule() -> None:
    found = published(block_of(outcome=TrialOutcome.CORRECT, right=True))
    rules = {"point": 10_000, "certified": 10_000, "worst_stratum": 10_000}
    assert found[series.NEEDLE_CONTEXT] == {(*SCOPE, "bug", rule): tokens for rule, tokens in rules.items()}
    assert set(published(block_of())[series.NEEDLE_CONTEXT].values()) == {0}


def test_nothing_is_said_of_shares_of_nothing() -> None:
    found = published(block_of(outcome=TrialOutcome.TIMEOUT, right=False))
    assert series.NEEDLE_ACCURACY not in found
    assert set(found[series.NEEDLE_TRIALS]) == {(*BUG, part, "timeout") for part in ("0-30", "30-70", "70-100")}
