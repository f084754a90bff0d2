"""How surely a delivered load is known: the coverage of the interval that thresholds are held against."""

import numpy as np
import pytest

from latbench.analysis.delivered import effective_answers
from latbench.analysis.thresholds import poisson

RATE, WINDOW_S = 5.0, 60.0


def test_equal_answers_count_for_what_they_are_and_unequal_ones_for_less() -> None:
    at = np.linspace(0, 0.99, 30)
    assert effective_answers(np.ones(30), at) == 30
    assert effective_answers(np.full(30, 7.0), at) == pytest.approx(30)
    assert effective_answers(np.r_[np.ones(29), 29.0], at) == pytest.approx(58**2 / (29 + 29**2))
    assert effective_answers(np.empty(0), np.empty(0)) == 0
    assert effective_answers(np.zeros(3), at[:3]) == 0


def test_what_came_all_at_once_is_one_answer() -> None:
    assert effective_answers(np.ones(100), np.full(100, 0.5)) == pytest.approx(1.0)
    assert effective_answers(np.ones(100), np.linspace(0, 0.999, 100)) == 100, "and evenness earns nothing"


@pytest.mark.parametrize(
    ("cv", "sigma"), [(1.0, 0.0), (1.0, 1.0), (3.0, 0.0), (2.0, 0.7)], ids=["Poisson", "tokens", "bursts", "both"]
)
def test_the_interval_covers_the_true_rate(cv: float, sigma: float) -> None:
    """Gaps with this coefficient of variation, lengths with this sigma of their logs: 95 % is meant."""
    rng, covered, runs = np.random.default_rng(7), 0, 800
    truth = RATE * np.exp(sigma**2 / 2)
    for _ in range(runs):
        gaps = rng.gamma(1 / cv**2, cv**2 / RATE, int(RATE * WINDOW_S * 3))
        at = np.cumsum(gaps) - rng.random() * gaps[0]
        at = at[at < WINDOW_S] / WINDOW_S
        weights = rng.lognormal(0, sigma, len(at))
        count = effective_answers(weights, at)
        low, high = poisson(count)
        rate = weights.sum() / WINDOW_S
        covered += rate * low / count <= truth <= rate * high / count
    assert 0.9 <= covered / runs <= 0.98
