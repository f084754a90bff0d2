// price_book.ts -- prices, quotes and the cache in front of them.
//
// The epoch protocol (please read before touching anything with `epoch` in its name):
//   * every tenant has a book epoch, an integer in Redis under `pb:epoch:<tenant>`
//   * cache keys contain the epoch, so bumping it makes all older entries unreachable; they age out
//   * a writer COMMITS FIRST and bumps AFTER. The other way round, a reader between bump and commit
//     loads the old price and stores it under the new epoch, where nothing will ever evict it but TTL
//     (6 h). This happened on a sale morning.
//   * bump is allowed to fail: the writer then records the tenant in `pb:dirty`, and the janitor
//     bumps for it. So "committed but not bumped" is a state that heals, within a minute.

import type { Minor, Op, Result, TenantId } from './op';
import { allow, fail, ok } from './op';
import type { AccountId } from './op';
import type { Tx } from './order_state';

const TTL_S = 6 * 3600;
const QUOTE_EPOCH_SLACK = 2; // a quote from two epochs ago is still honoured, three is not

export interface Kv {
  get(key: string): Promise<string | null>;
  set(key: string, value: string, ttlS: number): Promise<void>;
  incr(key: string): Promise<number>;
  sadd(key: string, member: string): Promise<void>;
}

export interface PriceRow {
  readonly sku: string;
  readonly currency: string;
  readonly unit: Minor; // net, per each
  readonly taxBp: number; // basis points, 1900 = 19 %
}

export interface QuoteLine {
  readonly sku: string;
  readonly units: number; // eaches; cases are unpacked at the door
  readonly net: Minor;
  readonly tax: Minor;
}

export interface Quote {
  readonly tenant: TenantId;
  readonly currency: string;
  readonly bookEpoch: number;
  readonly lines: readonly QuoteLine[];
  readonly net: Minor;
  readonly tax: Minor;
  readonly gross: Minor;
}

export class PriceBook {
  constructor(
    private readonly kv: Kv,
    private readonly read: (tenant: TenantId, currency: string, sku: string) => Promise<PriceRow | null>,
  ) {}

  async epoch(tenant: TenantId): Promise<number> {
    return Number((await this.kv.get(`pb:epoch:${tenant}`)) ?? '0');
  }

  /** One epoch is read per quote and passed down, so that all lines of a quote come from one book. */
  async priceAt(tenant: TenantId, epoch: number, currency: string, sku: string): Promise<PriceRow | null> {
    const key = `pb:${tenant}:${epoch}:${currency}:${sku}`;
    const hit = await this.kv.get(key);
    if (hit !== null) return hit === '-' ? null : (JSON.parse(hit) as PriceRow);
    const row = await this.read(tenant, currency, sku);
    // absent prices are cached too, or a crawler with invented SKUs becomes a load test of the database
    await this.kv.set(key, row === null ? '-' : JSON.stringify(row), row === null ? 300 : TTL_S);
    return row;
  }

  async quote(
    op: Op,
    tenant: TenantId,
    currency: string,
    want: ReadonlyArray<{ sku: string; units: number }>,
  ): Promise<Result<Quote>> {
    const epoch = await this.epoch(tenant);
    const lines: QuoteLine[] = [];
    for (const w of want) {
      if (!Number.isSafeInteger(w.units) || w.units <= 0) return fail({ kind: 'denied', why: `units of ${w.sku}` });
      const row = await this.priceAt(tenant, epoch, currency, w.sku);
      if (row === null) return fail({ kind: 'not_found', ref: w.sku });
      const net = row.unit * w.units;
      lines.push({ sku: w.sku, units: w.units, net: net as Minor, tax: taxOn(net as Minor, row.taxBp) });
    }
    const net = sum(lines.map((l) => l.net));
    const tax = sum(lines.map((l) => l.tax));
    return ok({ tenant, currency, bookEpoch: epoch, lines, net, tax, gross: (net + tax) as Minor });
  }

  /** Called by checkout. `gone` sends the customer back to the basket with fresh prices. */
  async stillGood(quote: Quote): Promise<Result<true>> {
    const now = await this.epoch(quote.tenant);
    if (now - quote.bookEpoch > QUOTE_EPOCH_SLACK) return fail({ kind: 'gone', ref: `quote@${quote.bookEpoch}` });
    return ok(true);
  }

  /**
   * Writes prices. `inTx` opens its own transaction and has committed when it resolves.
   * One bump for the whole batch: three bumps in a row would void every open quote of the tenant.
   */
  async writePrices(
    op: Op,
    tenant: TenantId,
    owner: AccountId,
    rows: readonly PriceRow[],
    inTx: (work: (tx: Tx) => Promise<void>) => Promise<void>,
  ): Promise<Result<number>> {
    const may = allow(op, 'price:write', owner, tenant, `book:${tenant}`);
    if (!may.ok) return may;
    await inTx(async (tx) => {
      for (const r of rows) {
        await tx.query(
          `insert into prices (tenant, currency, sku, unit_minor, tax_bp) values ($1,$2,$3,$4,$5)
           on conflict (tenant, currency, sku) do update set unit_minor = $4, tax_bp = $5`,
          [tenant, r.currency, r.sku, r.unit, r.taxBp],
        );
      }
    });
    return ok(await this.bump(tenant));
  }

  async bump(tenant: TenantId): Promise<number> {
    try {
      return await this.kv.incr(`pb:epoch:${tenant}`);
    } catch (e) {
      await this.kv.sadd('pb:dirty', tenant); // if this fails too, TTL is the last resort
      return -1;
    }
  }
}

/**
 * Tax per LINE, half to even. Finance books lines, so the order's tax is the sum of rounded lines and
 * NOT the rounded tax of the sum. The two differ by a few minor units; the invoice service checks.
 */
export function taxOn(net: Minor, taxBp: number): Minor {
  const scaled = net * taxBp;
  const q = Math.floor(scaled / 10_000);
  const r = scaled - q * 10_000;
  if (r > 5_000 || (r === 5_000 && q % 2 === 1)) return (q + 1) as Minor;
  return q as Minor;
}

export function sum(xs: readonly Minor[]): Minor {
  return xs.reduce((a, b) => a + b, 0) as Minor;
}
