"""This engine's part of the budget: nothing is sent before its worst case has been reserved.

Without a budget every request passes at once. With one, a request that what was granted does not cover waits for the
master; a closed-loop turn then begins later, an arrival of an open loop leaves late, and its lateness shows.
"""

import asyncio
from collections.abc import Callable

from latbench.engine.exchange import Exchange
from latbench.model.frames import Grant, Job, Recall, Spending
from latbench.model.sample import Sample
from latbench.plan.budget import Amount, Price, Purse, actual, worst_case

_ASK_AGAIN_S = 0.25  # a report may get lost


class Wallet:
    """One for each engine and run. Every change that the master must know of is sent through `send`."""

    def __init__(self, job: Job, send: Callable[[Spending], None]) -> None:
        self.budgeted = job.budgeted
        self._prices = {endpoint.name: Price.of(job.prices.get(endpoint.name)) for endpoint in job.endpoints}
        self._send = send
        self._purse = Purse()
        self._reserved: dict[Exchange, Amount] = {}
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    async def reserve(
        self, exchange: Exchange, body: bytes, max_tokens: int, may: Callable[[], bool], over: asyncio.Event
    ) -> bool:
        """Reserve what this request may cost at worst; false if it may not be sent any more before that could be done.

        `may` is asked again and again while the request waits; `over` is an event that makes it false.
        """
        if not self.budgeted:
            return may()
        worst = worst_case(self._prices[exchange.endpoint], len(body), max_tokens)
        async with self._turn:  # who asked first is served first
            try:
                while may():
                    if self._purse.reserve(worst):
                        self._reserved[exchange] = worst
                        return True
                    self._purse.wants(worst)
                    self.report()
                    await self._wait(over)
            except asyncio.CancelledError:  # an attempt that waits for its turn is in flight, and ends with that
                self._give_up()
                raise
            self._give_up()
        return False

    def _give_up(self) -> None:
        self._purse.wants(None)
        self.report()

    async def _wait(self, over: asyncio.Event) -> None:
        self._changed.clear()
        waits = [asyncio.create_task(event.wait()) for event in (self._changed, over)]
        try:
            await asyncio.wait(waits, timeout=_ASK_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def settle(self, exchange: Exchange, sample: Sample) -> None:
        """The request has ended: it counts with what it took."""
        worst = self._reserved.pop(exchange, None)
        if worst is not None:
            self._purse.settle(worst, actual(sample, worst, self._prices[exchange.endpoint]))
            self._changed.set()

    def settle_try(self, exchange: Exchange) -> None:
        """An attempt was refused and another one will follow: it counts as a request that took no tokens."""
        worst = self._reserved.pop(exchange, None)
        if worst is not None:
            self._purse.settle(worst, Amount(requests=1))
            self._changed.set()

    def obey(self, order: Grant | Recall) -> None:
        """More was granted, or what is not reserved is wanted back."""
        if isinstance(order, Grant):
            self._purse.granted(Amount(*order.total), order.version)
        else:
            self._purse.recall(order.version)
        self.report()
        self._changed.set()

    def report(self) -> None:
        """Tell the master how things stand; nothing to tell without a budget."""
        if self.budgeted:
            state = self._purse.state()
            want = None if state.want is None else _tuple(state.want)
            amounts = (_tuple(state.grant), _tuple(state.reserved), _tuple(state.held))
            self._send(Spending(state.version, *amounts, want, state.number))


def _tuple(amount: Amount) -> tuple[int, int, int]:
    return amount.requests, amount.tokens, amount.nano_usd
