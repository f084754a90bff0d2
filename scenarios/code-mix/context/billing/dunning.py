"""What happens after a due date passes: remind, retry, suspend, write off.

The state of a case is derived from its events, never stored. `step()` is pure: it looks at
the case and the time and says what to do next; `jobs/dunning_tick.py` does it and appends
the event. One tick does at most one action per case, however late the tick is.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from billing.models import Invoice, InvoiceState, Minor

MAX_RETRIES = 4
QUIET_FROM, QUIET_TO = time(20, 0), time(8, 0)  # local time of the customer, mails only


class Action(enum.StrEnum):
    MAIL_FRIENDLY = "mail_friendly"
    MAIL_FIRM = "mail_firm"
    RETRY_CARD = "retry_card"
    SUSPEND = "suspend"
    WRITE_OFF = "write_off"
    CLOSE = "close"


class Cause(enum.StrEnum):
    """Why the last charge failed, as the gateways' codes are folded by `gateway/codes.py`."""

    SOFT = "soft"  # try again later: insufficient funds, issuer down
    HARD = "hard"  # never try this card again: stolen, closed, invalid number
    AUTH = "auth"  # customer must act: 3DS
    UNKNOWN = "unknown"  # treated like SOFT, but counts double


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    action: Action
    cause: Cause | None = None  # only on RETRY_CARD which failed
    amount: Minor = Minor(0)


@dataclass(frozen=True, slots=True)
class Policy:
    """Days after due. Enterprise contracts override single fields; see `policy_for`."""

    friendly: int = 1
    retries: tuple[int, ...] = (3, 5, 9, 14)
    firm: int = 7
    suspend: int = 21
    write_off: int = 90
    floor: Minor = Minor(500)  # below this we do not chase, we close

    def __post_init__(self) -> None:
        if list(self.retries) != sorted(set(self.retries)):
            raise ValueError("retries must be strictly increasing")
        if not self.friendly < self.firm < self.suspend < self.write_off:
            raise ValueError("steps out of order")


@dataclass(frozen=True, slots=True)
class Case:
    invoice: Invoice
    events: tuple[Event, ...]
    tz: ZoneInfo
    has_card: bool
    hold_until: datetime | None = None  # support pressed "leave them alone"

    def did(self, action: Action) -> bool:
        return any(e.action is action for e in self.events)

    def retry_weight(self) -> int:
        return sum(2 if e.cause is Cause.UNKNOWN else 1 for e in self.events if e.action is Action.RETRY_CARD)

    def card_is_dead(self) -> bool:
        return any(e.cause is Cause.HARD for e in self.events)

    def waits_for_customer(self) -> bool:
        last = next((e for e in reversed(self.events) if e.action is Action.RETRY_CARD), None)
        return last is not None and last.cause is Cause.AUTH


def step(case: Case, policy: Policy, at: datetime) -> Action | None:
    """The one action that is due now, or None."""
    inv = case.invoice
    if case.did(Action.CLOSE) or case.did(Action.WRITE_OFF):
        return None
    if inv.state.is_final or inv.open_amount <= 0:
        return Action.CLOSE
    if inv.open_amount < policy.floor:
        return Action.CLOSE
    if inv.state is not InvoiceState.OPEN or inv.due_at is None:
        return None
    if case.hold_until is not None and at < case.hold_until:
        return None

    late = at - inv.due_at
    if late >= timedelta(days=policy.write_off):
        return Action.WRITE_OFF
    if late >= timedelta(days=policy.suspend) and not case.did(Action.SUSPEND):
        return Action.SUSPEND
    if _retry_is_due(case, policy, late):
        return Action.RETRY_CARD
    if not _quiet(at, case.tz):
        if late >= timedelta(days=policy.firm) and not case.did(Action.MAIL_FIRM):
            return Action.MAIL_FIRM
        # a firm mail replaces a friendly one that was never sent
        if late >= timedelta(days=policy.friendly) and not (
            case.did(Action.MAIL_FRIENDLY) or case.did(Action.MAIL_FIRM)
        ):
            return Action.MAIL_FRIENDLY
    return None


def _retry_is_due(case: Case, policy: Policy, late: timedelta) -> bool:
    if not case.has_card or case.card_is_dead() or case.waits_for_customer():
        return False
    weight = case.retry_weight()
    if weight >= min(MAX_RETRIES, len(policy.retries)):
        return False
    return late >= timedelta(days=policy.retries[weight])


def _quiet(at: datetime, tz: ZoneInfo) -> bool:
    local = at.astimezone(tz).timetz().replace(tzinfo=None)
    return local >= QUIET_FROM or local < QUIET_TO


def policy_for(overrides: Sequence[tuple[str, int]]) -> Policy:
    """Contract overrides as (field, days). Unknown fields raise: contracts are typed by hand."""
    fields: dict[str, int] = {}
    for name, days in overrides:
        if name not in {"friendly", "firm", "suspend", "write_off", "floor"}:
            raise ValueError(f"contract override {name!r} is not a dunning step")
        fields[name] = days
    return Policy(**fields)  # type: ignore[arg-type]
