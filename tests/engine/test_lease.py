"""A lease is worth what the master has said, never less for an order that came late, never more."""

from hypothesis import given
from hypothesis import strategies as st

from latbench.engine.clock import Clock, raw_ns
from latbench.engine.lease import Lease


class SetClock(Clock):
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.at_ns = 0

    def now_ns(self) -> int:
        return self.at_ns


def test_without_a_word_from_the_master_nothing_may_begin() -> None:
    assert not Lease(SetClock()).live


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 300)), max_size=30))
def test_it_lives_until_the_latest_moment_that_was_named(orders: list[tuple[int, int]]) -> None:
    """In whatever order renewals are read, and however late."""
    clock = SetClock()
    lease, latest_ns = Lease(clock), 0
    for passed_ns, until_ns in orders:
        clock.at_ns += passed_ns
        assert lease.live == (clock.at_ns < latest_ns)
        lease.renew(until_ns)
        latest_ns = max(latest_ns, until_ns)
        assert lease.live == (clock.at_ns < latest_ns)


def test_its_end_is_not_part_of_it() -> None:
    clock = SetClock()
    lease = Lease(clock)
    lease.renew(10)
    for at_ns, live in ((9, True), (10, False), (11, False)):
        clock.at_ns = at_ns
        assert lease.live is live


def test_a_renewal_that_was_read_after_its_moment_is_worth_nothing() -> None:
    clock = SetClock()
    lease = Lease(clock)
    clock.at_ns = 1_000
    lease.renew(999)
    assert not lease.live
    lease.renew(1_001)
    assert lease.live


def test_its_moments_are_the_run_s() -> None:
    """On another machine the zero of the run may be anywhere on the clock that the engine reads."""
    for ago_ns in (10**9, 10**15):
        clock = Clock(raw_ns() - ago_ns)
        lease = Lease(clock)
        lease.renew(ago_ns)
        assert not lease.live
        lease.renew(ago_ns + 3600 * 10**9)
        assert lease.live
