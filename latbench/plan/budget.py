"""How a budget is never overspent: the worst case of each request is reserved before it is sent, over all workers.

The master's `Treasury` hands out the budget in grants, and a worker's `Purse` reserves within what it was granted, so
that a request need not ask. A grant is the total that a worker may have spent since it began, not a difference: sent
twice it is the same grant. Orders to a worker are numbered, and it obeys none that is older than the last it obeyed.
Until a worker has confirmed its last order, the treasury counts the most that any order on the way allows.

Near the end of the budget somebody may wait while others hold what they do not need: the treasury recalls it. When
nobody has anything left that could serve a request that waits, the budget is exhausted.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

import msgspec
from msgspec.structs import astuple

from latbench.model.sample import Outcome, Sample

UNLIMITED = 2**62
"""In a grant, stands for a dimension that has no limit."""

TEMPLATE_TOKENS = 256
"""Input tokens that stand in no request: what a chat template adds of its own, as a default system prompt, which is
billed too. Its marks around each message are shorter than the JSON around the message, and so counted with that."""

_NANO = 1_000_000_000
_MILLION = 1_000_000
_HTTP_OK = 200


class Amount(msgspec.Struct, frozen=True, array_like=True):
    """So many requests, tokens (input and output together) and nano-dollars."""

    requests: int = 0
    tokens: int = 0
    nano_usd: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return _each(int.__add__, self, other)

    def __sub__(self, other: "Amount") -> "Amount":
        return _each(int.__sub__, self, other)

    def over(self, other: "Amount") -> "Amount":
        """What this has more than `other`; 0 where it has not."""
        return _each(lambda mine, its: max(0, mine - its), self, other)

    def most(self, other: "Amount") -> "Amount":
        """The greater of both, in each dimension."""
        return _each(max, self, other)

    def least(self, other: "Amount") -> "Amount":
        """The smaller of both, in each dimension."""
        return _each(min, self, other)

    def share(self, of: int) -> "Amount":
        """One of `of` equal parts, rounded down."""
        return Amount(self.requests // of, self.tokens // of, self.nano_usd // of)

    def fits(self, limit: "Amount") -> bool:
        """Whether no dimension exceeds the limit."""
        return self.requests <= limit.requests and self.tokens <= limit.tokens and self.nano_usd <= limit.nano_usd

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.nano_usd)


NOTHING = Amount()


def _each(function: Callable[[int, int], int], one: Amount, other: Amount) -> Amount:
    return Amount(
        function(one.requests, other.requests),
        function(one.tokens, other.tokens),
        function(one.nano_usd, other.nano_usd),
    )


def _total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, NOTHING)


class Limits(msgspec.Struct, frozen=True):
    """A budget; None is no limit."""

    requests: int | None = None
    tokens: int | None = None
    nano_usd: int | None = None

    @classmethod
    def of(cls, *, usd: float | None = None, requests: int | None = None, tokens: int | None = None) -> Self:
        """A budget as a scenario writes it."""
        return cls(requests, tokens, None if usd is None else round(usd * _NANO))

    @property
    def amount(self) -> Amount:
        """The limits as an amount that a grant can hold: `UNLIMITED` where there is none."""
        limits = (self.requests, self.tokens, self.nano_usd)
        return Amount(*(UNLIMITED if limit is None else limit for limit in limits))

    def only(self, amount: Amount) -> Amount:
        """The amount without the dimensions that have no limit."""
        return Amount(
            0 if self.requests is None else amount.requests,
            0 if self.tokens is None else amount.tokens,
            0 if self.nano_usd is None else amount.nano_usd,
        )


class Price(msgspec.Struct, frozen=True):
    """What an endpoint takes, in nano-dollars for a million tokens: sums of it are exact."""

    input: int
    output: int
    cached_input: int

    @classmethod
    def of(cls, usd: Mapping[str, float] | None) -> "Price | None":
        """From US dollars for a million tokens, as `RunRecord.prices` holds them. Without `cached_input`, it is input.

        None where there is no price.
        """
        if not usd:
            return None
        cached = usd.get("cached_input")
        rates = (usd["input"], usd["output"], usd["input"] if cached is None else cached)
        return cls(*(round(rate * _NANO) for rate in rates))

    def nano_usd(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> int:
        """The price of a request, rounded up. `cached_tokens` are some of `input_tokens`."""
        fresh = input_tokens - cached_tokens
        exact = fresh * self.input + cached_tokens * self.cached_input + output_tokens * self.output
        return -(-exact // _MILLION)


def worst_case(price: Price | None, input_bytes: int, max_tokens: int) -> Amount:
    """The most that one request can take. `input_bytes` are those of its whole body.

    A token is at least one byte of the text, and JSON makes no text shorter: the body's bytes bound its input tokens,
    whatever the tokenizer. Cached input may cost more than fresh input nowhere that we know, but if it does, it counts.
    """
    input_tokens = input_bytes + TEMPLATE_TOKENS
    if price is None:
        return Amount(1, input_tokens + max_tokens, 0)
    cached = input_tokens if price.cached_input > price.input else 0
    return Amount(1, input_tokens + max_tokens, price.nano_usd(input_tokens, max_tokens, cached))


def actual(sample: Sample, worst: Amount, price: Price | None) -> Amount:
    """What a request that has ended took of the budget. `worst` is what was reserved for it.

    A request counts as one whatever became of it, and one that was never sent (`dropped`) as none. Refused by its HTTP
    status, or without ever a connection, it took no tokens. An `ok` answer with usage took what that says, be it more
    than the worst case. All else may have been billed in full without our knowing: it keeps the worst case.
    """
    if sample.outcome == Outcome.DROPPED:
        return NOTHING
    never_connected = sample.outcome != Outcome.LOST and sample.connected_ns is None and not sample.reconnects
    if never_connected or (sample.status is not None and sample.status != _HTTP_OK):
        return Amount(requests=1)
    input_tokens, output_tokens = sample.input_tokens, sample.output_tokens
    told = sample.outcome == Outcome.OK and sample.token_source == "usage"
    if not told or input_tokens is None or output_tokens is None:
        return worst
    cached = min(sample.cached_tokens or 0, input_tokens)
    cost = 0 if price is None else price.nano_usd(input_tokens, output_tokens, cached)
    return Amount(1, input_tokens + output_tokens, cost)


class Grant(msgspec.Struct, frozen=True):
    """The worker may have spent `total` since it began. `UNLIMITED` stands where there is no limit."""

    total: Amount
    version: int


class Recall(msgspec.Struct, frozen=True):
    """Give back what is not reserved of your grant."""

    version: int


Order = tuple[str, Grant | Recall]
"""To which worker, and what."""


class PurseState(msgspec.Struct, frozen=True):
    """What a worker reports: its whole grant and what is reserved or spent of it.

    `version` is that of the last order it obeyed. `held` is the part of `reserved` for requests in flight. `want` is
    the worst case of a request that waits. `number` rises with every change: of two states the greater is newer.
    """

    version: int = 0
    grant: Amount = NOTHING
    reserved: Amount = NOTHING
    held: Amount = NOTHING
    want: Amount | None = None
    number: int = 0


class Purse:
    """A worker's part of the budget. One purse lasts as long as its engine; a new engine is a new worker."""

    def __init__(self) -> None:
        self._version = 0
        self._grant = NOTHING
        self._reserved = NOTHING
        self._held = NOTHING
        self._want: Amount | None = None
        self._number = 0

    def reserve(self, worst: Amount) -> bool:
        """Whether a request with this worst case may be sent now; if so, it is reserved and nobody waits any more."""
        reserved = self._reserved + worst
        if not reserved.fits(self._grant):
            return False
        self._reserved = reserved
        self._held += worst
        self._want = None
        self._number += 1
        return True

    def wants(self, worst: Amount | None) -> None:
        """A request waits for so much; None: nobody waits. Whoever waits tries again after an order or a `settle`.

        None must be said when what waited has given up: a want that nobody has would exhaust the budget too early.
        """
        if worst != self._want:
            self._want = worst
            self._number += 1

    def settle(self, worst: Amount, actual: Amount) -> None:
        """A request has ended: it counts with what it took, no longer with its worst case."""
        self._reserved += actual - worst
        self._held -= worst
        self._grant = self._grant.most(self._reserved)  # more than the worst case: it has been spent all the same
        self._number += 1

    def granted(self, total: Amount, version: int) -> None:
        """Obey a `Grant`."""
        if version > self._version:
            self._version, self._grant = version, total.most(self._reserved)
            self._number += 1

    def recall(self, version: int) -> None:
        """Obey a `Recall`. What has no limit need not be given back."""
        if version > self._version:
            self._version = version
            self._grant = _each(
                lambda reserved, granted: granted if granted == UNLIMITED else reserved, self._reserved, self._grant
            )
            self._number += 1

    def state(self) -> PurseState:
        """What the master has to know; to be sent at once when somebody begins to wait or an order was obeyed."""
        return PurseState(self._version, self._grant, self._reserved, self._held, self._want, self._number)


class _Account:
    """What the treasury knows of a worker. Amounts leave out the dimensions that have no limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.live = True
        self.state = PurseState()
        self.order: Grant | Recall | None = None
        self._on_the_way: list[Grant] = []

    @property
    def version(self) -> int:
        """The version of the last order."""
        return 0 if self.order is None else self.order.version

    @property
    def outstanding(self) -> bool:
        """Whether the last order has not been confirmed."""
        return self.state.version < self.version

    def take(self, state: PurseState) -> None:
        """Learn from a report, unless it is older than what is known."""
        if state.number >= self.state.number and state.version >= self.state.version:
            self.state = state
            self._on_the_way = [grant for grant in self._on_the_way if grant.version > state.version]

    def send(self, order: Grant | Recall) -> Grant | Recall:
        """Note an order that leaves now."""
        self.order = order
        if isinstance(order, Grant):
            self._on_the_way.append(order)
        return order

    @property
    def grant(self) -> Amount:
        """The grant that the worker has confirmed."""
        return self._limits.only(self.state.grant)

    @property
    def committed(self) -> Amount:
        """The most that the worker may have spent, by what it has confirmed and by every order on the way."""
        most = self.grant.most(self._limits.only(self.state.reserved))
        for grant in self._on_the_way:
            most = most.most(self._limits.only(grant.total))
        return most

    @property
    def slack(self) -> Amount:
        """What is granted and not reserved."""
        return self.grant.over(self._limits.only(self.state.reserved))

    @property
    def lacking(self) -> Amount:
        """What the request that waits needs beyond the grant; nothing where none waits or the grant covers it."""
        if self.state.want is None:
            return NOTHING
        return self._limits.only(self.state.reserved + self.state.want).over(self.grant)

    @property
    def returning(self) -> Amount:
        """What requests in flight may give back at most. That they were sent is not taken back."""
        return self._limits.only(msgspec.structs.replace(self.state.held, requests=0))


class Treasury:
    """The budget at the master: what every worker may have spent never adds up to more than the limits.

    A worker is one engine: one that starts anew has to join under another name.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._limit = limits.only(limits.amount)
        self._accounts: dict[str, _Account] = {}

    def join(self, worker: str) -> None:
        """A worker is there, for the first time or again. Call `orders` when all are."""
        self._accounts.setdefault(worker, _Account(self._limits)).live = True

    def lose(self, worker: str) -> None:
        """A worker is gone: all that it may have spent counts as spent, unless it joins again and says otherwise."""
        self._accounts[worker].live = False

    def report(self, worker: str, state: PurseState) -> list[Order]:
        """Learn what a worker says; the orders to send now. An order that it has not seen is sent to it again."""
        account = self._accounts[worker]
        account.take(state)
        again: list[Order] = []
        if account.live and account.outstanding and account.order is not None:
            again = [(worker, account.order)]
        return again + self.orders()

    def orders(self) -> list[Order]:
        """The orders to send now: first to those who wait, and only if nobody waits in vain, ahead of need."""
        free = {name: account for name, account in self._live() if not account.outstanding}
        pool = self.pool
        given: dict[str, Grant] = {}
        short: list[tuple[str, Amount]] = []
        for name, account in free.items():
            lacking = account.lacking
            if lacking and not lacking.fits(pool):
                short.append((name, lacking.over(pool)))
            elif lacking or not account.version:
                more = lacking.most(self._ahead(pool)) if not short else lacking
                pool -= more
                given[name] = self._grant(account, more)
        if not short:
            given |= self._top_up({name: free[name] for name in free if name not in given}, pool)
        rest = {name: free[name] for name in free if name not in given}
        return [*given.items(), *self._recalls(rest, short)]

    def _top_up(self, accounts: Mapping[str, _Account], pool: Amount) -> dict[str, Grant]:
        """Grants to those who hold less than half of what a worker should hold, so that none has to wait."""
        given: dict[str, Grant] = {}
        for name, account in accounts.items():
            ahead, slack = self._ahead(pool), account.slack
            if ahead.over(slack + slack):
                more = ahead.over(slack)
                pool -= more
                given[name] = self._grant(account, more)
        return given

    def _ahead(self, pool: Amount) -> Amount:
        """How much a worker should hold ahead of need: half of the pool, by the number of workers."""
        return pool.share(2 * sum(1 for _ in self._live()))

    def _grant(self, account: _Account, more: Amount) -> Grant:
        unlimited = self._limits.amount - self._limit  # what has a limit is 0 in it
        grant = Grant(account.grant + more + unlimited, account.version + 1)
        account.send(grant)
        return grant

    def _recalls(self, accounts: Mapping[str, _Account], short: list[tuple[str, Amount]]) -> Iterator[Order]:
        """Recalls from whoever holds something that another one waits for."""
        for name, account in accounts.items():
            if any(other != name and account.slack.least(missing) for other, missing in short):
                yield name, account.send(Recall(account.version + 1))

    def _live(self) -> Iterator[tuple[str, _Account]]:
        return ((name, account) for name, account in self._accounts.items() if account.live)

    @property
    def pool(self) -> Amount:
        """What nobody has been granted; 0 where there is no limit."""
        return self._limit.over(self.committed)

    @property
    def committed(self) -> Amount:
        """The most that all workers may have spent, as far as it is limited."""
        return _total(account.committed for account in self._accounts.values())

    def spent(self) -> Amount:
        """What the workers last said is reserved or spent; of a lost one, all that it may have spent."""
        return _total(
            account.state.reserved if account.live else account.state.reserved.most(account.committed)
            for account in self._accounts.values()
        )

    def reserved(self) -> Amount:
        """What of `spent` is only reserved: the worst cases of requests under way, and all that a lost worker had."""
        settled = _total(account.state.reserved - account.state.held for account in self._accounts.values())
        return self.spent() - settled

    def words(self) -> str:
        """How much of each limit is used, and how much more is reserved for requests that have not been settled."""
        reserved = self.reserved()
        amounts = (astuple(self._limits), astuple(self.spent() - reserved), astuple(reserved))
        parts = []
        for unit, limit, used, more in zip(("requests", "tokens", "USD"), *amounts, strict=True):
            if limit is not None:
                taken, kept, whole = (f"{n / _NANO:.4f}" if unit == "USD" else str(n) for n in (used, more, limit))
                under_way = f" used and {kept} reserved for requests under way," if more else ""
                parts.append(f"{taken}{under_way} of {whole} {unit}")
        return ", ".join(parts)

    @property
    def exhausted(self) -> bool:
        """Whether somebody waits for what nobody has any more, nor a request in flight could give back."""
        live = dict(self._live())
        if any(account.outstanding for account in live.values()):
            return False
        within_reach = self.pool + _total(account.returning for account in live.values())
        for name, account in live.items():
            missing = account.lacking.over(within_reach)
            slack = _total(other.slack for other_name, other in live.items() if other_name != name)
            if any(lack and not held for lack, held in zip(astuple(missing), astuple(slack), strict=True)):
                return True
        return False
