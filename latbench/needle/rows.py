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
SHORT_OF_SCALE = 0.9
"""A scale is of other prompts: a count of less than this share of what it says is of no whole prompt."""
FLOOR_SHARE = 0.25
"""An answer that began within this share of the median TTFT of a quiet endpoint was not made from the prompt."""
_NS_PER_MS = 1e6


def row(
    recipe: Recipe,
    depth: float,
    chance: float,
    grade: Grade,
    sample: Sample,
    expected_input_tokens: float | None = None,
    our_tokens: int | None = None,
) -> TrialRow:
    """The row of one trial. `depth` is the actual one, `chance` that of its key, `our_tokens` our count of its prompt.

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
        our_tokens=our_tokens,
        line_right=grade.line_right,
        f1=grade.f1,
        trial=recipe.trial,
    )


def calibrated(rows: Sequence[TrialRow], scale: float | None = None) -> list[TrialRow]:
    """Rows of one endpoint, held against what it ought to count: `scale` for each token by our own count.

    What an endpoint counts for one of our tokens hardly depends on the length. So where no `scale` is known, the
    prompts of at most half the length say what to expect, if they are `LEAST_SHORTER`: controls without filler, or a
    shorter length of the run. It does depend on the text, by some per cent. So a prompt was not read whole only where
    less was counted than for any of those, or far less than by the scale. Its answer says nothing then; its row still
    tells whether that was right.
    """
    counted = [
        (row.our_tokens, row.input_tokens / row.our_tokens) for row in rows if row.our_tokens and row.input_tokens
    ]
    sizes = np.array([ours for ours, _ in counted], dtype=np.float64)
    ratios = np.array([ratio for _, ratio in counted], dtype=np.float64)

    def against(row: TrialRow) -> TrialRow:
        if not row.our_tokens:
            return row
        if scale is not None:
            return _against(row, scale * row.our_tokens, SHORT_OF_SCALE)
        shorter = ratios[sizes <= row.our_tokens / 2]
        if len(shorter) < LEAST_SHORTER:
            return row
        usual = float(np.median(shorter))
        return _against(row, usual * row.our_tokens, SHORT_PROMPT * float(shorter.min()) / usual)

    return [against(row) for row in rows]


def _against(row: TrialRow, expected: float, least: float) -> TrialRow:
    """A row with the count that is expected of its prompt, and cut if it has not that share of it."""
    cut = row.input_tokens is not None and row.input_tokens < least * expected
    outcome = TrialOutcome.TRUNCATED_PROMPT if cut else row.outcome
    return row._replace(expected_input_tokens=expected, outcome=outcome)


def without_unread(rows: Sequence[TrialRow], quiet: Sequence[TrialRow]) -> list[TrialRow]:
    """Rows with those marked that were answered sooner than their prompt can be read; their TTFT does not count.

    `quiet` are rows of the same endpoint while one request at a time was under way: what reading takes at each length.
    """
    reading: dict[int, list[float]] = {}
    for one in quiet:
        if one.ttft_ms is not None and one.ttft_counts:
            reading.setdefault(one.length, []).append(one.ttft_ms)
    return [
        row._replace(unread=True, ttft_counts=False)
        if row.ttft_ms is not None and served_from_cache(row.ttft_ms, reading.get(row.length, ()))
        else row
        for row in rows
    ]


def served_from_cache(ttft_ms: float, quiet_ttft_ms: Sequence[float]) -> bool:
    """Whether an answer came sooner than its prompt can be read, by the TTFTs of that length on a quiet endpoint.

    The whole answer was served from somewhere then. Nothing is said where no quiet TTFT is known.
    """
    return bool(quiet_ttft_ms) and ttft_ms < FLOOR_SHARE * float(np.median(quiet_ttft_ms))
