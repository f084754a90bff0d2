"""What the analysis of trials is given: a recipe, its grade and its sample as one row."""

from collections.abc import Sequence

import numpy as np

from latbench.analysis.needle.trials import TrialRow
from latbench.model.needle import NO_TTFT, Grade, TrialOutcome
from latbench.model.sample import Outcome, Sample
from latbench.needle.grade import SHORT_PROMPT
from latbench.needle.trial import Recipe

LEAST_SHORTER = 5
"""So many shorter prompts tell how an endpoint counts."""
_NS_PER_MS = 1e6


def row(
    recipe: Recipe,
    depth: float,
    chance: float,
    grade: Grade,
    sample: Sample,
    expected_input_tokens: float | None = None,
) -> TrialRow:
    """The row of one trial. `depth` is the actual one, `chance` that of its key.

    Only an `ok` answer has a TTFT, as everywhere, and none of the warm-up counts.
    Only the endpoint's own count of input tokens is held against the expected one, and only where that is known.
    """
    timed = sample.outcome == Outcome.OK and sample.first_token_ns is not None and sample.sent_ns is not None
    sent_ns = sample.sent_ns or 0
    return TrialRow(
        kind=recipe.kind,
        control=recipe.control,
        length=recipe.tokens,
        block=recipe.block,
        stratum=recipe.stratum,
        depth=depth,
        outcome=grade.outcome,
        right=grade.right,
        ttft_ms=((sample.first_token_ns or 0) - sent_ns) / _NS_PER_MS if timed else None,
        e2e_ms=((sample.last_token_ns or 0) - sent_ns) / _NS_PER_MS if timed else None,
        ttft_counts=NO_TTFT.isdisjoint(grade.flags) and sample.phase == "measure",
        input_tokens=sample.input_tokens if sample.token_source == "usage" else None,
        expected_input_tokens=expected_input_tokens,
        named_depth=grade.named_depth,
        chance=chance,
    )


def calibrated(rows: Sequence[tuple[TrialRow, int]]) -> list[TrialRow]:
    """Rows of one endpoint, held against its own count of the tokens of shorter prompts; each with our count.

    What an endpoint counts for one of our tokens is the same at every length, but for a template of a few tokens. So
    the prompts of at most half the length say what to expect, if they are `LEAST_SHORTER`: controls without filler, or
    a shorter length of the run. Where a prompt was counted far shorter than that, it was not read whole, and its answer
    says nothing; its row still tells whether that was right.
    """
    counted = [(ours, row.input_tokens / ours) for row, ours in rows if row.input_tokens is not None]
    sizes = np.array([ours for ours, _ in counted], dtype=np.float64)
    ratios = np.array([ratio for _, ratio in counted], dtype=np.float64)
    found = []
    for row, ours in rows:
        shorter = ratios[sizes <= ours / 2]
        if len(shorter) < LEAST_SHORTER:
            found.append(row)
            continue
        expected = float(np.median(shorter)) * ours
        cut = row.input_tokens is not None and row.input_tokens < SHORT_PROMPT * expected
        outcome = TrialOutcome.TRUNCATED_PROMPT if cut else row.outcome
        found.append(row._replace(expected_input_tokens=expected, outcome=outcome))
    return found
