"""Another machine's clock, from pings: wrong by half of the quickest round trip at most."""

from hypothesis import given
from hypothesis import strategies as st

from latbench.cluster.worker_clock import PINGS, WorkerClock

WAYS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=60)


@given(st.integers(-(10**15), 10**15), WAYS)
def test_the_offset_is_known_to_half_of_the_quickest_round_trip(offset_ns: int, ways: list[tuple[int, int]]) -> None:
    """However unlike the ways there and back are. This is why the round trip is kept with the run."""
    clock = WorkerClock(shared=False)
    now_ns = 10**12
    for there_ns, back_ns in ways:
        sent_ns = now_ns
        at_ns = sent_ns + there_ns + offset_ns
        now_ns = sent_ns + there_ns + back_ns
        clock.pong(sent_ns, at_ns, now_ns)
        assert abs(clock.offset_ns - offset_ns) <= -(-clock.rtt_ns // 2)
    assert clock.rtt_ns == min(sum(way) for way in ways)


def test_ways_of_one_length_give_the_offset_itself() -> None:
    clock = WorkerClock(shared=False)
    clock.pong(1_000, 5_000 + 50, 1_100)
    assert (clock.offset_ns, clock.rtt_ns) == (4_000, 100)


def test_a_slower_exchange_teaches_nothing() -> None:
    clock = WorkerClock(shared=False)
    clock.pong(0, 1_000_005, 10)
    clock.pong(100, 1_000_100, 900)
    clock.pong(1_000, 1_001_900, 1_010)  # as quick: the first one counts
    assert (clock.offset_ns, clock.rtt_ns) == (1_000_000, 10)


def test_it_is_known_after_so_many_exchanges() -> None:
    clock = WorkerClock(shared=False)
    for count in range(PINGS):
        assert not clock.known
        clock.pong(count, count, count)
    assert clock.known


def test_on_one_machine_there_is_nothing_to_learn() -> None:
    clock = WorkerClock(shared=True)
    assert clock.known
    clock.pong(1_000, 77_777, 3_000)
    assert (clock.offset_ns, clock.rtt_ns) == (0, 0)
    assert clock.known
