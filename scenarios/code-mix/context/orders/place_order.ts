// place_order.ts -- checkout. Quote -> hold -> authorise -> confirm hold -> capture.
//
// Order of the steps is the design. Stock is CONFIRMED before money is CAPTURED, because a hold can lapse
// under us (ReservationDesk sweeps after HOLD_TTL) and we can void an authorisation for free, but a capture
// costs a refund, a fee and an apology. Everything up to capture can be repeated with the same draft and
// comes out the same; everything from capture on is only ever pushed forward by the relay.

import type { AccountId, Minor, Op, OrderId, Result, TenantId } from './op';
import { allow, auditNow, fail, narrow, ok, remainingMs } from './op';
import type { Effect, Order, Tx } from './order_state';
import { advance, cancelOrRecall, loadForMove } from './order_state';
import type { PriceBook, Quote } from './price_book';

// Must stay below ReservationDesk.HOLD_TTL_MS (15 min) with room for the confirm call. The sum of the
// three budgets is what counts, not the largest.
const HOLD_BUDGET_MS = 2_000;
const AUTHORISE_BUDGET_MS = 8 * 60_000; // the shopper may be sent to their bank and back
const CONFIRM_BUDGET_MS = 3_000;

export interface Draft {
  readonly id: string;
  readonly cartVersion: number;
  readonly tenant: TenantId;
  readonly owner: AccountId;
  readonly quote: Quote;
  readonly payMethod: string;
}

export interface StockClient {
  // HTTP to the Java side. `orderRef` is the idempotency key there: same ref, same hold.
  hold(op: Op, orderRef: string, lines: ReadonlyArray<{ sku: string; units: number }>): Promise<Result<{ holdId: string }>>;
  confirm(op: Op, holdId: string): Promise<Result<true>>; // fault `gone` for 410: the hold lapsed, never retry
  release(op: Op, holdId: string): Promise<void>; // best effort; the sweeper is behind it
}

export interface PaymentClient {
  authorise(op: Op, key: string, method: string, amount: Minor, currency: string): Promise<Result<{ authId: string }>>;
  capture(op: Op, key: string, authId: string, amount: Minor): Promise<Result<true>>;
  void(op: Op, authId: string): Promise<void>;
}

export interface Deps {
  readonly book: PriceBook;
  readonly stock: StockClient;
  readonly pay: PaymentClient;
  readonly inTx: <T>(work: (tx: Tx) => Promise<T>) => Promise<T>;
  readonly createOrder: (tx: Tx, draft: Draft, ref: string) => Promise<Order>; // upsert on ref
}

/**
 * The idempotency key of a checkout. Built from what the customer agreed to and nothing else: no clock,
 * no trace id, no attempt counter. A double click, a retrying proxy and a resumed app all have to arrive
 * at the same string.
 */
export function checkoutRef(draft: Draft): string {
  return `co:${draft.tenant}:${draft.id}:v${draft.cartVersion}`;
}

export async function placeOrder(op: Op, deps: Deps, draft: Draft): Promise<Result<OrderId>> {
  const may = allow(op, 'order:write', draft.owner, draft.tenant, draft.id);
  if (!may.ok) return may;
  if (remainingMs(op) === 0) return fail({ kind: 'late' });

  const good = await deps.book.stillGood(draft.quote);
  if (!good.ok) return good;

  const ref = checkoutRef(draft);
  const order = await deps.inTx((tx) => deps.createOrder(tx, draft, ref));
  if (order.status !== 'draft') return ok(order.id); // an earlier attempt got further; the relay owns it now

  const held = await deps.stock.hold(narrow(op, HOLD_BUDGET_MS), ref, draft.quote.lines);
  if (!held.ok) return held;
  const reserved = await step(op, deps, order.id, 'reserved', held.value.holdId);
  if (!reserved.ok) return reserved;

  const auth = await deps.pay.authorise(
    narrow(op, AUTHORISE_BUDGET_MS), `${ref}:auth`, draft.payMethod, draft.quote.gross, draft.quote.currency,
  );
  if (!auth.ok) return unwind(op, deps, order.id, 'authorisation refused', auth);
  const authorised = await step(op, deps, order.id, 'authorised', held.value.holdId);
  if (!authorised.ok) return authorised;

  const confirmed = await deps.stock.confirm(narrow(op, CONFIRM_BUDGET_MS), held.value.holdId);
  if (!confirmed.ok) {
    await deps.pay.void(op, auth.value.authId);
    return unwind(op, deps, order.id, 'hold lapsed', confirmed);
  }

  const taken = await deps.pay.capture(op, `${ref}:capture`, auth.value.authId, draft.quote.gross);
  if (!taken.ok) {
    // Unknown is not no. The relay asks the gateway by key and moves the order on; do not unwind here.
    auditNow(op, 'capture unknown', order.id);
    return ok(order.id);
  }
  const captured = await step(op, deps, order.id, 'captured', held.value.holdId);
  return captured.ok ? ok(order.id) : captured;
}

async function step(
  op: Op, deps: Deps, id: OrderId, to: 'reserved' | 'authorised' | 'captured', holdId: string,
): Promise<Result<Order>> {
  return deps.inTx(async (tx) => {
    const cur = await loadForMove(tx, id);
    if (!cur.ok) return cur;
    await tx.query('update orders set hold_id = $1 where id = $2', [holdId, id]);
    const moved = await advance(op, tx, cur.value, to, 'checkout');
    return moved.ok ? ok(moved.value.order) : moved;
  });
}

async function unwind<T>(op: Op, deps: Deps, id: OrderId, why: string, cause: Result<T>): Promise<Result<OrderId>> {
  const moved = await deps.inTx(async (tx) => {
    const cur = await loadForMove(tx, id);
    return cur.ok ? cancelOrRecall(op, tx, cur.value, why) : cur;
  });
  if (moved.ok) await carryOut(op, deps, moved.value.effects);
  return cause.ok ? fail({ kind: 'denied', why }) : fail(cause.fault);
}

/** After commit, never inside. Refunds go through the refund desk's topic, this file has no refund client. */
export async function carryOut(op: Op, deps: Deps, effects: readonly Effect[]): Promise<void> {
  for (const e of effects) {
    switch (e.kind) {
      case 'release_hold':
        await deps.stock.release(op, e.holdId);
        break;
      case 'void_authorisation':
        break; // the caller holds the authId; see the confirm branch above
      case 'refund':
        await deps.inTx((tx) =>
          tx.outbox.add('refund.wanted', `cancel:${e.order}`, { order: e.order, amount: e.amount }),
        );
        break;
    }
  }
}
