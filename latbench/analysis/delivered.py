"""How surely a delivered load is known: of how many independent answers a rate tells as much as of those that came.

Arrivals that are independent of each other are Poisson's, and a sum over them, each with its weight (1, or its output
tokens), scatters as the square root of the sum of squares: (Σw)² / Σw² equal answers say as much. Arrivals in bursts
scatter more. How much more is seen between parts of the window: the variance of their sums, over what it would be. What
scatters less, as arrivals at a fixed rate do, is not believed to: the interval is too wide then.
"""

import numpy as np

PARTS = 20
_LEAST = 2 * PARTS
"""Answers from which on parts of the window are held against each other."""


def effective_answers(weights: np.ndarray, at: np.ndarray) -> float:
    """Of answers with these weights that came at these shares of the window, from 0 to below 1; 0 of nothing."""
    squares = float((weights**2).sum())
    if not squares:
        return 0.0
    count = float(weights.sum()) ** 2 / squares
    if len(weights) < _LEAST:
        return count
    sums = np.bincount((at * PARTS).astype(np.int64), weights, PARTS)
    return count / max(1.0, float(sums.var(ddof=1)) * PARTS / squares)
