"""The time of day, and what it does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.profile import Clock, Profile, factors, moment, setting, shown

S = 10**9
NINE = 1767603600.0  # 2026-01-05T09:00:00Z


def test_windows_of_a_day() -> None:
    found = factors("09:00-18:00=1.8, 22:30-06:00=0.7")
    assert len(found) == 1440
    assert [found[minute] for minute in (539, 540, 1079, 1080)] == [1.0, 1.8, 1.8, 1.0]
    assert [found[minute] for minute in (1349, 1350, 1439, 0, 359, 360)] == [1.0, 0.7, 0.7, 0.7, 0.7, 1.0]
    assert set(factors("00:00-24:00=2")) == {2.0}
    assert set(factors(None)) == {1.0}
    assert factors("18:00-24:00=3")[1439] == 3.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not of the form"),
        ("9:00-18:00=1", "not of the form"),
        ("09:00-18:00=-1", "not of the form"),
        ("09:00-18:00=nan", "not of the form"),
        ("09:00-18:00=1.8,", "not of the form"),
        ("09:60-18:00=1", "09:60 is no time of day"),
        ("09:00-24:01=1", "24:01 is no time of day"),
        ("09:00-09:00=1", "begins when it ends"),
        ("24:00-00:00=1", "begins when it ends"),
        ("09:00-18:00=1,17:59-20:00=2", "overlaps"),
        ("22:00-02:00=1,01:00-03:00=2", "overlaps"),
    ],
)
def test_windows_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        factors(text)


def test_moments() -> None:
    assert moment("2026-01-05T09:00:00Z") == moment("2026-01-05T10:00:00+01:00") == NINE
    assert shown(NINE + 0.25) == "2026-01-05T09:00:00.250Z"
    for text in ("2026-01-05T09:00:00", "2026-01-05", "noon", ""):
        with pytest.raises(ValueError, match="not a time with its zone"):
            moment(text)


def test_a_clock_runs_at_its_rate_from_its_start() -> None:
    clock = Clock(NINE, 5 * S, 60.0)
    assert clock.now_s(5 * S) == NINE
    assert clock.now_s(7 * S) == NINE + 120
    clock.set(7 * S, None, 1.0)
    assert clock.now_s(8 * S) == NINE + 121
    clock.set(8 * S, 100.0, None)
    assert (clock.now_s(9 * S), clock.rate) == (101.0, 1.0)
    clock.set(9 * S, None, 0.0)
    assert clock.now_s(10**6 * S) == 101.0


def test_a_clock_stops_before_the_calendar_ends() -> None:
    assert shown(Clock(NINE, 0, 1e6).now_s(10**9 * S)) == "9999-12-31T23:59:59.000Z"


def test_the_factor_follows_the_clock() -> None:
    profile = Profile(factors("09:00-18:00=1.8"), Clock(NINE - 30, 0, 60.0))
    assert profile.factor(0) == 1.0
    assert profile.factor(S // 2 - 1000) == 1.0
    assert profile.factor(S // 2) == 1.8
    assert profile.factor(600 * S) == 1.0


def test_what_sets_the_clock() -> None:
    assert setting(b'{"now": "2026-01-05T09:00:00Z"}') == (NINE, None)
    assert setting(b'{"rate": 60}') == (None, 60.0)
    assert setting(b'{"now": "2026-01-05T09:00:00Z", "rate": 0.5}') == (NINE, 0.5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "an object"),
        (b"{}", "an object"),
        (b'{"then": 1}', "an object"),
        (b'{"rate": "fast"}', '"rate" has to be'),
        (b'{"rate": true}', '"rate" has to be'),
        (b'{"rate": -1}', '"rate" has to be'),
        (b'{"rate": 1e300}', '"rate" has to be'),
        (b'{"rate": NaN}', '"rate" has to be'),
        (b'{"now": 5}', '"now" has to be'),
        (b'{"now": "noon"}', "not a time"),
    ],
)
def test_what_does_not_set_it(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        setting(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
        lambda inner: st.dictionaries(st.sampled_from(["now", "rate", "x"]), inner),
    )
)
def test_a_setting_is_understood_or_refused(body: Any) -> None:
    try:
        now_s, rate = setting(json.dumps(body).encode())
    except ValueError:
        return
    assert now_s is None or isinstance(now_s, float)
    assert rate is None or 0 <= rate <= 1e6
