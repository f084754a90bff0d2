// op.ts -- the operation context. Every call into the order platform takes an `Op` as its first
// argument. It says who is asking, for whom, until when, and under which trace.
//
// House rules (people have been burnt by each of these, see the post-mortem list in the wiki):
//   1. ACCESS is decided on `principal.subject`, AUDIT is written with `principal.actor`.
//      They differ when support staff act for a customer. Mixing them up gives staff the rights of
//      nobody, or a customer the rights of staff.
//   2. Deadlines only ever shrink. `narrow` takes the minimum; nobody builds an Op with a later
//      deadline than the one they were handed. Work that has to outlive the request goes to the outbox.
//   3. `systemOp` is for sweepers and the relay. It has no tenant and passes every scope check, so it
//      must never be reachable from a request handler.

export type Brand<T, B extends string> = T & { readonly __brand: B };
export type TenantId = Brand<string, 'TenantId'>;
export type AccountId = Brand<string, 'AccountId'>;
export type OrderId = Brand<string, 'OrderId'>;
export type Minor = Brand<number, 'Minor'>; // integer minor units, never a float, never "major"

export type Scope =
  | 'order:read'
  | 'order:write'
  | 'order:cancel'
  | 'refund:request'
  | 'refund:approve'
  | 'price:write'
  | 'stock:adjust';

export interface Principal {
  readonly tenant: TenantId | null; // null only for systemOp
  readonly subject: AccountId; // whose data this is about
  readonly actor: AccountId; // whose fingers are on the keyboard
  readonly scopes: ReadonlySet<Scope>;
  readonly stepUpAtMs: number | null; // last second-factor check, null = never in this session
}

export interface Op {
  readonly principal: Principal;
  readonly traceId: string;
  readonly deadlineMs: number; // absolute, on `clock`
  readonly clock: Clock;
  readonly audit: AuditSink;
}

export interface Clock {
  nowMs(): number;
}

export interface AuditEntry {
  readonly actor: AccountId;
  readonly subject: AccountId;
  readonly what: string;
  readonly ref: string;
  readonly atMs: number;
}

export interface AuditSink {
  write(entry: AuditEntry): void;
}

// ---------------------------------------------------------------- results, not exceptions

export type Fault =
  | { kind: 'denied'; why: string }
  | { kind: 'not_found'; ref: string }
  | { kind: 'conflict'; rev: number } // caller read an old revision; reload and decide again
  | { kind: 'gone'; ref: string } // a hold or quote has lapsed: start over, do NOT retry
  | { kind: 'late' } // deadline passed before we did anything
  | { kind: 'upstream'; service: string; retryable: boolean };

export type Result<T> = { ok: true; value: T } | { ok: false; fault: Fault };

export const ok = <T>(value: T): Result<T> => ({ ok: true, value });
export const fail = (fault: Fault): Result<never> => ({ ok: false, fault });

/** Throws. Only for places where a fault is a bug of ours (tests, start-up), not for request paths. */
export function must<T>(r: Result<T>): T {
  if (!r.ok) throw new Error(`must(): ${JSON.stringify(r.fault)}`);
  return r.value;
}

// ---------------------------------------------------------------- checks

const STEP_UP_MS = 10 * 60_000;

/**
 * Scope and ownership in one place. `owner` is the account the resource belongs to.
 * Staff acting for a customer carry the customer as `subject`, so there is no "or is staff" branch
 * here and there must not be one anywhere else either.
 *
 * Tenant mismatch is reported as not_found on purpose: an id must not reveal that it exists.
 */
export function allow(op: Op, scope: Scope, owner: AccountId, tenant: TenantId, ref: string): Result<true> {
  const p = op.principal;
  if (p.tenant !== null && p.tenant !== tenant) return fail({ kind: 'not_found', ref });
  if (!p.scopes.has(scope)) return fail({ kind: 'denied', why: `needs ${scope}` });
  if (p.tenant !== null && p.subject !== owner) return fail({ kind: 'not_found', ref });
  return ok(true);
}

/** Anything that moves money back out or changes a payout target asks for a fresh second factor. */
export function allowWithStepUp(op: Op, scope: Scope, owner: AccountId, tenant: TenantId, ref: string): Result<true> {
  const a = allow(op, scope, owner, tenant, ref);
  if (!a.ok) return a;
  const at = op.principal.stepUpAtMs;
  if (at === null || op.clock.nowMs() - at > STEP_UP_MS) return fail({ kind: 'denied', why: 'step-up' });
  return a;
}

export function remainingMs(op: Op): number {
  return Math.max(0, op.deadlineMs - op.clock.nowMs());
}

export function narrow(op: Op, budgetMs: number): Op {
  const wanted = op.clock.nowMs() + budgetMs;
  return { ...op, deadlineMs: Math.min(op.deadlineMs, wanted) };
}

export function auditNow(op: Op, what: string, ref: string): void {
  op.audit.write({
    actor: op.principal.actor,
    subject: op.principal.subject,
    what,
    ref,
    atMs: op.clock.nowMs(),
  });
}

const EVERYTHING: ReadonlySet<Scope> = new Set<Scope>([
  'order:read', 'order:write', 'order:cancel', 'refund:request', 'refund:approve', 'price:write', 'stock:adjust',
]);

export function systemOp(reason: string, clock: Clock, audit: AuditSink, budgetMs: number): Op {
  const self = `system:${reason}` as AccountId;
  return {
    principal: { tenant: null, subject: self, actor: self, scopes: EVERYTHING, stepUpAtMs: null },
    traceId: `sys-${reason}-${clock.nowMs().toString(36)}`,
    deadlineMs: clock.nowMs() + budgetMs,
    clock,
    audit,
  };
}
