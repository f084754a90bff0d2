"""The findings as `summary.json` holds them, with the one sentence about position that each kind and length allows."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from latbench.analysis.needle.context import THRESHOLD, EffectiveContext, Walk, certified_lower
from latbench.analysis.needle.findings import DIP, INCOMPLETE, RECENCY, Depth, Findings, Length, findings
from latbench.analysis.needle.shares import CONFIDENCE, Share, least_all_correct, upper_bound
from latbench.analysis.needle.trials import Trials
from latbench.analysis.needle.truncation import Truncation


def needle_block(trials: Trials, seed: int) -> dict[str, Any] | None:
    """What the trials of an endpoint say; None where there were none."""
    return None if not len(trials) else block(findings(trials, seed))


def block(found: Findings) -> dict[str, Any]:
    """The findings as plain data."""
    return {
        "lengths": [_length(one) for one in found.lengths],
        "effective_context": [_context(one, _shortest(found, one.kind)) for one in found.contexts],
        "pooled_ci95": {kind: None if ends is None else [*ends] for kind, ends in found.pooled.items()},
        "truncation": [_truncation(one) for one in found.truncation],
        "ttft_against_depth": asdict(found.timing)
        | {"tripped": found.timing.tripped, "cached_prefix": found.timing.cached_prefix},
        "controls": {
            "absent": None
            if found.absent is None
            else asdict(found.absent) | {"answers_regardless": found.absent.answers_regardless},
            "base": [{"kind": one.kind, **_share(one.share), "too_hard": one.too_hard} for one in found.bases],
            "closed_book": None
            if found.closed_book is None
            else asdict(found.closed_book) | {"known": found.closed_book.known},
        },
        "degenerate": found.degenerate,
        "counted": asdict(found.counted),
    }


def _length(one: Length) -> dict[str, Any]:
    away = np.abs(one.distances)
    return {
        "kind": one.kind,
        "length": one.length,
        **_share(one.share),
        "outcomes": one.outcomes,
        "ttft_ms": one.ttft_ms,
        "e2e_ms": one.e2e_ms,
        "depths": [
            {
                "depth": cell.depth,
                "from": cell.low,
                "to": cell.high,
                **_share(cell.share),
                "outcomes": cell.outcomes,
                "ttft_ms": cell.ttft_ms,
                "e2e_ms": cell.e2e_ms,
            }
            for cell in one.cells
        ],
        "position": _position(one.depth) | {"verdict": verdict(one)},
        "reliable": {
            "head_tokens": one.ends.head_tokens,
            "tail_tokens": one.ends.tail_tokens,
            **_enough(one),
        },
        "detail": asdict(one.detail),
        "counted": asdict(one.counted),
        "unread": one.unread,
        "untimed": one.untimed,
        "named_elsewhere": {"n": len(away), "median_distance": float(np.median(away)) if len(away) else None},
    }


def _share(found: Share) -> dict[str, Any]:
    """`lower` and `upper` are one-sided, and what thresholds are held against."""
    return asdict(found) | {
        "ci95": None if found.ci95 is None else [*found.ci95],
        "lower": certified_lower(found),
        "upper": upper_bound(found.correct, found.answered, CONFIDENCE),
        "missing": found.missing,
        "incomplete": found.incomplete,
        "at_chance": found.at_chance,
    }


def _position(found: Depth) -> dict[str, Any]:
    tests = found.tests
    return {
        "blocked": tests.blocked,
        "units": tests.units,
        "dip": tests.dip,
        "trend": tests.trend,
        "p_dip": found.p_dip,
        "p_trend": found.p_trend,
        "p_any": found.p_any,
        "shapes": [*found.shapes],
        "silent": found.silent,
        "detectable_dip": found.detectable,
        "powered": found.powered,
    }


def _enough(one: Length) -> dict[str, int]:
    """How many answers the poorest part of the file has, and how many right ones would prove anything of it."""
    return {
        "least_trials": min((cell.share.answered for cell in one.cells), default=0),
        "needed": least_all_correct(THRESHOLD),
    }


def _shortest(found: Findings, kind: str) -> Length:
    return next(one for one in found.lengths if one.kind == kind)  # lengths rise


def _context(found: EffectiveContext, shortest: Length) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "threshold": found.threshold,
        "lengths": [*found.lengths],
        "point": _walk(found.point),
        "certified": _walk(found.certified),
        "worst_stratum": _walk(found.worst_stratum),
        "relative": None if found.relative is None else _walk(found.relative),
        "refused": found.refused,
        "trials_in_a_stratum": _enough(shortest)["least_trials"],
        "needed": least_all_correct(found.threshold),
    }


def _walk(found: Walk) -> dict[str, Any]:
    return {"tokens": found.tokens, "open_ended": found.open_ended, "later": [*found.later]}


def _truncation(found: Truncation) -> dict[str, Any]:
    return asdict(found) | {"canaries": [[*one] for one in found.canaries]}


# --- the sentence -----------------------------------------------------------------------------------------------------


def verdict(one: Length) -> str:
    """What may be said of position at one length, and no more."""
    depth = one.depth
    if depth.silent is not None:
        why = f"{one.share.missing} of {one.share.planned} trials have no answer"
        return f"nothing is said of position: {why if depth.silent == INCOMPLETE else 'prompts were cut'}"
    said = [_shape(shape, depth) for shape in depth.shapes]
    if said:
        return "; ".join(said)
    if depth.powered:
        return f"no effect of position found; a dip of {_points(depth.detectable)} points would usually be"
    if depth.detectable is None:
        return "not powered for position: of so few trials, not even the largest dip would usually be found"
    return f"not powered for position: a dip smaller than {_points(depth.detectable)} points would usually be missed"


def _shape(shape: str, depth: Depth) -> str:
    tests = depth.tests
    if shape == DIP:
        return f"dip: the middle is {_points(tests.dip)} points below the ends (p {_p(depth.p_dip)} after Holm)"
    way = "recency: accuracy rises" if shape == RECENCY else "primacy: accuracy falls"
    return f"{way} by {_points(tests.trend)} points along the file (p {_p(depth.p_trend)} after Holm)"


def _points(share: float | None) -> int:
    """As whole points, rounded up: more is needed rather than less."""
    return 0 if share is None else math.ceil(abs(share) * 100 - 1e-9)


def _p(value: float | None) -> str:
    return "unknown" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
