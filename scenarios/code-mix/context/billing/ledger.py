"""Double entry, append only. One `Entry` is a set of legs which sums to zero per currency.

The database has the same rule as a deferred constraint trigger (schema.sql); this module
checks it first because the trigger's message is useless to a human.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from billing.models import AccountRef, IdemKey, Minor, Refused

# A positive amount is a debit, a negative one a credit. We do not store the word.


@dataclass(frozen=True, slots=True)
class Leg:
    account: AccountRef
    amount: Minor
    currency: str


@dataclass(frozen=True, slots=True)
class Entry:
    idem: IdemKey
    reason: str  # "invoice.issued", "payment.settled", "invoice.voided", "fx.rounding", ...
    legs: tuple[Leg, ...]
    at: datetime
    reverses: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """What makes two bookings under one idempotency key 'the same'. `at` is left out on
        purpose: retries come later than the first try."""
        legs = sorted((leg.account, leg.amount, leg.currency) for leg in self.legs)
        body = json.dumps([self.reason, legs, self.reverses], separators=(",", ":"))
        return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Booked:
    entry_id: int
    replayed: bool  # True: the key was known and the digest matched; nothing was written


def imbalance(legs: Iterable[Leg]) -> dict[str, int]:
    """Currencies which do not sum to zero, with the difference."""
    sums: dict[str, int] = defaultdict(int)
    for leg in legs:
        sums[leg.currency] += leg.amount
    return {cur: diff for cur, diff in sums.items() if diff}


class Ledger:
    """Takes an open transaction and never commits it. Whoever opened it decides."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def book(self, entry: Entry) -> Booked | Refused:
        if len(entry.legs) < 2:
            raise ValueError(f"{entry.idem}: an entry has at least two legs")
        if any(leg.amount == 0 for leg in entry.legs):
            # zero legs used to be allowed and made the VAT export double count (BIL-902)
            raise ValueError(f"{entry.idem}: zero leg")
        if off := imbalance(entry.legs):
            raise ValueError(f"{entry.idem}: legs off by {off}")
        frozen = self._closed_until()
        if frozen is not None and entry.at < frozen:
            return Refused("period_closed", f"{entry.at:%Y-%m-%d} < {frozen:%Y-%m-%d}")

        digest = entry.digest()
        row = self._tx.one(
            """
            insert into entry (idem, digest, reason, at, reverses, facts)
            values (:idem, :digest, :reason, :at, :reverses, :facts)
            on conflict (idem) do nothing
            returning id
            """,
            idem=entry.idem, digest=digest, reason=entry.reason, at=entry.at,
            reverses=entry.reverses, facts=json.dumps(dict(entry.facts)),
        )  # fmt: skip
        if row is None:
            known = self._tx.one("select id, digest from entry where idem = :idem", idem=entry.idem)
            if known["digest"] != digest:
                return Refused("idem_conflict", f"{entry.idem} was booked with other legs")
            return Booked(known["id"], replayed=True)
        self._tx.many(
            "insert into leg (entry_id, n, account, amount, currency) values (:e, :n, :acc, :amt, :cur)",
            [
                {"e": row["id"], "n": n, "acc": leg.account, "amt": leg.amount, "cur": leg.currency}
                for n, leg in enumerate(entry.legs)
            ],
        )
        return Booked(row["id"], replayed=False)

    def reverse(self, entry_id: int, *, idem: IdemKey, at: datetime, why: str) -> Booked | Refused:
        """Book the mirror image. An entry is reversed at most once; a reversal never."""
        old = self._tx.one("select id, reason, reverses from entry where id = :id for update", id=entry_id)
        if old is None:
            return Refused("no_such_entry", str(entry_id))
        if old["reverses"] is not None:
            return Refused("is_reversal", str(entry_id))
        if self._tx.one("select 1 from entry where reverses = :id and idem <> :idem", id=entry_id, idem=idem):
            return Refused("already_reversed", str(entry_id))
        legs = tuple(
            Leg(AccountRef(r["account"]), Minor(-r["amount"]), r["currency"])
            for r in self._tx.all("select account, amount, currency from leg where entry_id = :id order by n", id=entry_id)
        )
        return self.book(
            Entry(idem, f"{old['reason']}.reversed", legs, at, reverses=entry_id, facts={"why": why})
        )

    def balance(self, account: AccountRef, currency: str, *, at: datetime | None = None) -> Minor:
        """Sum of legs up to and including `at`. Slow on `rcv:` accounts of big customers;
        the nightly `balance_cache` is only good for reports, do not use it for decisions."""
        row = self._tx.one(
            """
            select coalesce(sum(l.amount), 0) as s
            from leg l join entry e on e.id = l.entry_id
            where l.account = :acc and l.currency = :cur and (:at::timestamptz is null or e.at <= :at)
            """,
            acc=account, cur=currency, at=at,
        )  # fmt: skip
        return Minor(int(row["s"]))

    def _closed_until(self) -> datetime | None:
        row = self._tx.one("select max(ends) as ends from closed_period")
        return row["ends"] if row else None
