"""Where intervals stand on thin ground."""

from typing import Any

import numpy as np
import pytest

from latbench.analysis.cautions import cautions
from latbench.analysis.stats import describe
from latbench.metrics.catalogue import METRICS


def metrics(**values: np.ndarray) -> dict[str, Any]:
    """Every metric; those not given have no values."""
    return {
        metric.json_name: describe(values.get(metric.name, np.empty(0)), higher_is_better=metric.higher_is_better)
        for metric in METRICS
    }


def test_nothing_is_said_of_many_independent_values_or_of_none() -> None:
    assert cautions(metrics(ttft=np.random.default_rng(1).lognormal(5, 0.5, 3000))) == []
    assert cautions(metrics()) == []


def test_few_values_beyond_a_percentile() -> None:
    (found,) = cautions(metrics(ttft=np.random.default_rng(1).lognormal(5, 0.5, 500)))
    assert found["code"] == "few_beyond"
    assert found["where"] == {"ttft": ["p99"]}
    assert found["value"] == pytest.approx(5, rel=0.3)
    assert found["limit"] == 10
    assert "1,000 independent requests" in found["advice"]


def test_rates_are_looked_at_in_their_slow_tail() -> None:
    (found,) = cautions(metrics(e2e_tokens_per_s=np.random.default_rng(1).lognormal(3, 0.5, 500)))
    assert found["where"] == {"e2e_tokens_per_s": ["p1"]}


def test_requests_that_wait_in_one_queue() -> None:
    walk = np.cumsum(np.random.default_rng(2).standard_normal(20_000)) % 400  # a queue that fills and empties
    found = {one["code"]: one for one in cautions(metrics(e2e=walk))}
    assert found["dependent"]["value"] > 10
    assert "p50" in found["dependent"]["where"]["e2e"]


def test_values_that_are_all_the_same() -> None:
    (found,) = cautions(metrics(ttft=np.full(400, 5.0)))
    assert (found["code"], found["where"]) == ("constant", {"ttft": ["p50", "p90", "p95", "p99"]})
