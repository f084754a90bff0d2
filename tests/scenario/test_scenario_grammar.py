"""How values are written, without a scenario."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latbench.scenario.grammar import (
    format_duration,
    format_rate,
    nearest,
    parse_duration,
    parse_positive_duration,
    parse_rate,
    parse_size,
)

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250ms", 250_000_000),
        ("30s", 30 * SECOND),
        ("5m", 300 * SECOND),
        ("1h", 3600 * SECOND),
        ("0s", 0),
        ("1.5s", 1_500_000_000),
        ("0.5ms", 500_000),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (60, "a bare number; write 60s"),
        (1.5, "a bare number; write 1.5s"),
        (0, "a bare number; write 0s"),
        ("60", "a bare number; write 60s"),
        ("1h30m", "one number and one unit"),
        ("-1s", "one number and one unit"),
        ("10 s", "one number and one unit"),
        ("10S", "one number and one unit"),
        (True, "must be a duration"),
        (None, "must be a duration"),
        ("0.0000001ms", "finer than a nanosecond"),
        ("99999h", "at most 8760h"),
    ],
)
def test_what_is_not_a_duration(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "must be longer than 0, with its unit, such as 60s"),
        ("0", "must be longer than 0, with its unit, such as 60s"),
        ("0.0", "must be longer than 0, with its unit, such as 60s"),
        ("0s", "must be longer than 0s"),
        (60, "a bare number; write 60s"),
        (-5, "must be a duration such as 30s"),
    ],
)
def test_advice_for_a_duration_is_not_refused_next(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_positive_duration(value)


def test_a_duration_that_is_longer_than_nothing() -> None:
    assert parse_positive_duration("90s") == 90 * SECOND


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=8760 * 3600 * SECOND))
def test_a_duration_is_read_back_as_it_was(ns: int) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("value", "size"), [(256, 256), ("256", 256), ("10k", 10_000), ("3M", 3_000_000), ("1.5k", 1500)]
)
def test_sizes(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["10K", "10 k", "ten", "", "-1", 1.5, True, None, "1.0005k"])
def test_what_is_not_a_size(value: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("4/s", 4.0), ("120/min", 2.0), ("0.5/s", 0.5), ("1/min", 1 / 60), ("30/h", 30 / 3600), ("0.001/h", 0.001 / 3600)],
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate, rel=1e-15)
    assert format_rate(parse_rate(text)) == {"120/min": "2/s", "0.5/s": "30/min"}.get(text, text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (4, "a bare number; write 4/s"),
        (0.5, "a bare number; write 0.5/s"),
        ("4", "a bare number; write 4/s"),
        (0, "must be more than 0, with its unit, such as 4/s"),
        ("0", "must be more than 0, with its unit, such as 4/s"),
        ("0/s", "must be more than 0"),
        ("0.0/min", "must be more than 0"),
        ("-4/s", "not a rate; write a number and a unit (/s, /min or /h)"),
        ("4 /s", "not a rate"),
        ("4/m", "not a rate"),
        ("4rps", "not a rate"),
        (True, "must be a rate such as 4/s"),
        (None, "must be a rate such as 4/s"),
        ("1000001/s", "must be between 0.001/h and 1000000/s"),
        ("9" * 400 + "/h", "must be between"),
        ("0.0001/h", "must be between"),
    ],
)
def test_what_is_not_a_rate(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_rate(value)


@settings(deadline=None)
@given(st.floats(min_value=0.001 / 3600, max_value=1e6) | st.integers(1, 10**9).map(lambda n: n / 3600 / 1000))
def test_a_rate_is_read_back_as_it_was(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate


def test_the_nearest_name_or_all_of_them() -> None:
    assert nearest("modle", ["model", "name"]) == 'did you mean "model"?'
    assert nearest("zzz", ["model", "name"]) == "there are: model, name"
    assert nearest("zzz", ["model"]) == "there is: model"
