"""Words of the billing service. Nothing here touches the database or the clock.

House rules, in the order in which people forget them:

* Money is `Minor`: an int count of the currency's smallest unit. There is no float
  in this package and CI greps for the word.
* A business "no" is a value (`Refused`), an exception is a bug. Callers match on it.
* Times are aware UTC datetimes and are always an argument called `at`; nobody calls
  `datetime.now()` below `jobs/`.
* Periods are half open: [starts, ends).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NewType

Minor = NewType("Minor", int)
AccountRef = NewType("AccountRef", str)  # "rcv:cus_81", "rev:plan_pro", "tax:DE", "susp:import"
IdemKey = NewType("IdemKey", str)

# ISO 4217 exponents we actually bill in. JPY and CLP have none, TND has three; anything
# not listed is refused at the API, see `exponent`.
_EXPONENT = {"EUR": 2, "USD": 2, "GBP": 2, "SEK": 2, "JPY": 0, "CLP": 0, "TND": 3}

_REF = re.compile(r"^(rcv|rev|tax|susp|cash|wo|cred):[A-Za-z0-9_\-]{2,40}$")


@dataclass(frozen=True, slots=True)
class Refused:
    """A business refusal. `code` is stable and shown to API clients; `detail` is for us."""

    code: str
    detail: str = ""

    def __bool__(self) -> bool:
        # so that `if not (res := ledger.book(...))` reads the right way round
        return False


def exponent(currency: str) -> int:
    try:
        return _EXPONENT[currency]
    except KeyError:
        raise ValueError(f"currency {currency!r} is not billable") from None


def account(kind: str, name: str) -> AccountRef:
    ref = f"{kind}:{name}"
    if not _REF.match(ref):
        raise ValueError(f"bad account ref {ref!r}")
    return AccountRef(ref)


class InvoiceState(enum.StrEnum):
    DRAFT = "draft"
    OPEN = "open"
    PAID = "paid"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"

    @property
    def is_final(self) -> bool:
        # UNCOLLECTIBLE is not final: a customer may still pay a written-off invoice (BIL-1187)
        return self in (InvoiceState.PAID, InvoiceState.VOID)


class TaxMode(enum.StrEnum):
    EXCLUSIVE = "exclusive"
    INCLUSIVE = "inclusive"
    REVERSE_CHARGE = "reverse_charge"


@dataclass(frozen=True, slots=True)
class Period:
    starts: datetime
    ends: datetime

    def __post_init__(self) -> None:
        for t in (self.starts, self.ends):
            if t.tzinfo is None or t.utcoffset() != UTC.utcoffset(None):
                raise ValueError(f"period edge {t!r} is not UTC")
        if self.ends <= self.starts:
            raise ValueError("empty or backward period")

    @property
    def seconds(self) -> int:
        return int((self.ends - self.starts).total_seconds())

    def clip(self, other: Period) -> Period | None:
        lo, hi = max(self.starts, other.starts), min(self.ends, other.ends)
        return Period(lo, hi) if lo < hi else None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice. `net` may be negative (credits, proration refunds)."""

    sku: str
    text: str
    net: Minor
    period: Period | None = None
    tax_code: str = "std"
    # filled by tax.apply(); None means "not computed yet", 0 means "computed, no tax"
    tax: Minor | None = None

    @property
    def gross(self) -> Minor:
        if self.tax is None:
            raise ValueError(f"line {self.sku}: gross asked before tax")
        return Minor(self.net + self.tax)


@dataclass(frozen=True, slots=True)
class Invoice:
    id: str
    customer: str
    currency: str
    state: InvoiceState
    lines: tuple[Line, ...] = ()
    tax_mode: TaxMode = TaxMode.EXCLUSIVE
    issued_at: datetime | None = None
    due_at: datetime | None = None
    paid: Minor = Minor(0)
    version: int = 0
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> Minor:
        return Minor(sum(line.gross for line in self.lines))

    @property
    def open_amount(self) -> Minor:
        return Minor(self.total - self.paid)

    def with_lines(self, *extra: Line) -> Invoice:
        if self.state is not InvoiceState.DRAFT:
            raise ValueError(f"{self.id}: lines of a {self.state} invoice are frozen")
        return replace(self, lines=(*self.lines, *extra))


def show(amount: Minor, currency: str) -> str:
    """`-1 204.50 EUR`: for logs and mails to us, never for customers (they get their locale)."""
    exp = exponent(currency)
    sign, digits = ("-" if amount < 0 else ""), str(abs(amount)).rjust(exp + 1, "0")
    whole, cents = (digits[:-exp], digits[-exp:]) if exp else (digits, "")
    grouped = f"{int(whole):,}".replace(",", " ")
    return f"{sign}{grouped}.{cents} {currency}" if exp else f"{sign}{grouped} {currency}"
