"""Reading and writing invoices. SQL by hand, one function per question.

`tx` is the thin wrapper from `db.py`: `one()` -> dict | None, `all()` -> list[dict],
`many()` -> executemany, `rows()` -> affected count; parameters are `:name`. It never commits.

Optimistic locking: every write to `invoice` says which version it has seen and bumps it.
0 affected rows is a `Refused("stale")`, which the API turns into 409. Do not retry in here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from billing.models import Invoice, InvoiceState, Line, Minor, Period, Refused, TaxMode

_COLUMNS = """
    i.id, i.customer, i.currency, i.state, i.tax_mode, i.issued_at, i.due_at, i.paid, i.version, i.meta
"""


def _to_line(r: dict[str, Any]) -> Line:
    span = Period(r["starts"], r["ends"]) if r["starts"] is not None else None
    tax = None if r["tax"] is None else Minor(r["tax"])
    return Line(r["sku"], r["text"], Minor(r["net"]), span, r["tax_code"], tax)


def _to_invoice(r: dict[str, Any], lines: Sequence[dict[str, Any]]) -> Invoice:
    return Invoice(
        id=r["id"],
        customer=r["customer"],
        currency=r["currency"],
        state=InvoiceState(r["state"]),
        lines=tuple(_to_line(x) for x in lines),
        tax_mode=TaxMode(r["tax_mode"]),
        issued_at=r["issued_at"],
        due_at=r["due_at"],
        paid=Minor(r["paid"]),
        version=r["version"],
        meta=r["meta"] or {},
    )


class InvoicesRepo:
    def __init__(self, tx: Any) -> None:
        self._tx = tx

    def get(self, invoice_id: str, *, lock: bool = False) -> Invoice | None:
        sql = f"select {_COLUMNS} from invoice i where i.id = :id" + (" for update" if lock else "")
        row = self._tx.one(sql, id=invoice_id)
        return None if row is None else _to_invoice(row, self._lines([invoice_id])[invoice_id])

    def overdue(self, at: datetime, *, after: str = "", limit: int = 200) -> list[Invoice]:
        """Keyset page by id. Never OFFSET: the job voids rows while it walks."""
        rows = self._tx.all(
            f"""
            select {_COLUMNS} from invoice i
            where i.state = 'open' and i.due_at < :at and i.id > :after
            order by i.id
            limit :limit
            """,
            at=at, after=after, limit=limit,
        )  # fmt: skip
        lines = self._lines([r["id"] for r in rows])
        return [_to_invoice(r, lines[r["id"]]) for r in rows]

    def walk_overdue(self, at: datetime) -> Iterator[Invoice]:
        after = ""
        while page := self.overdue(at, after=after):
            yield from page
            after = page[-1].id

    def save_draft(self, inv: Invoice) -> Invoice | Refused:
        """Insert, or replace the lines of a known draft."""
        if inv.state is not InvoiceState.DRAFT:
            return Refused("not_draft", inv.id)
        if inv.version == 0:
            self._tx.rows(
                """
                insert into invoice (id, customer, currency, state, tax_mode, paid, version, meta)
                values (:id, :customer, :currency, 'draft', :tax_mode, 0, 1, :meta)
                """,
                id=inv.id, customer=inv.customer, currency=inv.currency,
                tax_mode=inv.tax_mode.value, meta=json.dumps(inv.meta),
            )  # fmt: skip
        elif not self._bump(inv.id, inv.version, "state = 'draft'"):
            return Refused("stale", f"{inv.id} v{inv.version}")
        self._tx.rows("delete from invoice_line where invoice_id = :id", id=inv.id)
        self._tx.many(
            """
            insert into invoice_line (invoice_id, n, sku, text, net, starts, ends, tax_code, tax)
            values (:id, :n, :sku, :text, :net, :starts, :ends, :tax_code, :tax)
            """,
            [
                {
                    "id": inv.id, "n": n, "sku": ln.sku, "text": ln.text, "net": ln.net,
                    "starts": ln.period.starts if ln.period else None,
                    "ends": ln.period.ends if ln.period else None,
                    "tax_code": ln.tax_code, "tax": ln.tax,
                }
                for n, ln in enumerate(inv.lines)
            ],
        )  # fmt: skip
        fresh = self.get(inv.id)
        assert fresh is not None
        return fresh

    def mark_issued(self, inv: Invoice, *, at: datetime, due_at: datetime) -> Invoice | Refused:
        if any(ln.tax is None for ln in inv.lines):
            return Refused("untaxed_lines", inv.id)
        ok = self._tx.rows(
            """
            update invoice set state = 'open', issued_at = :at, due_at = :due, version = version + 1
            where id = :id and version = :v and state = 'draft'
            """,
            id=inv.id, v=inv.version, at=at, due=due_at,
        )  # fmt: skip
        return (self.get(inv.id) if ok else None) or Refused("stale", f"{inv.id} v{inv.version}")

    def add_payment(self, inv: Invoice, amount: Minor) -> Invoice | Refused:
        """Moves to PAID when nothing is open any more. Overpayment is refused: the surplus
        goes to `cred:<customer>`, which is the caller's business (payments/settle.py)."""
        if amount <= 0 or amount > inv.open_amount:
            return Refused("bad_amount", f"{amount} of {inv.open_amount}")
        state = InvoiceState.PAID if amount == inv.open_amount else inv.state
        ok = self._tx.rows(
            """
            update invoice set paid = paid + :amount, state = :state, version = version + 1
            where id = :id and version = :v and state in ('open', 'uncollectible')
            """,
            id=inv.id, v=inv.version, amount=amount, state=state.value,
        )  # fmt: skip
        return (self.get(inv.id) if ok else None) or Refused("stale", f"{inv.id} v{inv.version}")

    def _bump(self, invoice_id: str, version: int, guard: str) -> bool:
        sql = f"update invoice set version = version + 1 where id = :id and version = :v and {guard}"
        return self._tx.rows(sql, id=invoice_id, v=version) == 1

    def _lines(self, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        out: dict[str, list[dict[str, Any]]] = {i: [] for i in ids}
        if ids:
            for r in self._tx.all("select * from invoice_line where invoice_id = any(:ids) order by invoice_id, n", ids=list(ids)):
                out[r["invoice_id"]].append(r)
        return out
