// Resumable uploads: ticket -> slices -> weld -> inspect -> promote.
// The bucket has two prefixes: `limbo/` (nobody may read it) and `shelf/` (served by the CDN).
// Nothing goes to `shelf/` except through promote(). Yes, also "just for the demo".

import { createHash } from "node:crypto";
import type { BlobStore, Catalog, Scanner, Tx } from "./storage";

export const SLICE = 5 * 1024 * 1024;
const TICKET_HOURS = 36;
const RUNGS = [64, 240, 720, 1440] as const;

export interface Ticket {
  id: string;
  owner: string;
  declared: { name: string; bytes: number; mime: string };
  have: number[]; // slice numbers, sorted
  digests: Record<number, string>;
  openedAt: Date;
  state: "open" | "welding" | "held" | "done";
}

export class UploadRefused extends Error {
  constructor(readonly code: "quota" | "kind" | "mismatch" | "gone" | "busy", message: string) {
    super(message);
  }
}

const MAGIC: Array<[string, number, number[]]> = [
  ["image/png", 0, [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", 0, [0xff, 0xd8, 0xff]],
  ["application/pdf", 0, [0x25, 0x50, 0x44, 0x46]],
  ["image/heic", 4, [0x66, 0x74, 0x79, 0x70]],
  ["application/zip", 0, [0x50, 0x4b, 0x03, 0x04]], // docx and xlsx too
];

/** What the bytes say, whatever the browser says. */
export function sniff(head: Uint8Array): string | null {
  for (const [mime, at, sig] of MAGIC) {
    if (sig.every((b, i) => head[at + i] === b)) return mime;
  }
  return null;
}

export function sliceCount(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / SLICE));
}

/** [[from, to], ...] inclusive. The mobile client shows it as the grey parts of the bar. */
export function holesIn(t: Ticket): Array<[number, number]> {
  const got = new Set(t.have);
  const out: Array<[number, number]> = [];
  for (let n = 0; n < sliceCount(t.declared.bytes); n++) {
    if (got.has(n)) continue;
    const last = out[out.length - 1];
    if (last && last[1] === n - 1) last[1] = n;
    else out.push([n, n]);
  }
  return out;
}

export class UploadPipeline {
  constructor(
    private readonly blobs: BlobStore,
    private readonly catalog: Catalog,
    private readonly scanner: Scanner,
    private readonly clock: () => Date = () => new Date(),
  ) {}

  async openTicket(owner: string, declared: Ticket["declared"]): Promise<Ticket> {
    return this.catalog.tx(async (tx) => {
      await this.earmark(tx, owner, declared.bytes);
      return tx.insertTicket({ owner, declared, have: [], digests: {}, openedAt: this.clock(), state: "open" });
    });
  }

  /** Counts what is promised, not only what has arrived: ten parallel tickets must not each see a half-empty plan. */
  private async earmark(tx: Tx, owner: string, bytes: number): Promise<void> {
    const plan = await tx.lockPlan(owner);
    const promised = plan.usedBytes + plan.pendingBytes + bytes;
    if (promised > plan.limitBytes) {
      throw new UploadRefused("quota", `needs ${promised - plan.limitBytes} more bytes than the plan has`);
    }
    await tx.addPending(owner, bytes);
  }

  async takeSlice(id: string, n: number, body: Uint8Array, md5: string): Promise<Ticket> {
    const t = await this.catalog.ticket(id);
    if (!t || t.state !== "open") throw new UploadRefused("gone", `ticket ${id} is closed`);
    const seen = createHash("md5").update(body).digest("base64");
    if (seen !== md5) throw new UploadRefused("mismatch", `slice ${n}: digest differs, send it again`);
    // Flaky lifts and tunnels: the same slice comes twice quite often. Same bytes, nothing to do.
    if (t.digests[n] === seen) return t;
    await this.blobs.put(`limbo/${id}/${n}`, body);
    return this.catalog.noteSlice(id, n, seen);
  }

  /** All slices are here: join them, look inside, and either publish or hold. */
  async weld(id: string): Promise<string> {
    const t = await this.catalog.flip(id, "open", "welding");
    if (!t) throw new UploadRefused("busy", `ticket ${id} is being welded by someone else`);
    if (holesIn(t).length) {
      await this.catalog.flip(id, "welding", "open");
      throw new UploadRefused("mismatch", `ticket ${id} has holes`);
    }
    const parts = t.have.map((n) => `limbo/${id}/${n}`);
    const whole = await this.blobs.concat(parts, `limbo/${id}/whole`);
    const head = await this.blobs.range(whole, 0, 16);
    const kind = sniff(head);
    if (!kind || !this.closeEnough(kind, t.declared.mime)) {
      await this.intern(t, `says ${t.declared.mime}, is ${kind ?? "unknown"}`);
      throw new UploadRefused("kind", "file content does not fit its type");
    }
    const verdict = await this.scanner.scan(whole);
    if (verdict !== "clean") {
      await this.intern(t, verdict);
      throw new UploadRefused("kind", "file was held for review");
    }
    return this.promote(t, whole, kind);
  }

  private closeEnough(kind: string, declared: string): boolean {
    if (kind === declared) return true;
    return kind === "application/zip" && declared.startsWith("application/vnd.openxmlformats");
  }

  /** Kept for the trust team for 30 days; the owner still pays for it, see the thread about free storage. */
  private async intern(t: Ticket, why: string): Promise<void> {
    await this.catalog.flip(t.id, "welding", "held");
    await this.catalog.note(t.id, why);
  }

  private async promote(t: Ticket, whole: string, kind: string): Promise<string> {
    const digest = await this.blobs.sha256(whole);
    const twin = await this.doppelganger(t.owner, digest);
    const target = twin ?? `shelf/${digest.slice(0, 2)}/${digest}`;
    if (!twin) {
      const source = kind === "image/jpeg" ? await this.forgetWhere(whole) : whole;
      await this.blobs.copy(source, target, { "content-type": kind, "cache-control": "private, max-age=86400" });
      if (kind.startsWith("image/")) await this.buildLadder(target);
    }
    await this.catalog.settle(t.id, target, twin ? 0 : t.declared.bytes);
    await this.blobs.removePrefix(`limbo/${t.id}/`);
    return target;
  }

  /** Only within one owner. Across owners it would tell you that somebody else has the same file. */
  private async doppelganger(owner: string, digest: string): Promise<string | null> {
    return this.catalog.findOwned(owner, digest);
  }

  /** Drops APP1 blocks. We lose the orientation flag too, so it is burned into the pixels first. */
  private async forgetWhere(path: string): Promise<string> {
    const upright = await this.blobs.transform(path, { autoOrient: true });
    return this.blobs.transform(upright, { dropSegments: ["APP1"] });
  }

  private async buildLadder(path: string): Promise<void> {
    const { width } = await this.blobs.imageSize(path);
    for (const rung of RUNGS) {
      if (rung < width) await this.blobs.transform(path, { width: rung, to: `${path}@${rung}` });
    }
  }

  /** Cron, hourly. People close the laptop; their half of a video must not eat the plan for ever. */
  async composting(): Promise<number> {
    const edge = new Date(this.clock().getTime() - TICKET_HOURS * 3600_000);
    const dead = await this.catalog.openedBefore(edge, ["open", "welding"]);
    for (const t of dead) {
      await this.blobs.removePrefix(`limbo/${t.id}/`);
      await this.catalog.tx((tx) => tx.addPending(t.owner, -t.declared.bytes));
      await this.catalog.drop(t.id);
    }
    return dead.length;
  }
}
