"""Who does what: whoever is lost, every slot and every shard has one live owner, and no request is asked for twice."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from latbench.cluster.deal import Orphaned, Shards, Slots, lost_with
from latbench.model.frames import Slot
from latbench.model.load import Closed, Poisson, Step
from latbench.plan.partition import ELASTIC_SLOTS, GENERATION, SHARDS, gaps

CHANCE = st.randoms(use_true_random=False)
USERS = st.lists(st.integers(0, 9), min_size=1, max_size=6).map(
    lambda counts: {f"w{number}": count for number, count in enumerate(counts)}
)
WORKERS = st.integers(1, 70).map(lambda count: [f"w{number}" for number in range(count)])
ELASTIC = Step(Closed(ELASTIC_SLOTS))


def closed(concurrency: int, requests: int | None = None) -> Step:
    return Step(Closed(concurrency), requests=requests, duration_ns=None if requests is not None else 1)


def poisson(cap: int | None = None) -> Step:
    return Step(Poisson(1.0), duration_ns=1, max_in_flight=cap)


# --- slots ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 3), USERS)
def test_every_slot_is_dealt_once(concurrency: int, endpoints: int, users: dict[str, int]) -> None:
    slots = Slots(closed(concurrency), endpoints)
    slots.deal(users)
    dealt = {worker: [slot.number for slot in slots.of(worker)] for worker in users}
    assert sorted(number for numbers in dealt.values() for number in numbers) == list(range(concurrency * endpoints))
    if sum(users.values()) <= concurrency * endpoints:
        assert all(len(dealt[worker]) >= count for worker, count in users.items())
    assert all(slot.first == slot.number // endpoints for worker in users for slot in slots.of(worker))


def test_what_nobody_has_users_for_goes_round() -> None:
    slots = Slots(closed(7), 1)
    slots.deal({"a": 1, "b": 0, "c": 1})
    assert {worker: [slot.number for slot in slots.of(worker)] for worker in "abc"} == {
        "a": [0, 2, 5],
        "b": [3, 6],
        "c": [1, 4],
    }


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 100))
def test_the_turns_of_all_slots_are_the_requests(concurrency: int, endpoints: int, requests: int) -> None:
    """For each endpoint 0, 1, … up to the number of requests, none twice."""
    slots = Slots(closed(concurrency, requests), endpoints)
    slots.deal({"a": 1})
    assert slots.stride == concurrency
    for endpoint in range(endpoints):
        own = [slot for slot in slots.of("a") if slot.number % endpoints == endpoint]
        numbers = [slot.first + turn * slots.stride for slot in own for turn in range(slot.turns or 0)]
        assert sorted(numbers) == list(range(requests))


def test_a_load_by_time_has_no_last_turn() -> None:
    slots = Slots(closed(2), 1)
    slots.deal({"a": 2, "b": 0})
    assert [slot.turns for slot in slots.of("a")] == [None, None]
    slots.lose("a", ["b"], {0: 5})
    assert [slot.turns for slot in slots.of("b")] == [None, None]


class Load:
    """Workers that begin turns as their slots allow; what each has begun of a slot is known exactly."""

    def __init__(self, slots: Slots, users: dict[str, int], endpoints: int) -> None:
        self.slots = slots
        self.endpoints = endpoints
        self.live = list(users)
        self.begun: dict[str, Counter[int]] = {worker: Counter() for worker in users}
        self.sent: list[tuple[int, int]] = []
        slots.deal(users)

    def turn(self, worker: str, slot: Slot) -> bool:
        """Begin one, if the slot has one left."""
        count = self.begun[worker][slot.number]
        if slot.turns is not None and count >= slot.turns:
            return False
        self.begun[worker][slot.number] = count + 1
        self.sent.append((slot.number % self.endpoints, slot.first + count * self.slots.stride))
        return True

    def some(self, chance: random.Random) -> None:
        """Some of them begin some turns."""
        for worker in self.live:
            for slot in self.slots.of(worker):
                for _ in range(chance.randint(0, 4)):
                    self.turn(worker, slot)

    def lose(self, worker: str) -> None:
        self.live.remove(worker)
        self.slots.lose(worker, self.live, self.begun[worker])

    def rest(self) -> None:
        """Until nobody has a turn left."""
        for worker in self.live:
            for slot in self.slots.of(worker):
                while self.turn(worker, slot):
                    """Go on."""


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 90), USERS, CHANCE)
def test_whoever_is_lost_no_turn_is_left_out_and_none_is_taken_twice(
    concurrency: int, endpoints: int, requests: int, users: dict[str, int], chance: random.Random
) -> None:
    load = Load(Slots(closed(concurrency, requests), endpoints), users, endpoints)
    while len(load.live) > 1:
        load.some(chance)
        before = dict(load.slots.owners)
        lost = chance.choice(load.live)
        load.lose(lost)
        assert load.slots.owners.keys() == set(range(concurrency * endpoints))
        assert set(load.slots.owners.values()) <= set(load.live)
        kept = {number for number, owner in before.items() if owner != lost}
        assert all(load.slots.owners[number] == before[number] for number in kept)
        assert load.slots.of(lost) == []
        if chance.random() < 0.3:
            break
    load.rest()
    assert Counter(endpoint for endpoint, _ in load.sent) == Counter(dict.fromkeys(range(endpoints), requests))
    assert len(set(load.sent)) == len(load.sent), "no sequence number twice"
    for endpoint in range(endpoints):
        seqs = [seq for to, seq in load.sent if to == endpoint]
        assert gaps(closed(concurrency, requests), seqs) == 0, "what is missing can be told from the numbers alone"


def test_a_slot_that_moves_goes_on_in_a_generation_of_its_own() -> None:
    slots = Slots(closed(3, 20), 2)
    slots.deal({"a": 6, "b": 0, "c": 0})
    assert slots.of("a")[3] == Slot(3, 1, 7)
    slots.lose("a", ["b"], {3: 4})
    assert slots.of("b")[3] == Slot(3, GENERATION + 1, 3)
    slots.lose("b", ["c"], {3: 5})  # more than it should have begun is no reason to go below none
    assert slots.of("c")[3] == Slot(3, 2 * GENERATION + 1, 0)


# --- slots that follow Locust's users ---------------------------------------------------------------------------------


def test_an_elastic_step_has_slots_for_users_only() -> None:
    slots = Slots(ELASTIC, 2)
    slots.deal({"a": 3, "b": 2})
    assert (slots.stride, slots.places) == (ELASTIC_SLOTS, 2 * ELASTIC_SLOTS)
    assert [slot.number for slot in slots.of("a")] == [0, 1, 2]
    assert slots.of("b") == [Slot(3, 1), Slot(4, 2)]


@given(USERS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=30))
def test_a_slot_never_changes_its_worker_when_users_come_and_go(
    users: dict[str, int], changes: list[tuple[int, int]]
) -> None:
    slots = Slots(ELASTIC, 2)
    slots.deal(users)
    names = list(users)
    held = {worker: slots.of(worker) for worker in names}
    first_owner: dict[int, str] = {slot.number: worker for worker, own in held.items() for slot in own}
    for place, count in changes:
        worker = names[place % len(names)]
        before = held[worker]
        held[worker] = slots.resize(worker, before, count)
        assert len(held[worker]) == count
        assert held[worker][: len(before)] == before[:count], "what it has it keeps, as far as there are users"
        for slot in held[worker]:
            assert first_owner.setdefault(slot.number, worker) == worker
            assert slot == Slot(slot.number, slot.number // 2)
        live = [slot.number for own in held.values() for slot in own]
        assert len(set(live)) == len(live)


def test_there_are_no_more_slots_than_places() -> None:
    slots = Slots(ELASTIC, 1)
    slots.deal({"a": ELASTIC_SLOTS - 2, "b": 0})
    assert [slot.number for slot in slots.resize("b", [], 9)] == [ELASTIC_SLOTS - 2, ELASTIC_SLOTS - 1]


# --- shards -----------------------------------------------------------------------------------------------------------


@given(WORKERS, st.none() | st.integers(1, 80), st.integers(0, 9), CHANCE)
def test_whoever_is_lost_every_shard_has_one_live_owner(
    workers: list[str], cap: int | None, deaths: int, chance: random.Random
) -> None:
    deal, live = Shards(poisson(cap), workers), list(workers)
    orphans: dict[int, list[Orphaned]] = {}
    for death in range(min(deaths, len(workers) - 1) + 1):
        if death:
            lost = live.pop(chance.randrange(len(live)))
            before = dict(deal.owners)
            for shard in deal.of(lost):
                orphans.setdefault(shard, []).append(Orphaned(death * 100, lost))
            deal.lose(lost, live, death * 100)
            assert all(deal.owners[shard] == owner for shard, owner in before.items() if owner != lost)
            assert deal.of(lost) == []
        dealt = [shard for worker in live for shard in deal.of(worker)]
        assert sorted(dealt) == list(range(SHARDS))
        assert deal.orphans == orphans
        _check_caps(deal, live, cap)


def _check_caps(deal: Shards, live: list[str], cap: int | None) -> None:
    """The parts of the cap are the cap, and whoever has arrivals to send may send one at least."""
    parts = {worker: deal.cap(worker) for worker in live}
    if cap is None:
        assert set(parts.values()) == {None}
        return
    assert sum(part or 0 for part in parts.values()) == cap
    assert all(parts[worker] for worker in live if deal.of(worker))


def test_a_small_cap_is_not_torn_to_pieces() -> None:
    """Of four workers two send one request at a time; when one is lost, one other takes its place."""
    deal = Shards(poisson(2), ["a", "b", "c", "d"])
    assert [len(deal.of(worker)) for worker in "abcd"] == [32, 32, 0, 0]
    assert [deal.cap(worker) for worker in "abcd"] == [1, 1, 0, 0]
    deal.lose("a", ["b", "c", "d"], 0)
    assert [len(deal.of(worker)) for worker in "abcd"] == [0, 32, 32, 0]
    assert [deal.cap(worker) for worker in "abcd"] == [0, 1, 1, 0]


def test_shards_that_nobody_can_take_are_remembered() -> None:
    deal = Shards(poisson(), ["a", "b"])
    deal.lose("a", ["b"], 5)
    deal.lose("b", [], 9)
    assert set(deal.orphans) == set(range(SHARDS))
    assert deal.orphans[1] == [Orphaned(9, "b")]
    assert deal.orphans[0] == [Orphaned(5, "a"), Orphaned(9, "b")]


@given(WORKERS, st.integers(1, 9), CHANCE)
def test_an_arrival_was_lost_with_whoever_had_its_shard_when_it_was_due(
    workers: list[str], deaths: int, chance: random.Random
) -> None:
    """Against a log of all owners: also the arrivals that the first had, of a shard whose second owner is lost, too."""
    deal, live = Shards(poisson(), workers), list(workers)
    owners = [dict(deal.owners)]
    for death in range(1, min(deaths, len(workers)) + 1):
        lost = live.pop(chance.randrange(len(live)))
        deal.lose(lost, live, death * 100)
        owners.append(dict(deal.owners))
    for shard, history in deal.orphans.items():
        for when, owned in enumerate(owners):
            if owned[shard] not in live:
                assert lost_with(history, when * 100) == lost_with(history, when * 100 + 99) == owned[shard]
        assert lost_with(history, 10**9) == history[-1].worker


def test_what_the_first_of_two_lost_owners_took_along_is_its_own() -> None:
    history = [Orphaned(100, "a"), Orphaned(250, "b")]
    assert [lost_with(history, due_ns) for due_ns in (0, 99, 100, 249, 250, 9999)] == ["a", "a", "b", "b", "b", "b"]
