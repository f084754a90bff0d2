"""Tax on lines. Rates are in basis points (1900 = 19 %), results in minor units.

Two things differ per country and have both bitten us: whether tax is rounded per line or per
document, and whether half a unit goes up or to even. `Regime` holds both; do not hard-code.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from billing.models import Invoice, InvoiceState, Line, Minor, Refused, TaxMode
from billing.proration import apportion

BP = 10_000


class Rounding(enum.Enum):
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


@dataclass(frozen=True, slots=True)
class Rate:
    code: str
    bp: int
    since: date


@dataclass(frozen=True, slots=True)
class Regime:
    country: str
    per_line: bool
    rounding: Rounding
    rates: tuple[Rate, ...]

    def bp_for(self, code: str, on: date) -> int | None:
        """The newest rate that had started on that day. None: unknown code or too early."""
        fitting = [r for r in self.rates if r.code == code and r.since <= on]
        return max(fitting, key=lambda r: r.since).bp if fitting else None


REGIMES = {
    "DE": Regime("DE", per_line=False, rounding=Rounding.HALF_UP, rates=(
        Rate("std", 1900, date(2007, 1, 1)),
        Rate("std", 1600, date(2020, 7, 1)),
        Rate("std", 1900, date(2021, 1, 1)),
        Rate("red", 700, date(2007, 1, 1)),
    )),
    "SE": Regime("SE", per_line=True, rounding=Rounding.HALF_EVEN, rates=(Rate("std", 2500, date(1990, 7, 1)),)),
    "JP": Regime("JP", per_line=False, rounding=Rounding.HALF_UP, rates=(
        Rate("std", 800, date(2014, 4, 1)),
        Rate("std", 1000, date(2019, 10, 1)),
        Rate("red", 800, date(2019, 10, 1)),
    )),
}  # fmt: skip


def divide(num: int, den: int, how: Rounding) -> int:
    """num / den, rounded; symmetric around zero so that a credit mirrors its charge."""
    sign = -1 if num < 0 else 1
    q, r = divmod(abs(num), den)
    twice = 2 * r
    if twice > den or (twice == den and (how is Rounding.HALF_UP or q % 2 == 1)):
        q += 1
    return sign * q


def tax_on(net_or_gross: Minor, bp: int, mode: TaxMode, how: Rounding) -> Minor:
    if mode is TaxMode.REVERSE_CHARGE or bp == 0:
        return Minor(0)
    if mode is TaxMode.INCLUSIVE:
        return Minor(divide(net_or_gross * bp, BP + bp, how))
    return Minor(divide(net_or_gross * bp, BP, how))


def apply(invoice: Invoice, country: str, on: date) -> Invoice | Refused:
    """A copy of the draft with tax on every line.

    For INCLUSIVE invoices the incoming `net` is what the customer pays and comes back reduced,
    so calling it twice is wrong; the guard below is there because somebody did.
    """
    if invoice.state is not InvoiceState.DRAFT:
        return Refused("not_draft", invoice.id)
    if any(line.tax is not None for line in invoice.lines):
        raise ValueError(f"{invoice.id}: tax applied twice")
    regime = REGIMES.get(country)
    if regime is None:
        return Refused("no_tax_regime", country)
    groups: dict[int, list[int]] = defaultdict(list)
    for i, line in enumerate(invoice.lines):
        bp = regime.bp_for(line.tax_code, on)
        if bp is None:
            return Refused("no_tax_rate", f"{country}/{line.tax_code} on {on}")
        groups[bp].append(i)

    taxes: dict[int, Minor] = {}
    for bp, members in groups.items():
        if regime.per_line:
            for i in members:
                taxes[i] = tax_on(invoice.lines[i].net, bp, invoice.tax_mode, regime.rounding)
        else:
            taxes |= _per_document(invoice.lines, members, bp, invoice.tax_mode, regime.rounding)
    done = []
    for i, line in enumerate(invoice.lines):
        net = Minor(line.net - taxes[i]) if invoice.tax_mode is TaxMode.INCLUSIVE else line.net
        done.append(replace(line, net=net, tax=taxes[i]))
    return replace(invoice, lines=tuple(done))


def _per_document(
    lines: Sequence[Line], members: list[int], bp: int, mode: TaxMode, how: Rounding
) -> dict[int, Minor]:
    """Round once per rate, then hand the cents back to the lines by size."""
    whole = Minor(sum(lines[i].net for i in members))
    tax = tax_on(whole, bp, mode, how)
    weights = [abs(lines[i].net) for i in members]
    # mixed signs: apportioning by absolute size is what the auditor accepted in 2021
    if not any(weights):
        return dict.fromkeys(members, Minor(0))
    return dict(zip(members, apportion(tax, weights), strict=True))


@dataclass(frozen=True, slots=True)
class Buyer:
    country: str
    vat_id: str | None
    vat_checked: bool  # the VIES answer, at most 30 days old; None from VIES is stored as False


EU = frozenset({"DE", "SE", "FR", "NL", "ES", "IT", "PL", "AT", "DK", "FI", "IE"})  # where we have buyers


def mode_for(buyer: Buyer, *, seller_country: str = "SE", prices_include_tax: bool = False) -> TaxMode | Refused:
    """Reverse charge only for a *checked* VAT id of another EU country.

    An unchecked id is not a reason to refuse the sale: the buyer pays tax like a consumer and
    asks for a corrected invoice later. A foreign id whose prefix is not the buyer's country is.
    """
    default = TaxMode.INCLUSIVE if prices_include_tax else TaxMode.EXCLUSIVE
    if buyer.vat_id is None or buyer.country == seller_country:
        return default
    if buyer.vat_id[:2].upper() != buyer.country:
        return Refused("vat_country_mismatch", f"{buyer.vat_id[:2]} is not {buyer.country}")
    if buyer.country in EU and buyer.vat_checked:
        return TaxMode.REVERSE_CHARGE
    return default
