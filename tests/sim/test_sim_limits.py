"""Rate limits of a key: what passes, what is hit, what is left."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.dialects import Hit, Room
from latbench.sim.limits import Bucket, Limits, Quota, Window
from latbench.sim.options import Options


def _quota(**options: object) -> Quota:
    return Limits(replace(Options(), **options)).of("key")


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    quota = _quota(rpm=600, burst=20)
    assert [quota.take(1, 100.0) for _ in range(20)] == [None] * 20
    hit = quota.take(1, 100.0)
    assert hit == Hit("requests", 600, 20, 1, pytest.approx(0.1))
    assert quota.take(1, 100.0999) is not None
    assert quota.take(1, 100.1) is None
    assert quota.take(1, 100.1) is not None
    assert [quota.take(1, 1000.0) is None for _ in range(25)] == [True] * 20 + [False] * 5


def test_without_a_burst_a_bucket_holds_a_minute() -> None:
    quota = _quota(rpm=3)
    assert [quota.take(1, 0.0) is None for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_fixed_window_opens_anew_a_minute_after_the_first_use() -> None:
    quota = _quota(rpm=2, burst=1, limit_window="fixed")
    assert [quota.take(1, 130.0), quota.take(1, 170.0)] == [None, None]
    assert quota.take(1, 180.0) == Hit("requests", 2, 2, 1, pytest.approx(10.0))
    assert quota.take(1, 190.0) is None
    assert quota.take(1, 249.0) is None
    assert quota.take(1, 249.5) == Hit("requests", 2, 2, 1, pytest.approx(0.5))
    assert quota.take(1, 1000.0) is None
    assert quota.rooms(1000.0) == (Room("requests", 2, 1, pytest.approx(30.0)),)


def test_tokens_are_taken_up_front_and_a_request_over_the_limit_never_passes() -> None:
    quota = _quota(tpm=600)
    assert quota.take(600, 0.0) is None
    assert quota.take(100, 1.0) == Hit("tokens", 600, 590, 100, pytest.approx(9.0))
    assert quota.take(601, 0.0) == Hit("tokens", 600, 590, 601, None)
    assert quota.take(100, 10.0) is None


def test_one_that_is_refused_takes_nothing_of_any_limit() -> None:
    quota = _quota(rpm=2, tpm=100, max_concurrent=2)
    assert quota.take(101, 0.0) is not None
    assert quota.rooms(0.0) == (Room("requests", 2, 2, 0.0), Room("tokens", 100, 100, 0.0))
    assert quota.open == 0


def test_requests_at_a_time() -> None:
    quota = _quota(max_concurrent=2)
    assert [quota.take(1, 0.0), quota.take(1, 0.0)] == [None, None]
    assert quota.take(1, 0.0) == Hit("concurrency", 2, 2, 1, 1.0)
    quota.done()
    assert quota.take(1, 0.0) is None
    assert quota.rooms(0.0) == ()


def test_no_limits_let_everything_pass() -> None:
    quota = _quota()
    assert [quota.take(10**9, 0.0) for _ in range(100)] == [None] * 100


def test_keys_do_not_share() -> None:
    limits = Limits(replace(Options(), rpm=1))
    assert limits.of("one").take(1, 0.0) is None
    assert limits.of("other").take(1, 0.0) is None
    assert limits.of("one").take(1, 0.0) is not None


def test_a_reset_fills_everything_up_and_keeps_what_is_open() -> None:
    limits = Limits(replace(Options(), rpm=1, max_concurrent=1))
    limits.of("one").take(1, 0.0)
    limits.of("other").take(1, 0.0)
    limits.of("other").done()
    limits.reset()
    hit = limits.of("one").take(1, 0.0)
    assert hit is not None
    assert hit.kind == "concurrency"
    assert limits.of("other").take(1, 0.0) is None


def test_the_key_used_longest_ago_is_forgotten_first() -> None:
    limits = Limits(replace(Options(), rpm=1))
    for number in range(10_000):
        limits.of(str(number)).take(1, 0.0)
    limits.of("0")
    limits.of("new")
    assert limits.of("0").take(1, 0.0) is not None
    assert limits.of("1").take(1, 0.0) is None


@given(
    rate=st.builds(Bucket, st.integers(1, 10_000), st.integers(1, 500)) | st.builds(Window, st.integers(1, 10_000)),
    steps=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 50)), max_size=40),
)
def test_after_the_wait_there_is_room_and_before_it_there_is_not(
    rate: Bucket | Window, steps: list[tuple[float, int]]
) -> None:
    now_s, taken = 1000.0, 0
    for gap_s, amount in steps:
        now_s += gap_s
        if amount > rate.capacity:
            continue
        wait_s = rate.wait_s(amount, now_s)
        assert (wait_s == 0) == (rate.left(now_s) >= amount)
        if wait_s > 1e-3:
            assert rate.wait_s(amount, now_s + wait_s - 1e-3) > 0
        now_s += wait_s + 1e-6
        assert rate.wait_s(amount, now_s) == 0
        rate.take(amount)
        taken += amount
        assert 0 <= rate.left(now_s) <= rate.capacity
    passed_s = now_s - 1000.0
    if isinstance(rate, Bucket):
        assert taken <= rate.capacity + passed_s * rate.per_minute / 60 + 1e-3
    else:
        assert taken <= rate.per_minute * (passed_s // 60 + 1)
