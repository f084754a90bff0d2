"""Everything that is said of a run's needle trials, put together: by kind, length and depth, with what spoils it.

Kinds are never averaged into one score.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from latbench.analysis.intervals import holm_of_known
from latbench.analysis.needle.context import (
    THRESHOLD,
    EffectiveContext,
    Ends,
    effective_context,
    reliable_ends,
)
from latbench.analysis.needle.controls import Absent, Base, ClosedBook, absent, bases, closed_book, degenerate
from latbench.analysis.needle.position import Position, depth_bins, depth_edges, ends_above_middle, position
from latbench.analysis.needle.power import detectable_dip, powered
from latbench.analysis.needle.shares import Share, blocks_interval, share
from latbench.analysis.needle.timing import DepthTiming, ttft_against_depth
from latbench.analysis.needle.trials import BASE, ORDINARY, Trials
from latbench.analysis.needle.truncation import Truncation, cut_lengths, truncation
from latbench.analysis.stats import describe

LEVEL = 0.05
DIP, RECENCY, PRIMACY = "dip", "recency", "primacy"
INCOMPLETE, TRUNCATED = "incomplete", "truncated"
_MOST_EDGES = 0.95  # what is measured once, of few trials, is not as good as 100 %


@dataclass(frozen=True, slots=True)
class Cell:
    """Trials of one kind, length and part of the file, by their actual depth.

    `low` and `high` are the part's ends as shares of the code. `ttft_ms` and `e2e_ms` are what `stats.describe` says of
    the trials whose TTFT counts. `outcomes` counts them all, the missing ones too.
    """

    depth: float
    low: float
    high: float
    share: Share
    outcomes: dict[str, int]
    ttft_ms: dict[str, Any]
    e2e_ms: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Depth:
    """What is said about position at one length.

    p-values are after Holm: dip and trend over all kinds and lengths together, `p_any` over all of its own sort.
    `shapes` holds `dip`, `recency` (later is better), `primacy`; none that is not significant. `silent` says why
    nothing is claimed at all: `incomplete` or `truncated`. `detectable` is the dip that would usually have been found,
    None if there is none such.
    """

    tests: Position
    p_dip: float | None
    p_trend: float | None
    p_any: float | None
    shapes: tuple[str, ...]
    silent: str | None
    detectable: float | None

    @property
    def powered(self) -> bool:
        """Whether no effect found says that there is no large one."""
        return powered(self.detectable)


@dataclass(frozen=True, slots=True)
class Detail:
    """What answers say besides the answer. `lines` of `of` gave the answer-bearing line as well, `f1` is the mean of
    sets of names; both are None where the kind has none such.
    """

    lines: int | None
    f1: float | None
    of: int


@dataclass(frozen=True, slots=True)
class Counted:
    """How the endpoint counts: medians over `n` prompts that were read whole.

    `scale` is its tokens for each by our own count, `of_length` for each that was asked for: 1 where lengths are its.
    """

    n: int
    scale: float | None
    of_length: float | None


@dataclass(frozen=True, slots=True)
class Length:
    """One kind at one length.

    `unread` trials were answered sooner than their prompt can be read; of `untimed` further ones TTFT does not count
    either: retried, of the warm-up, or in part out of a cache. `distances` are how far from the needle wrong answers
    looked, where that is known.
    """

    kind: str
    length: int
    share: Share
    outcomes: dict[str, int]
    ttft_ms: dict[str, Any]
    e2e_ms: dict[str, Any]
    cells: tuple[Cell, ...]
    depth: Depth
    ends: Ends
    distances: np.ndarray
    detail: Detail
    counted: Counted
    unread: int
    untimed: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What needle trials say. `pooled` has the block bootstrap's 95 % interval of each kind over all its lengths."""

    lengths: tuple[Length, ...]
    contexts: tuple[EffectiveContext, ...]
    pooled: dict[str, tuple[float, float] | None]
    truncation: tuple[Truncation, ...]
    timing: DepthTiming
    absent: Absent | None
    bases: tuple[Base, ...]
    closed_book: ClosedBook | None
    degenerate: str | None
    counted: Counted


def findings(trials: Trials, seed: int, threshold: float = THRESHOLD) -> Findings:
    """All of it. The seed is for permutations and resamples: the same trials and seed give the same findings."""
    ordinary = trials.controls(ORDINARY)
    parts = list(ordinary.by_length())
    cuts = truncation(trials)
    depths = _depths(parts, cut_lengths(cuts), seed)
    base = trials.controls(BASE)
    kinds = sorted(set(ordinary.kind.tolist()))
    of_kind = {kind: ordinary.of(ordinary.kind == kind) for kind in kinds}
    return Findings(
        lengths=tuple(
            _length(kind, length, part, depth, threshold)
            for (kind, length, part), depth in zip(parts, depths, strict=True)
        ),
        contexts=tuple(
            effective_context(kind, of_kind[kind], base.of(base.kind == kind), seed, threshold) for kind in kinds
        ),
        pooled={kind: blocks_interval(of_kind[kind], seed) for kind in kinds},
        truncation=tuple(cuts),
        timing=ttft_against_depth(ordinary, seed),
        absent=absent(trials),
        bases=tuple(bases(trials)),
        closed_book=closed_book(trials),
        degenerate=degenerate(trials),
        counted=_counted(ordinary),
    )


def _length(kind: str, length: int, trials: Trials, depth: Depth, threshold: float) -> Length:
    depths, part = depth_bins(trials)
    edges = depth_edges(depths)
    cells = tuple(
        Cell(
            depth=float(middle),
            low=float(edges[at]),
            high=float(edges[at + 1]),
            share=share(trials.of(part == at)),
            outcomes=outcomes(trials.of(part == at)),
            ttft_ms=_ttft(trials.of(part == at)),
            e2e_ms=_e2e(trials.of(part == at)),
        )
        for at, middle in enumerate(depths)
    )
    away = (trials.named_depth - trials.depth)[trials.answered & ~trials.correct]
    return Length(
        kind=kind,
        length=length,
        share=share(trials),
        outcomes=outcomes(trials),
        ttft_ms=_ttft(trials),
        e2e_ms=_e2e(trials),
        cells=cells,
        depth=depth,
        ends=reliable_ends(kind, length, trials, threshold),
        distances=away[np.isfinite(away)],
        detail=_detail(trials),
        counted=_counted(trials),
        unread=int(np.count_nonzero(trials.unread)),
        untimed=int(np.count_nonzero(np.isfinite(trials.ttft_ms) & ~trials.ttft_counts & ~trials.unread)),
    )


def _detail(trials: Trials) -> Detail:
    """An answer without a line, or without names, has none of them right."""
    heard = trials.of(trials.answered)
    lined, named = np.isfinite(heard.line_right), np.isfinite(heard.f1)
    return Detail(
        lines=int(np.count_nonzero(heard.line_right == 1)) if lined.any() else None,
        f1=float(np.where(named, heard.f1, 0.0).mean()) if named.any() else None,
        of=len(heard),
    )


def _counted(trials: Trials) -> Counted:
    whole = trials.of(np.isfinite(trials.input_tokens / trials.our_tokens) & trials.answered)
    if not len(whole):
        return Counted(0, None, None)
    scale, of_length = (float(np.median(whole.input_tokens / per)) for per in (whole.our_tokens, whole.length))
    return Counted(len(whole), scale, of_length)


def outcomes(trials: Trials) -> dict[str, int]:
    """How many trials ended how: the failure mix."""
    return dict(sorted(Counter(trials.outcome.tolist()).items()))


def _ttft(trials: Trials) -> dict[str, Any]:
    return describe(trials.ttft_ms[trials.ttft_counts])


def _e2e(trials: Trials) -> dict[str, Any]:
    return describe(trials.e2e_ms[trials.ttft_counts])


def _depths(parts: list[tuple[str, int, Trials]], cut: frozenset[int], seed: int) -> list[Depth]:
    """What is said about position at each length, corrected over all of them."""
    tests = [position(part, seed) for _, _, part in parts]
    both = holm_of_known([p for test in tests for p in (test.p_dip, test.p_trend)])
    anything = holm_of_known([test.p_any for test in tests])
    found = []
    for at, ((_, length, part), test) in enumerate(zip(parts, tests, strict=True)):
        p_dip, p_trend = both[2 * at], both[2 * at + 1]
        silent = TRUNCATED if length in cut else INCOMPLETE if share(part).incomplete else None
        found.append(
            Depth(
                tests=test,
                p_dip=p_dip,
                p_trend=p_trend,
                p_any=anything[at],
                shapes=() if silent else _shapes(test, p_dip, p_trend),
                silent=silent,
                detectable=_detectable(part, test),
            )
        )
    return found


def _shapes(test: Position, p_dip: float | None, p_trend: float | None) -> tuple[str, ...]:
    found = []
    if p_dip is not None and p_dip <= LEVEL and ends_above_middle(test):
        found.append(DIP)
    if p_trend is not None and p_trend <= LEVEL and test.trend:
        found.append(RECENCY if test.trend > 0 else PRIMACY)
    return tuple(found)


def _detectable(trials: Trials, test: Position) -> float | None:
    """The smallest dip that such a sample would usually find, from the accuracy that was measured."""
    accuracy = share(trials).accuracy
    if accuracy is None:
        return None
    strata = tuple(test.depths.tolist())
    return detectable_dip(test.units, min(accuracy, _MOST_EDGES), blocked=test.blocked, strata=strata)
