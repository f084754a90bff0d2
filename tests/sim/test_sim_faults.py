"""Which requests get which fault, and when in their answer."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.faults import Fate, Fault, drawn, shares
from latbench.sim.options import Options

SHARES = {
    "p_reset": 0.03,
    "p_cut": 0.04,
    "p_stall": 0.05,
    "p_garbage": 0.06,
    "p_error_event": 0.07,
    "p_500": 0.08,
    "p_503": 0.09,
    "p_529": 0.1,
}


def _options(**shares: Any) -> Options:
    return replace(Options(), **shares)


def test_each_fault_has_its_share() -> None:
    count = 20_000
    fates = [drawn(_options(**SHARES), number) for number in range(count)]
    found = Counter(fate.fault for fate in fates if fate is not None)
    assert set(found) == set(Fault)
    for fault, share in shares(_options(**SHARES)).items():
        assert found[fault] / count == pytest.approx(share, abs=0.01)


def test_they_come_from_the_seed_and_the_number() -> None:
    options = _options(p_cut=0.5)
    first = [drawn(options, number) for number in range(50)]
    assert [drawn(options, number) for number in range(50)] == first
    assert [drawn(replace(options, seed=1), number) for number in range(50)] != first


def test_none_and_all() -> None:
    assert all(drawn(Options(), number) is None for number in range(1000))
    for fault in Fault:
        fates = [drawn(_options(**{f"p_{fault}": 1.0}), number) for number in range(100)]
        assert {fate.fault for fate in fates if fate is not None} == {fault}
        assert None not in fates


def test_no_more_than_certain() -> None:
    with pytest.raises(ValueError, match=r"add up to 1\.2"):
        drawn(_options(p_cut=0.7, p_reset=0.5), 1)
    assert sum(shares(_options(p_cut=0.7, p_reset=0.2, p_stall=0.1)).values()) == pytest.approx(1)


@given(st.sampled_from(Fault), st.integers(0, 10**9), st.integers(0, 2**70), st.integers(0, 10**6))
def test_a_fault_strikes_within_the_answer(fault: Fault, number: int, seed: int, tokens: int) -> None:
    after = Fate(fault, number, seed).after(tokens)
    assert min(tokens, 1) <= after <= max(tokens - 1, min(tokens, 1))
    assert Fate(fault, number, seed).after(tokens) == after


def test_everywhere_within_it() -> None:
    assert {Fate(Fault.CUT, number, 0).after(5) for number in range(200)} == {1, 2, 3, 4}


def test_faults_that_are_a_status() -> None:
    assert {fault: fault.status for fault in Fault if fault.status} == {
        Fault.STATUS_500: 500,
        Fault.STATUS_503: 503,
        Fault.STATUS_529: 529,
    }
