"""Trials as simulated models would answer them: what the tests of the analysis share. No text, outcomes only."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from latbench.analysis.needle.trials import ABSENT, CANARY, ORDINARY, TrialRow, Trials, columns
from latbench.model.needle import TrialOutcome

STRATA = (0.1, 0.3, 0.5, 0.7, 0.9)
CHANCE = {"description": 0.0, "bug": 1 / 12}
KINDS = tuple(CHANCE)

Answer = Callable[[np.random.Generator, TrialRow], TrialRow]
"""What becomes of a trial that is planned to be correct."""


def planned(
    rng: np.random.Generator, blocks: int, length: int = 10_000, kinds: Iterable[str] = KINDS, jitter: float = 0.1
) -> Iterator[TrialRow]:
    """Whole blocks, all of them correct, TTFT around 800 ms, tokens as sent."""
    for kind in kinds:
        for block in range(blocks):
            level = rng.normal(np.log(800), 0.1)
            for stratum in STRATA:
                depth = float(np.clip(stratum + rng.uniform(-jitter, jitter), 0, 1))
                yield TrialRow(
                    kind, ORDINARY, length, f"{kind}-{length}-{block}", stratum, depth, TrialOutcome.CORRECT, True,
                    ttft_ms=float(np.exp(level + rng.normal(0, 0.05))), input_tokens=length,
                    expected_input_tokens=length, chance=CHANCE.get(kind, 0.0),
                )  # fmt: skip


def drawn(rng: np.random.Generator, trials: int, kind: str = "bug", length: int = 10_000) -> Iterator[TrialRow]:
    """Trials whose depth is drawn over the whole file, each a block of its own."""
    for block in range(trials):
        depth = float(rng.random())
        ttft_ms = float(np.exp(rng.normal(np.log(800), 0.1)))
        yield TrialRow(kind, ORDINARY, length, str(block), None, depth, TrialOutcome.CORRECT, True, ttft_ms)


def wrong(row: TrialRow, outcome: TrialOutcome = TrialOutcome.WRONG_DECOY) -> TrialRow:
    return row._replace(outcome=outcome, right=False)


def perfect(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
    return row


def guessing(rng: np.random.Generator, row: TrialRow) -> TrialRow:
    return row if rng.random() < row.chance else wrong(row)


def blind(rng: np.random.Generator, row: TrialRow) -> TrialRow:
    """Never finds anything between 40 and 60 %."""
    return wrong(row) if 0.4 <= row.depth <= 0.6 else row


def flat(accuracy: float) -> Answer:
    return lambda rng, row: row if rng.random() < accuracy else wrong(row)


def cutting(kept: float, *, counts: bool = True) -> Answer:
    """A server that keeps the last part of the prompt; `counts` says whether its usage shows that."""

    def answer(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
        read = row if row.depth >= 1 - kept else wrong(row, TrialOutcome.FALSE_ABSENT)
        if not counts:
            return read
        return read._replace(
            outcome=TrialOutcome.TRUNCATED_PROMPT, input_tokens=kept * (row.expected_input_tokens or 0)
        )

    return answer


def prefix_cached(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
    """A cache has the prompt up to the needle: what is read anew is the rest."""
    return row._replace(ttft_ms=(row.ttft_ms or 0) * (1.05 - row.depth))


def unformatted(_rng: np.random.Generator, row: TrialRow) -> TrialRow:
    return wrong(row, TrialOutcome.FORMAT_ERROR)


def answered(rows: Iterable[TrialRow], answer: Answer, rng: np.random.Generator) -> Trials:
    return columns(answer(rng, row) for row in rows)


def simulated(answer: Answer, blocks: int = 50, seed: int = 1, **how: object) -> Trials:
    """One length of the preset `position`, answered."""
    rng = np.random.default_rng(seed)
    return answered(planned(rng, blocks, **how), answer, rng)  # type: ignore[arg-type]


def control(kind: str, control: str, outcome: TrialOutcome, times: int, **more: object) -> list[TrialRow]:
    right = outcome == TrialOutcome.CORRECT
    row = TrialRow(kind, control, 10_000, "c", None, 0.5, outcome, right)
    return [row._replace(block=f"c{at}", **more) for at in range(times)]  # type: ignore[arg-type]


def absents(present: int, of: int) -> list[TrialRow]:
    return [
        *control("bug", ABSENT, TrialOutcome.FALSE_PRESENT, present),
        *control("bug", ABSENT, TrialOutcome.CORRECT, of - present),
    ]


def canaries(head: int, tail: int, of: int) -> list[TrialRow]:
    """Constants at 1 % and 99 %, so many found of each."""
    rows = []
    for found, depth in ((head, 0.01), (tail, 0.99)):
        rows += control("constant", CANARY, TrialOutcome.CORRECT, found, depth=depth)
        rows += control("constant", CANARY, TrialOutcome.FALSE_ABSENT, of - found, depth=depth)
    return rows
