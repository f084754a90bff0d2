"""The shares of n workers make the whole: slot k of N takes k, k + N, … below the number of requests."""

from hypothesis import given
from hypothesis import strategies as st

from latbench.model.request import Message, Prompt
from latbench.plan.draw import Drawer

PROMPTS = [Prompt(str(n), "abc"[n % 3], "", (Message("user", ""),), 0, "") for n in range(30)]


def shares(requests: int, stride: int, owners: list[int]) -> list[list[int]]:
    """The sequence numbers that each worker sends, the slots having been dealt out by `owners`."""
    workers: list[list[int]] = [[] for _ in range(max(owners) + 1)]
    for slot, owner in enumerate(owners):
        workers[owner] += range(slot, requests, stride)
    return workers


DEALS = st.integers(1, 40).flatmap(lambda n: st.lists(st.integers(0, 9), min_size=n, max_size=n))


@given(st.integers(0, 500), DEALS)
def test_the_shares_make_the_whole(requests: int, owners: list[int]) -> None:
    dealt = shares(requests, len(owners), owners)
    assert sorted(seq for share in dealt for seq in share) == list(range(requests))


@given(st.integers(1, 300), DEALS, DEALS, st.integers(0, 2**32))
def test_the_prompts_do_not_depend_on_the_workers(requests: int, one: list[int], other: list[int], seed: int) -> None:
    plans = []
    for owners in (one, other):
        drawer = Drawer(seed, PROMPTS, {"a": 1.0, "c": 2.0})
        plans.append({seq: drawer.draw(seq) for share in shares(requests, len(owners), owners) for seq in share})
    assert plans[0] == plans[1]
