"""Numbered batches: any order, any repetition, and complete only without a gap."""

import random

from hypothesis import given
from hypothesis import strategies as st

from latbench.cluster.merge import Inbox, Once, Outbox


@given(st.integers(1, 40), st.integers(0, 40), st.randoms(use_true_random=False))
def test_each_batch_is_taken_once_in_any_order(count: int, repeated: int, chance: random.Random) -> None:
    arriving = [*range(1, count + 1), *(chance.randint(1, count) for _ in range(repeated))]
    chance.shuffle(arriving)
    inbox = Inbox()
    taken = [number for number in arriving if inbox.accept(number)]
    assert sorted(taken) == list(range(1, count + 1))
    assert not any(inbox.accept(number) for number in range(1, count + 1))


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_a_step_is_complete_exactly_when_nothing_up_to_its_final_batch_is_missing(
    count: int, chance: random.Random
) -> None:
    final = chance.randint(1, count)
    arriving = list(range(1, count + 1))
    chance.shuffle(arriving)
    inbox, there = Inbox(), set()
    for number in arriving:
        assert inbox.accept(number, 0 if number == final else None)
        there.add(number)
        assert inbox.complete(0) == (set(range(1, final + 1)) <= there)
        assert not inbox.complete(1)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_several_steps_on_one_sequence(lengths: list[int], chance: random.Random) -> None:
    finals = {sum(lengths[: step + 1]): step for step in range(len(lengths))}
    arriving = list(range(1, sum(lengths) + 1))
    chance.shuffle(arriving)
    inbox, there = Inbox(), set()
    for number in arriving:
        inbox.accept(number, finals.get(number))
        there.add(number)
        for final, step in finals.items():
            assert inbox.complete(step) == (set(range(1, final + 1)) <= there)


@given(st.lists(st.integers(1, 9), max_size=12))
def test_another_run_on_the_same_worker_counts_anew(before: list[int]) -> None:
    inbox = Inbox()
    for number in before:
        inbox.accept(number, number % 3)
    inbox.restart()
    assert all(inbox.accept(number) for number in range(1, 10))
    assert not any(inbox.complete(step) for step in range(3)), "the final batches of the run before are forgotten"
    assert inbox.accept(11, 0)
    assert not inbox.complete(0)
    assert inbox.accept(10)
    assert inbox.complete(0)


@given(st.lists(st.sampled_from(["keep", "acknowledge", "due"]), max_size=60), st.randoms(use_true_random=False))
def test_what_is_not_acknowledged_is_sent_again_when_it_is_old_enough(
    actions: list[str], chance: random.Random
) -> None:
    """Against a model: when each batch that waits was last sent."""
    outbox, model, now, kept = Outbox(), {}, 100.0, 0
    for action in actions:
        now += chance.random()
        if action == "keep":
            kept += 1
            outbox.keep(kept, str(kept).encode(), now)
            model[kept] = now
        elif action == "acknowledge":
            number = chance.randint(0, 70)  # unknown ones too
            outbox.acknowledged(number)
            model.pop(number, None)
        else:
            late = [number for number, sent in model.items() if now - sent >= 1.0]
            assert outbox.due(now, 1.0) == [str(number).encode() for number in late]
            model |= dict.fromkeys(late, now)
        assert len(outbox) == len(model)


def test_a_batch_that_is_kept_again_waits_once() -> None:
    """What the bridge salvages of a dead engine may bear the number of a batch that waits still."""
    outbox = Outbox()
    outbox.keep(3, b"old", 0.0)
    outbox.keep(3, b"new", 5.0)
    assert outbox.due(5.5, 1.0) == []
    assert outbox.due(6.0, 1.0) == [b"new"]
    outbox.acknowledged(3)
    assert len(outbox) == 0


@given(st.integers(0, 2**32))
def test_a_link_that_loses_a_third_both_ways_still_delivers_all_once(seed: int) -> None:
    chance = random.Random(seed)
    outbox, inbox = Outbox(), Inbox()
    taken: list[int] = []

    def carry(data: bytes) -> None:
        number = int(data)
        if chance.random() < 0.3:
            return
        if inbox.accept(number, 0 if number == 20 else None):
            taken.append(number)
        if chance.random() >= 0.3:
            outbox.acknowledged(number)

    for number in range(1, 21):
        outbox.keep(number, str(number).encode(), 0.0)
        carry(str(number).encode())
    now = 0.0
    while len(outbox):
        now += 1.0
        for data in outbox.due(now, 1.0):
            carry(data)
    assert sorted(taken) == list(range(1, 21))
    assert inbox.complete(0)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), max_size=60), st.integers(1, 20))
def test_what_is_told_twice_is_news_once(told: list[tuple[int, int]], window_ns: int) -> None:
    """Something happens at one moment; it is told once or more, in any order."""
    once = Once(window_ns)
    news: set[tuple[int, int]] = set()
    latest_ns = 0
    for key in told:
        at_ns = key[1]
        latest_ns = max(latest_ns, at_ns)
        assert once.first(key, at_ns) == (key not in news and at_ns > latest_ns - window_ns)
        news.add(key)


def test_what_is_long_past_is_forgotten_and_no_news_either() -> None:
    once = Once(10)
    assert all(once.first(f"at {at_ns}", at_ns) for at_ns in range(1, 10_000))
    assert len(once) == 10, "it does not grow with the run"
    assert not once.first("late", 9_989)
    assert once.first("in time", 9_990)
    assert not once.first("in time", 9_990)
