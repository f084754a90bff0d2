"""What the analysis of trials is given: a recipe, its grade and its sample as one row."""

from latbench.analysis.needle.trials import TrialRow
from latbench.model.needle import NO_TTFT, Grade
from latbench.model.sample import Outcome, Sample
from latbench.needle.trial import Recipe

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
