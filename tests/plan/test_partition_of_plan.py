"""The shares of n workers make the whole for any n, and what was passed over is found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.model.load import Closed, Poisson, Sessions, Step, ToolLoop
from latbench.plan.partition import ELASTIC_SLOTS, GENERATION, SHARDS, caps, gaps, mine, redeal, shards_of

WORKERS = st.integers(1, 90).map(lambda n: [f"w{number}" for number in range(n)])
DEATHS = st.lists(st.integers(0, 1000), max_size=8)
OPEN = Step(Poisson(1.0), duration_ns=1)


def owners_of(dealt: dict[str, list[int]]) -> dict[int, str]:
    return {shard: worker for worker, shards in dealt.items() for shard in shards}


def held_by(owners: dict[int, str], worker: str) -> list[int]:
    return [shard for shard, owner in owners.items() if owner == worker]


def after_deaths(workers: list[str], deaths: list[int]) -> tuple[dict[int, str], list[str]]:
    """Owners and live workers after some of them died, at least one being left."""
    owners, live = owners_of(shards_of(workers)), list(workers)
    for death in deaths[: len(workers) - 1]:
        lost = live.pop(death % len(live))
        owners = redeal(owners, lost, live)
    return owners, live


# --- shards ----------------------------------------------------------------------------------------------------


@given(WORKERS)
def test_shards_are_dealt_evenly(workers: list[str]) -> None:
    dealt = shards_of(workers)
    assert list(dealt) == workers
    assert sorted(shard for shards in dealt.values() for shard in shards) == list(range(SHARDS))
    sizes = [len(shards) for shards in dealt.values()]
    assert max(sizes) - min(sizes) <= 1


def test_three_workers_deal_in_turn() -> None:
    assert shards_of(["a", "b", "c"])["c"][:3] == [2, 5, 8]


@given(WORKERS, DEATHS, st.integers(0, 1000))
def test_the_shares_of_any_workers_make_the_whole(workers: list[str], deaths: list[int], count: int) -> None:
    owners, live = after_deaths(workers, deaths)
    shares = [mine(count, held_by(owners, worker)) for worker in live]
    assert sorted(np.concatenate(shares).tolist()) == list(range(count))
    for share, worker in zip(shares, live, strict=True):
        assert (np.diff(share) > 0).all()
        assert {int(number) % SHARDS for number in share} <= set(held_by(owners, worker))


@given(WORKERS.filter(lambda workers: len(workers) > 1), st.integers(0, 1000))
def test_only_the_shards_of_the_lost_worker_move(workers: list[str], death: int) -> None:
    lost = workers[death % len(workers)]
    live = [worker for worker in workers if worker != lost]
    before = owners_of(shards_of(workers))
    after = redeal(before, lost, live)
    assert after == redeal(before, lost, live)
    assert after.keys() == before.keys()
    assert lost not in after.values()
    assert all(after[shard] == owner for shard, owner in before.items() if owner != lost)
    sizes = [len(held_by(after, worker)) for worker in live]
    assert max(sizes) - min(sizes) <= 1


def test_moved_shards_go_to_whoever_has_fewest() -> None:
    owners = {0: "a", 1: "a", 2: "a", 3: "b", 4: "c", 5: "c"}
    assert redeal(owners, "c", ["a", "b"]) == {**owners, 4: "b", 5: "b"}
    assert redeal({0: "a", 1: "b", 2: "c"}, "a", ["c", "b"]) == {0: "c", 1: "b", 2: "c"}
    assert redeal({1: "a", 0: "a"}, "a", ["b", "c"]) == {0: "b", 1: "c"}


def test_nobody_left_to_take_the_shards() -> None:
    with pytest.raises(ValueError, match="empty"):
        redeal({0: "a"}, "a", [])


# --- caps ------------------------------------------------------------------------------------------------------


@given(WORKERS, DEATHS, st.integers(0, 10**6))
def test_the_parts_of_a_cap_sum_to_it(workers: list[str], deaths: list[int], cap: int) -> None:
    owners, _ = after_deaths(workers, deaths)
    parts = caps(cap, owners)
    assert sum(parts.values()) == cap
    assert parts.keys() == set(owners.values())
    for worker, part in parts.items():
        assert abs(part - cap * len(held_by(owners, worker)) / SHARDS) < 1


def test_a_cap_follows_the_shards_and_the_largest_remainder() -> None:
    owners = {0: "b", 1: "b", 2: "a", 3: "c", 4: "c", 5: "c"}
    assert caps(6, owners) == {"a": 1, "b": 2, "c": 3}
    assert caps(4, owners) == {"a": 1, "b": 1, "c": 2}  # exactly 2/3, 4/3 and 2
    assert caps(1, {0: "a", 1: "b"}) == caps(1, {1: "b", 0: "a"}) == {"a": 1, "b": 0}  # whoever holds the first shard


# --- what was passed over --------------------------------------------------------------------------------------


def lane_of(step: Step, seq: int) -> tuple[int, int]:
    """Lane and place of a sequence number, in words of its own."""
    if step.open:
        return seq % 64, seq // 64
    stride = 65536 if step.elastic else step.concurrency
    assert stride is not None
    return seq // 2**32 * 2**32 + seq % 2**32 % stride, seq % 2**32 // stride


STEPS = st.sampled_from(
    [
        OPEN,
        Step(Closed(1), requests=9),
        Step(Closed(7), duration_ns=1),
        Step(Closed(70_000), requests=1),
        Step(Closed(3)),
    ]
)


@st.composite
def begun(draw: st.DrawFn) -> tuple[Step, list[int]]:
    """A step, and what its lanes begun so far: a prefix of each."""
    step = draw(STEPS)
    if step.open:
        lanes, stride = st.integers(0, SHARDS - 1), SHARDS
    else:
        stride = ELASTIC_SLOTS if step.elastic else step.concurrency or 0
        lanes = st.builds(
            lambda generation, slot: generation * GENERATION + slot, st.integers(0, 3), st.integers(0, stride - 1)
        )
    lengths = draw(st.dictionaries(lanes, st.integers(0, 12), max_size=9))
    return step, [lane + place * stride for lane, length in lengths.items() for place in range(length)]


@given(begun())
def test_prefixes_have_no_gaps(case: tuple[Step, list[int]]) -> None:
    step, seqs = case
    assert gaps(step, seqs) == 0
    assert gaps(step, set(seqs)) == 0
    assert gaps(step, np.array(seqs + seqs, dtype=np.int64)) == 0


@given(begun(), st.data())
def test_every_number_that_was_passed_over_is_counted(case: tuple[Step, list[int]], data: st.DataObject) -> None:
    step, seqs = case
    gone = set(data.draw(st.lists(st.sampled_from(seqs)))) if seqs else set()
    there = [seq for seq in seqs if seq not in gone]
    ends = dict(sorted(lane_of(step, seq) for seq in there))  # the last place that is there, of each lane
    passed = [seq for seq in gone if lane_of(step, seq)[1] < ends.get(lane_of(step, seq)[0], -1)]
    assert gaps(step, there) == len(passed)


def test_nothing_sent_leaves_no_gap() -> None:
    assert gaps(OPEN, []) == 0
    assert gaps(Step(Sessions(1.0, 3), requests=1), np.empty(0, dtype=np.int64)) == 0


def test_a_slot_that_moved_counts_from_the_start_of_its_generation() -> None:
    closed = Step(Closed(4), duration_ns=1)
    first, second = [1, 5, 9], [GENERATION + 1, GENERATION + 5]
    assert gaps(closed, first + second) == 0
    assert gaps(closed, [*first, GENERATION + 5]) == 1
    assert gaps(closed, [1, 9, *second]) == 1


def test_the_slots_of_an_elastic_step_lie_far_apart() -> None:
    assert gaps(Step(Closed(4)), [0, 1, 9, 65536]) == 0
    assert gaps(Step(Closed(4)), [2 * ELASTIC_SLOTS + 9]) == 2


def test_an_arrival_missing_below_another_of_its_shard() -> None:
    assert gaps(OPEN, [0, 64, 128, 5, 69]) == 0
    assert gaps(OPEN, [0, 128, 69]) == 2


SESSIONS = Step(Sessions(rate=1.0, turns=4), requests=500)


@given(st.dictionaries(st.integers(0, SHARDS - 1), st.lists(st.integers(1, 4), max_size=4), max_size=6), st.data())
def test_sessions_are_a_prefix_and_so_are_their_turns(lanes: dict[int, list[int]], data: st.DataObject) -> None:
    sessions = {shard + place * SHARDS: turns for shard, lane in lanes.items() for place, turns in enumerate(lane)}
    seqs = {session * 4 + turn for session, turns in sessions.items() for turn in range(turns)}
    assert gaps(SESSIONS, seqs) == 0
    if not seqs:
        return
    gone = data.draw(st.sampled_from(sorted(seqs)))
    session, turn = divmod(gone, 4)
    later = turn < sessions[session] - 1 or (turn == 0 and session + SHARDS in sessions)
    assert gaps(SESSIONS, seqs - {gone}) == later


def test_a_session_that_left_nothing_counts_for_its_first_turn() -> None:
    assert gaps(SESSIONS, [4 * (64 + 3), 4 * (64 + 3) + 1]) == 1
    assert gaps(SESSIONS, [4 * 3, 4 * 3 + 3]) == 2


def test_tool_loops_are_told_apart_as_sessions_are() -> None:
    """A loop that took fewer round trips than it might has no gap."""
    loops = Step(ToolLoop(rate=1.0, max_rounds=4), requests=500)
    assert gaps(loops, [4 * 3, 4 * 3 + 1, 4 * 5]) == 0
    assert gaps(loops, [4 * 3, 4 * 3 + 3]) == 2
    assert gaps(loops, [4 * (64 + 3)]) == 1
