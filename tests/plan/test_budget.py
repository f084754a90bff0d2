"""A budget is never overspent, whatever is lost on the way, and it can be used to the last request."""

import random
from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from latbench.model.sample import Outcome, Sample
from latbench.plan.budget import (
    NOTHING,
    TEMPLATE_TOKENS,
    UNLIMITED,
    Amount,
    Grant,
    Limits,
    Order,
    Price,
    Purse,
    PurseState,
    Recall,
    Treasury,
    actual,
    worst_case,
)

PRICE = Price.of({"input": 3.0, "output": 15.0, "cached_input": 0.3})
WORST = Amount(1, 1000, 5_000_000)
RATES = st.floats(0, 1000, allow_nan=False)
TOKENS = st.integers(0, 10**7)


def sample(outcome: Outcome = Outcome.OK, **fields: Any) -> Sample:
    told = {"input_tokens": 100, "output_tokens": 20, "token_source": "usage", "status": 200, "connected_ns": 1}
    return Sample("e", 0, 0, "p", "measure", outcome.value, **(told | fields))


# --- prices and amounts ------------------------------------------------------------------------------------------


def test_amounts_add_up() -> None:
    assert Amount(1, 2, 3) + Amount(10, 20, 30) - Amount(0, 1, 2) == Amount(11, 21, 31)
    assert Amount(1, 5, 3).over(Amount(2, 1, 3)) == Amount(0, 4, 0)
    assert (bool(NOTHING), bool(Amount(0, 0, 1))) == (False, True)


@pytest.mark.parametrize("beyond", [Amount(3, 1, 1), Amount(1, 3, 1), Amount(1, 1, 3)])
def test_an_amount_fits_in_every_dimension_or_not_at_all(beyond: Amount) -> None:
    assert Amount(2, 2, 2).fits(Amount(2, 2, 2))
    assert not beyond.fits(Amount(2, 2, 2))


def test_limits_as_a_scenario_writes_them() -> None:
    assert Limits.of(usd=5.0, tokens=300) == Limits(None, 300, 5_000_000_000)
    assert Limits.of(usd=0.07).amount == Amount(UNLIMITED, UNLIMITED, 70_000_000)
    assert Limits(requests=4).only(Amount(1, 2, 3)) == Amount(1, 0, 0)


@given(RATES, RATES, TOKENS, TOKENS)
def test_a_price_is_exact_to_the_nano_dollar_and_rounded_up(
    input_usd: float, output_usd: float, inputs: int, outputs: int
) -> None:
    price = Price.of({"input": round(input_usd, 6), "output": round(output_usd, 6)})
    assert price is not None
    exact = inputs * Fraction(str(round(input_usd, 6))) + outputs * Fraction(str(round(output_usd, 6)))
    assert price.nano_usd(inputs, outputs) == ceil(exact * 1000)


def test_without_a_price_there_is_none() -> None:
    assert Price.of(None) is None
    assert Price.of({}) is None


def test_the_worst_case_takes_every_byte_for_a_token() -> None:
    tokens = 700 + TEMPLATE_TOKENS
    assert worst_case(None, 700, 50) == Amount(1, tokens + 50, 0)
    assert worst_case(PRICE, 700, 50) == Amount(1, tokens + 50, tokens * 3000 + 50 * 15000)


def test_the_worst_case_knows_of_cached_input_that_costs_more() -> None:
    odd = Price.of({"input": 1.0, "output": 1.0, "cached_input": 2.0})
    assert worst_case(odd, 0, 0).nano_usd == TEMPLATE_TOKENS * 2000


# --- what a request took -----------------------------------------------------------------------------------------


def test_usage_says_what_an_answer_took() -> None:
    assert actual(sample(), WORST, PRICE) == Amount(1, 120, 100 * 3000 + 20 * 15000)
    assert actual(sample(cached_tokens=40), WORST, PRICE) == Amount(1, 120, 60 * 3000 + 40 * 300 + 20 * 15000)
    assert actual(sample(cached_tokens=999), WORST, PRICE) == Amount(1, 120, 100 * 300 + 20 * 15000)
    assert actual(sample(), WORST, None) == Amount(1, 120, 0)


def test_usage_beyond_the_worst_case_counts() -> None:
    assert actual(sample(output_tokens=5000), WORST, None) == Amount(1, 5100, 0)


@pytest.mark.parametrize("status", [400, 429, 500, 301])
def test_a_refusal_takes_a_request_and_no_tokens(status: int) -> None:
    assert actual(sample(Outcome.HTTP_ERROR, status=status), WORST, PRICE) == Amount(1, 0, 0)


def test_without_a_connection_no_tokens_were_taken() -> None:
    refused = sample(Outcome.CONNECT_ERROR, status=None, connected_ns=None)
    assert actual(refused, WORST, PRICE) == Amount(1, 0, 0)
    again = msgspec.structs.replace(refused, reconnects=1)
    assert actual(again, WORST, PRICE) == WORST, "the first attempt had left"


def test_what_was_never_sent_takes_nothing() -> None:
    assert actual(sample(Outcome.DROPPED, status=None, connected_ns=None), WORST, PRICE) == NOTHING


def test_a_lost_request_keeps_the_worst_case() -> None:
    assert actual(sample(Outcome.LOST, status=None, connected_ns=None), WORST, PRICE) == WORST


@pytest.mark.parametrize(
    "fields",
    [{"token_source": "tokenizer"}, {"input_tokens": None}, {"output_tokens": None, "token_source": "none"}],
    ids=["counted by us", "no input", "no usage"],
)
def test_without_full_usage_the_worst_case_stays(fields: dict[str, Any]) -> None:
    assert actual(sample(**fields), WORST, PRICE) == WORST


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - {Outcome.OK, Outcome.DROPPED}))
def test_an_answer_that_did_not_end_well_keeps_the_worst_case(outcome: Outcome) -> None:
    assert actual(sample(outcome), WORST, PRICE) == WORST


# --- a purse -----------------------------------------------------------------------------------------------------


def test_a_purse_reserves_within_its_grant() -> None:
    purse = Purse()
    assert not purse.reserve(Amount(1, 10, 0))
    purse.granted(Amount(2, 25, UNLIMITED), 1)
    assert purse.reserve(Amount(1, 10, 7))
    assert purse.reserve(Amount(1, 10, 7))
    assert not purse.reserve(Amount(0, 6, 0))
    state = purse.state()
    assert (state.version, state.reserved, state.held) == (1, Amount(2, 20, 14), Amount(2, 20, 14))


def test_what_was_not_taken_can_be_reserved_again() -> None:
    purse = Purse()
    purse.granted(Amount(2, 10, 0), 1)
    assert purse.reserve(Amount(1, 10, 0))
    purse.settle(Amount(1, 10, 0), Amount(1, 4, 0))
    assert purse.reserve(Amount(1, 6, 0))
    assert purse.state().reserved == Amount(2, 10, 0)


def test_a_purse_obeys_no_order_twice_and_none_that_is_old() -> None:
    purse = Purse()
    purse.granted(Amount(9, 0, 0), 2)
    purse.granted(Amount(5, 0, 0), 1)
    purse.recall(2)
    assert purse.state().grant == Amount(9, 0, 0)


def test_a_recall_takes_what_is_not_reserved_and_limited() -> None:
    purse = Purse()
    purse.granted(Amount(9, 50, UNLIMITED), 1)
    assert purse.reserve(Amount(1, 20, 3))
    purse.recall(2)
    assert purse.state().grant == Amount(1, 20, UNLIMITED)


def test_a_want_ends_with_a_reservation_or_when_it_is_given_up() -> None:
    purse = Purse()
    purse.wants(Amount(1))
    before = purse.state()
    purse.wants(Amount(1))
    assert purse.state() == before
    purse.granted(Amount(1), 1)
    assert purse.state().want == Amount(1)
    assert purse.reserve(Amount(1))
    assert purse.state().want is None
    purse.wants(Amount(2))
    purse.wants(None)
    assert purse.state().want is None


def test_what_took_more_than_its_worst_case_is_covered() -> None:
    purse = Purse()
    purse.granted(Amount(2, 10, UNLIMITED), 1)
    assert purse.reserve(Amount(1, 10, 0))
    purse.settle(Amount(1, 10, 0), Amount(1, 17, 0))
    assert purse.state().grant == Amount(2, 17, UNLIMITED)
    purse.granted(Amount(2, 12, UNLIMITED), 2)
    assert purse.state().grant == Amount(2, 17, UNLIMITED)


# --- the treasury by hand ----------------------------------------------------------------------------------------


def obey(purse: Purse, order: Grant | Recall) -> None:
    if isinstance(order, Grant):
        purse.granted(order.total, order.version)
    else:
        purse.recall(order.version)


def settle_down(treasury: Treasury, purses: dict[str, Purse]) -> None:
    """Deliver every order and every state until nobody has anything to say."""
    orders = treasury.orders()
    while True:
        for worker, order in orders:
            obey(purses[worker], order)
        orders = [order for worker, purse in purses.items() for order in treasury.report(worker, purse.state())]
        if not orders:
            return


def team(limits: Limits, count: int) -> tuple[Treasury, dict[str, Purse]]:
    treasury = Treasury(limits)
    purses = {f"w{number}": Purse() for number in range(count)}
    for worker in purses:
        treasury.join(worker)
    return treasury, purses


def test_workers_hold_something_before_they_ask() -> None:
    treasury, purses = team(Limits(requests=100, nano_usd=1000), 3)
    settle_down(treasury, purses)
    for purse in purses.values():
        grant = purse.state().grant
        assert grant.requests >= 8
        assert grant.tokens == UNLIMITED
        assert grant.nano_usd >= 80
    assert treasury.committed.fits(Amount(100, 0, 1000))


def test_workers_are_granted_more_before_they_run_out() -> None:
    treasury, purses = team(Limits(requests=1000), 2)
    for _ in range(250):
        settle_down(treasury, purses)
        assert all(purse.reserve(Amount(1)) for purse in purses.values()), "nobody waits while the pool is full"


def test_an_order_that_was_not_seen_is_sent_again() -> None:
    treasury, purses = team(Limits(requests=10), 1)
    first = treasury.orders()
    assert treasury.orders() == [], "once is enough until a worker says that it has not come"
    assert treasury.report("w0", purses["w0"].state()) == first


def test_an_old_state_teaches_nothing() -> None:
    treasury, purses = team(Limits(requests=10), 1)
    settle_down(treasury, purses)
    old = purses["w0"].state()
    assert purses["w0"].reserve(Amount(1))
    treasury.report("w0", purses["w0"].state())
    treasury.report("w0", old)
    assert treasury.spent() == Amount(1)


def test_what_a_lost_worker_held_is_spent_until_it_comes_back() -> None:
    treasury, purses = team(Limits(requests=10), 2)
    settle_down(treasury, purses)
    held = purses["w0"].state().grant.requests
    assert held > 1
    assert purses["w0"].reserve(Amount(1, 70, 0))
    treasury.report("w0", purses["w0"].state())
    treasury.lose("w0")
    assert treasury.spent() == Amount(held, 70, 0)
    sent = greedy({"w1": purses["w1"]}, treasury)
    assert sent == 10 - held
    assert treasury.exhausted
    treasury.join("w0")
    assert not treasury.exhausted, "it gives back what it holds"
    assert greedy(purses, treasury) + sent == 9
    assert treasury.spent().requests == 10


def test_what_is_used_and_what_is_reserved_are_said_apart() -> None:
    treasury, purses = team(Limits(10, 4000, 8_000_000_000), 1)
    settle_down(treasury, purses)
    assert treasury.words() == "0 of 10 requests, 0 of 4000 tokens, 0.0000 of 8.0000 USD"
    worst = Amount(1, 400, 500_000_000)
    for _ in range(2):
        assert purses["w0"].reserve(worst)
        treasury.report("w0", purses["w0"].state())
    purses["w0"].settle(worst, Amount(1, 30, 40_000_000))
    treasury.report("w0", purses["w0"].state())
    assert (treasury.spent(), treasury.reserved()) == (Amount(2, 430, 540_000_000), worst)
    assert treasury.words() == (
        "1 used and 1 reserved for requests under way, of 10 requests, "
        "30 used and 400 reserved for requests under way, of 4000 tokens, "
        "0.0400 used and 0.5000 reserved for requests under way, of 8.0000 USD"
    )
    treasury.lose("w0")
    assert treasury.spent() - treasury.reserved() == Amount(1, 30, 40_000_000)


def greedy(purses: dict[str, Purse], treasury: Treasury) -> int:
    """Reserve requests until the budget is exhausted; how many."""
    sent = 0
    while not treasury.exhausted:
        for purse in purses.values():
            if purse.reserve(Amount(1)):
                sent += 1
            else:
                purse.wants(Amount(1))
        settle_down(treasury, purses)
    return sent


def test_a_budget_that_nobody_waits_for_is_not_exhausted() -> None:
    treasury, purses = team(Limits(requests=1), 1)
    settle_down(treasury, purses)
    assert not treasury.exhausted


def test_tokens_in_flight_may_still_come_back() -> None:
    treasury, purses = team(Limits(tokens=100), 2)
    first, second = purses.values()
    first.wants(Amount(1, 100, 0))
    settle_down(treasury, purses)
    assert first.reserve(Amount(1, 100, 0))
    second.wants(Amount(1, 60, 0))
    settle_down(treasury, purses)
    assert not treasury.exhausted
    first.settle(Amount(1, 100, 0), Amount(1, 40, 0))
    settle_down(treasury, purses)
    assert second.reserve(Amount(1, 60, 0))
    second.wants(Amount(1, 1, 0))
    second.settle(Amount(1, 60, 0), Amount(1, 60, 0))
    settle_down(treasury, purses)
    assert treasury.exhausted


def test_a_request_in_flight_stays_a_request() -> None:
    treasury, purses = team(Limits(requests=1), 1)
    (purse,) = purses.values()
    purse.wants(Amount(1))
    settle_down(treasury, purses)
    assert purse.reserve(Amount(1))
    purse.wants(Amount(1))
    settle_down(treasury, purses)
    assert treasury.exhausted


def test_a_request_that_costs_nothing_needs_no_more_than_the_first_grant() -> None:
    treasury, purses = team(Limits(nano_usd=10), 1)
    settle_down(treasury, purses)
    assert purses["w0"].reserve(Amount(1, 10**6, 0))


# --- whatever the timing -----------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.booleans())
def test_exactly_the_budget_is_used(seed: int, workers: int, lossy: bool) -> None:
    """Greedy workers; orders and states arrive in any order, and with `lossy` some never or twice."""
    draw = random.Random(seed)
    treasury, purses = team(Limits(requests=100), workers)
    down: list[Order] = treasury.orders()
    up: list[tuple[str, PurseState]] = []

    def arriving(queue: list[Any]) -> list[Any]:
        message = queue.pop(draw.randrange(len(queue)))
        return [message] * draw.choice([0, 1, 1, 1, 2] if lossy else [1])

    sent = 0
    for _ in range(50_000):
        if treasury.exhausted:
            break
        worker = draw.choice(list(purses))
        what = draw.random()
        if what < 0.4:
            if purses[worker].reserve(Amount(1)):
                sent += 1
            else:
                purses[worker].wants(Amount(1))
        elif what < 0.6:
            up.append((worker, purses[worker].state()))
        elif what < 0.8 and up:
            for told in arriving(up):
                down += treasury.report(*told)
        elif down:
            for name, order in arriving(down):
                obey(purses[name], order)
    assert treasury.exhausted
    assert sent == 100


class Spending(RuleBasedStateMachine):
    """Several workers with random wants; messages are lost, doubled and overtaken; workers come, go and come back."""

    @initialize(
        requests=st.none() | st.integers(0, 30),
        tokens=st.none() | st.integers(0, 300),
        nano_usd=st.none() | st.integers(0, 300),
        workers=st.integers(1, 4),
    )
    def begin(self, requests: int | None, tokens: int | None, nano_usd: int | None, workers: int) -> None:
        self.limits = Limits(requests, tokens, nano_usd)
        self.treasury, self.purses = team(self.limits, workers)
        self.in_flight: list[tuple[Purse, Amount]] = []
        self.down: list[Order] = self.treasury.orders()
        self.up: list[tuple[str, PurseState]] = []

    def worker(self, number: int) -> str:
        return list(self.purses)[number % len(self.purses)]

    @rule(number=st.integers(0, 9), worst=st.builds(Amount, st.just(1), st.integers(0, 60), st.integers(0, 60)))
    def send(self, number: int, worst: Amount) -> None:
        purse = self.purses[self.worker(number)]
        if purse.reserve(worst):
            self.in_flight.append((purse, worst))
        else:
            purse.wants(worst)

    @rule(at=st.integers(0, 99), share=st.floats(0, 1))
    def end(self, at: int, share: float) -> None:
        if self.in_flight:
            purse, worst = self.in_flight.pop(at % len(self.in_flight))
            purse.settle(worst, Amount(1, int(worst.tokens * share), int(worst.nano_usd * share)))

    @rule(number=st.integers(0, 9))
    def say(self, number: int) -> None:
        worker = self.worker(number)
        self.up.append((worker, self.purses[worker].state()))

    @rule(at=st.integers(0, 99), keep=st.booleans())
    def hear(self, at: int, keep: bool) -> None:
        if self.up:
            told = self.up[at % len(self.up)]
            self.down += self.treasury.report(*told)
            if not keep:
                self.up.remove(told)

    @rule(at=st.integers(0, 99), keep=st.booleans())
    def order(self, at: int, keep: bool) -> None:
        if self.down:
            order = self.down[at % len(self.down)]
            obey(self.purses[order[0]], order[1])
            if not keep:
                self.down.remove(order)

    @rule(at=st.integers(0, 99), orders=st.booleans())
    def forget(self, at: int, orders: bool) -> None:
        queue: list[Any] = self.down if orders else self.up
        if queue:
            queue.pop(at % len(queue))

    @rule(number=st.integers(0, 9), back=st.booleans())
    def leave(self, number: int, back: bool) -> None:
        self.treasury.lose(self.worker(number))
        if back:
            self.treasury.join(self.worker(number))
        self.down += self.treasury.orders()

    @invariant()
    def never_overspent(self) -> None:
        if hasattr(self, "treasury"):
            limit = self.limits.amount
            assert self.treasury.committed.fits(limit)
            states = [purse.state() for purse in self.purses.values()]
            assert sum((self.limits.only(state.grant) for state in states), NOTHING).fits(limit)
            assert sum((state.reserved for state in states), NOTHING).fits(limit)


Spending.TestCase.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestSpending = Spending.TestCase
