// order_state.ts -- the only module that writes orders.status.
//
// An order moves along EDGES and nowhere else. Each move is a compare-and-set on `rev`, leaves a row in
// order_moves, and puts its event into the outbox in the SAME transaction. The warehouse, the mailer and
// finance rebuild their picture from those events; a status that changes without one is invisible
// to them until the nightly reconciliation, and finance will find you.

import type { AccountId, Minor, Op, OrderId, Result, TenantId } from './op';
import { auditNow, fail, ok } from './op';

export type Status =
  | 'draft'
  | 'reserved' // stock is held (see ReservationDesk), hold id is on the order
  | 'authorised' // payment authorised, nothing taken yet
  | 'captured'
  | 'picking' // a human or a robot may already have the goods in hand
  | 'shipped'
  | 'delivered'
  | 'recalling' // cancellation asked for after picking began; warehouse decides
  | 'cancelled'
  | 'refunded';

export interface Order {
  readonly id: OrderId;
  readonly tenant: TenantId;
  readonly owner: AccountId;
  readonly status: Status;
  readonly rev: number;
  readonly holdId: string | null;
  readonly currency: string;
  readonly total: Minor;
  readonly captured: Minor; // 0 until `captured`
  readonly bookEpoch: number; // price book epoch the quote was made under
}

export interface Tx {
  query<R>(sql: string, params: readonly unknown[]): Promise<{ rows: R[]; rowCount: number }>;
  readonly outbox: Outbox;
}

export interface Outbox {
  /** `dedupe` makes the consumer's side idempotent. Same fact, same dedupe string, forever. */
  add(topic: string, dedupe: string, body: Record<string, unknown>): Promise<void>;
}

const EDGES: Readonly<Record<Status, readonly Status[]>> = {
  draft: ['reserved', 'cancelled'],
  reserved: ['authorised', 'cancelled'],
  authorised: ['captured', 'cancelled'],
  captured: ['picking', 'cancelled'], // cancelled after captured OWES A REFUND: see cancelEffects
  picking: ['shipped', 'recalling'], // never straight to cancelled
  recalling: ['shipped', 'cancelled'], // warehouse answers "too late" or "got it"
  shipped: ['delivered'],
  delivered: ['refunded'],
  cancelled: [],
  refunded: [],
};

export const isTerminal = (s: Status): boolean => EDGES[s].length === 0;

export interface Move {
  readonly order: Order;
  readonly effects: readonly Effect[];
}

/**
 * What the caller still has to arrange. They are returned, not performed, because they cross service
 * borders and must not happen inside the caller's transaction. Dropping an effect on the floor is a
 * bug: `release_hold` leaks stock for a quarter of an hour, `refund` keeps somebody's money.
 */
export type Effect =
  | { kind: 'release_hold'; holdId: string }
  | { kind: 'void_authorisation'; order: OrderId }
  | { kind: 'refund'; order: OrderId; amount: Minor };

function cancelEffects(o: Order): Effect[] {
  const out: Effect[] = [];
  if (o.holdId !== null && (o.status === 'reserved' || o.status === 'authorised')) {
    out.push({ kind: 'release_hold', holdId: o.holdId });
  }
  if (o.status === 'authorised') out.push({ kind: 'void_authorisation', order: o.id });
  if (o.captured > 0) out.push({ kind: 'refund', order: o.id, amount: o.captured });
  return out;
}

/** Moves `order` to `to`, or says why not. `conflict` means: reload, look again, maybe do nothing. */
export async function advance(op: Op, tx: Tx, order: Order, to: Status, why: string): Promise<Result<Move>> {
  if (!EDGES[order.status].includes(to)) {
    return fail({ kind: 'denied', why: `${order.status} -> ${to} is not an edge` });
  }
  const done = await tx.query(
    'update orders set status = $1, rev = rev + 1, moved_at_ms = $2 where id = $3 and rev = $4',
    [to, op.clock.nowMs(), order.id, order.rev],
  );
  if (done.rowCount !== 1) return fail({ kind: 'conflict', rev: order.rev });
  const next: Order = { ...order, status: to, rev: order.rev + 1 };
  await tx.query(
    'insert into order_moves (order_id, rev, from_status, to_status, actor, why) values ($1,$2,$3,$4,$5,$6)',
    [order.id, next.rev, order.status, to, op.principal.actor, why],
  );
  await tx.outbox.add('order.moved', `${order.id}:${next.rev}`, {
    order: order.id, tenant: order.tenant, from: order.status, to, rev: next.rev, why,
  });
  auditNow(op, `order ${order.status}->${to}`, order.id);
  return ok({ order: next, effects: to === 'cancelled' ? cancelEffects(order) : [] });
}

/** Cancel if that is still ours to decide; otherwise ask the warehouse. The caller carries out the effects. */
export async function cancelOrRecall(op: Op, tx: Tx, order: Order, why: string): Promise<Result<Move>> {
  if (isTerminal(order.status)) return ok({ order, effects: [] }); // cancelling twice is fine
  if (order.status === 'picking') return advance(op, tx, order, 'recalling', why);
  return advance(op, tx, order, 'cancelled', why);
}

export async function loadForMove(tx: Tx, id: OrderId): Promise<Result<Order>> {
  const got = await tx.query<Order>(
    `select id, tenant, owner, status, rev, hold_id as "holdId", currency, total, captured,
            book_epoch as "bookEpoch"
       from orders where id = $1 for update`,
    [id],
  );
  const row = got.rows[0];
  return row === undefined ? fail({ kind: 'not_found', ref: id }) : ok(row);
}

/**
 * @deprecated since the outbox (rev 41). No edge check, no rev bump, no event, no move row.
 * Left for importers/legacy_2019.ts, which writes orders that nobody else has seen yet.
 * Goes away with the importer. Not for anything a customer can reach.
 */
export async function setStatus(tx: Tx, id: OrderId, status: Status): Promise<void> {
  await tx.query('update orders set status = $1 where id = $2', [status, id]);
}
