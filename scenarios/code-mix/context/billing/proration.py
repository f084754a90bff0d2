"""Splitting money over time and over heads without losing a cent.

Every function here returns parts which sum *exactly* to what went in. Rounding is by
largest remainder; ties go to the earlier part, so results are stable between runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.models import Line, Minor, Period


def apportion(amount: Minor, weights: Sequence[int]) -> list[Minor]:
    """Split `amount` in proportion to `weights` (all >= 0, not all 0). Works for negative
    amounts too: apportion(-x, w) == [-p for p in apportion(x, w)], which credits rely on."""
    if not weights or any(w < 0 for w in weights):
        raise ValueError("weights must be non-negative and not empty")
    whole = sum(weights)
    if whole == 0:
        raise ValueError("all weights are zero")
    sign = -1 if amount < 0 else 1
    size = abs(amount)
    base = [size * w // whole for w in weights]
    rest = size - sum(base)
    # remainders as ints, scaled by `whole`; -i makes earlier parts win ties
    order = sorted(range(len(weights)), key=lambda i: (size * weights[i] % whole, -i), reverse=True)
    for i in order[:rest]:
        base[i] += 1
    return [Minor(sign * b) for b in base]


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat that was active for part of a period. `left` None means still active."""

    member: str
    joined: datetime
    left: datetime | None

    def seconds_in(self, period: Period) -> int:
        ends = self.left if self.left is not None else period.ends
        if ends <= self.joined:
            return 0
        clipped = Period(self.joined, ends).clip(period)
        return clipped.seconds if clipped else 0


def used_part(price: Minor, period: Period, upto: datetime) -> Minor:
    """Share of `price` consumed in [starts, upto). Outside the period it saturates."""
    if upto <= period.starts:
        return Minor(0)
    if upto >= period.ends:
        return price
    used = int((upto - period.starts).total_seconds())
    return apportion(price, [used, period.seconds - used])[0]


def plan_change(
    *, old_sku: str, old_price: Minor, new_sku: str, new_price: Minor, period: Period, at: datetime
) -> tuple[Line, ...]:
    """Credit for the unused part of the old plan, charge for the rest of the new one.

    A change at the very start yields one charge and a full credit, so that the customer sees
    why; a change at or after the end yields nothing, the renewal job takes over from there.
    """
    if at >= period.ends:
        return ()
    at = max(at, period.starts)
    rest = Period(at, period.ends)
    credit = Minor(old_price - used_part(old_price, period, at))
    charge = Minor(new_price - used_part(new_price, period, at))
    lines: list[Line] = []
    if credit:
        lines.append(Line(old_sku, f"Unused time on {old_sku}", Minor(-credit), rest))
    if charge:
        lines.append(Line(new_sku, f"Remaining time on {new_sku}", charge, rest))
    return tuple(lines)


def seat_lines(sku: str, seat_price: Minor, seats: Sequence[Seat], period: Period) -> tuple[Line, ...]:
    """One line per seat that was active at all.

    Each seat is rounded alone (support wants to explain every line), so N seats active for the
    whole period cost exactly N * seat_price. Rejoining members appear as two seats; do NOT merge
    them, see BIL-1311 for the customer who was billed for the gap.
    """
    lines = []
    for seat in sorted(seats, key=lambda s: (s.member, s.joined)):
        secs = seat.seconds_in(period)
        if secs == 0:
            continue
        part = apportion(seat_price, [secs, period.seconds - secs])[0] if secs < period.seconds else seat_price
        lines.append(Line(sku, f"Seat {seat.member}", part, period))
    return tuple(lines)


def spread_discount(lines: Sequence[Line], discount: Minor) -> tuple[Line, ...]:
    """Take a fixed discount off the positive lines, in proportion to their net.

    Never drives a line below zero: a discount bigger than the sum is capped. Lines that are
    already credits keep their net. Tax must not have been applied yet.
    """
    if discount < 0:
        raise ValueError("a discount is not negative; add a line instead")
    if any(line.tax is not None for line in lines):
        raise ValueError("discount after tax")
    weights = [max(line.net, 0) for line in lines]
    whole = sum(weights)
    if whole == 0 or discount == 0:
        return tuple(lines)
    parts = apportion(Minor(min(discount, whole)), weights)
    return tuple(
        Line(ln.sku, ln.text, Minor(ln.net - cut), ln.period, ln.tax_code) if cut else ln
        for ln, cut in zip(lines, parts, strict=True)
    )


def month_after(anchor: datetime, months: int) -> datetime:
    """The anchor's day of month `months` later, clamped to the month's length.

    Always counted from the *anchor*, never from the previous renewal: 31 Jan -> 28 Feb -> 31 Mar.
    Counting from the previous one is how half of the 2019 customers drifted to the 28th.
    """
    index = anchor.year * 12 + (anchor.month - 1) + months
    year, month = divmod(index, 12)
    day = anchor.day
    while True:
        try:
            return anchor.replace(year=year, month=month + 1, day=day)
        except ValueError:
            day -= 1


def period_at(anchor: datetime, at: datetime) -> Period:
    """The monthly period of a subscription which contains `at`; `at` may not precede the anchor."""
    if at < anchor:
        raise ValueError(f"{at} is before the anchor {anchor}")
    n = (at.year - anchor.year) * 12 + at.month - anchor.month
    if month_after(anchor, n) > at:
        n -= 1
    return Period(month_after(anchor, n), month_after(anchor, n + 1))
