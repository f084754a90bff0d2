// Sessions live in Redis. The browser only ever holds a sealed cookie with the id in it.
// If you change a key layout here, bump LAYOUT and teach thawLegacy() about the old one:
// we cannot log 300k people out on a Tuesday again.

import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Redis } from "ioredis";
import type { AuditSink } from "./audit_client";

const LAYOUT = 4;
const IDLE_SECONDS = 14 * 24 * 3600;
const HARD_SECONDS = 90 * 24 * 3600;
const SEATS = 5;

export type Assurance = "anon" | "password" | "second-factor";

export interface Session {
  id: string;
  userId: string | null;
  assurance: Assurance;
  bornAt: number; // epoch seconds, all of them
  touchedAt: number;
  ua: string;
  net: string; // /24 or /48, never the full address (privacy review 2022)
  csrf: string;
  layout: number;
}

export interface SealKey {
  kid: string;
  secret: Buffer;
  retiredAt?: number;
}

const now = () => Math.floor(Date.now() / 1000);
const k = {
  sess: (id: string) => `s:${LAYOUT}:${id}`,
  user: (uid: string) => `su:${uid}`,
  grave: (id: string) => `sg:${id}`,
  lease: (id: string) => `sl:${id}`,
};

export function cloakNet(ip: string): string {
  if (ip.includes(":")) return ip.split(":").slice(0, 3).join(":") + "::/48";
  return ip.split(".").slice(0, 3).join(".") + ".0/24";
}

export class SessionStore {
  constructor(
    private readonly redis: Redis,
    private readonly keys: SealKey[], // newest first; the tail is only good for reading
    private readonly audit: AuditSink,
  ) {}

  async mint(ua: string, ip: string, userId: string | null, assurance: Assurance): Promise<Session> {
    const s: Session = {
      id: randomBytes(24).toString("base64url"),
      userId,
      assurance,
      bornAt: now(),
      touchedAt: now(),
      ua: ua.slice(0, 160),
      net: cloakNet(ip),
      csrf: randomBytes(16).toString("base64url"),
      layout: LAYOUT,
    };
    await this.persist(s);
    if (userId) await this.giveUpOldestSeat(userId, s.id);
    return s;
  }

  private async persist(s: Session): Promise<void> {
    const left = Math.min(IDLE_SECONDS, s.bornAt + HARD_SECONDS - now());
    if (left <= 0) return;
    const tx = this.redis.multi().set(k.sess(s.id), JSON.stringify(s), "EX", left);
    if (s.userId) tx.zadd(k.user(s.userId), s.touchedAt, s.id);
    await tx.exec();
  }

  /** TV apps share one account in dorms; sales promised five, so five it is. */
  private async giveUpOldestSeat(userId: string, keep: string): Promise<void> {
    const extra = await this.redis.zrange(k.user(userId), 0, -(SEATS + 1));
    for (const id of extra) {
      if (id !== keep) await this.entomb(id, userId, "seat-limit");
    }
  }

  wrap(s: Session): string {
    const head = this.keys[0];
    const body = `${head.kid}.${s.id}`;
    return `${body}.${createHmac("sha256", head.secret).update(body).digest("base64url")}`;
  }

  /** null for anything we did not sign ourselves, whatever the reason; callers must not tell the client which. */
  unwrap(cookie: string): string | null {
    const [kid, id, mac, ...rest] = cookie.split(".");
    if (!kid || !id || !mac || rest.length) return null;
    const key = this.keys.find((c) => c.kid === kid);
    if (!key || (key.retiredAt && key.retiredAt + HARD_SECONDS < now())) return null;
    const want = createHmac("sha256", key.secret).update(`${kid}.${id}`).digest();
    const got = Buffer.from(mac, "base64url");
    return want.length === got.length && timingSafeEqual(want, got) ? id : null;
  }

  async resolve(cookie: string, ua: string, ip: string): Promise<Session | null> {
    const id = this.unwrap(cookie) ?? (await this.thawLegacy(cookie));
    if (!id) return null;
    const [raw, grave] = await this.redis.mget(k.sess(id), k.grave(id));
    if (!raw || grave) return null;
    const s = JSON.parse(raw) as Session;
    if (s.userId && this.smellsWrong(s, ua, ip) >= 2) {
      await this.audit.emit("session.suspect", { id: s.id, user: s.userId });
      return { ...s, assurance: "anon" };
    }
    await this.nudge(s);
    return s;
  }

  /** One write per ten minutes is plenty. Writing on every asset request melted the primary. */
  private async nudge(s: Session): Promise<void> {
    if (now() - s.touchedAt < 600) return;
    s.touchedAt = now();
    await this.persist(s);
  }

  private smellsWrong(s: Session, ua: string, ip: string): number {
    let points = 0;
    if (s.net !== cloakNet(ip)) points += 1; // phones do this all day
    if (family(s.ua) !== family(ua)) points += 2; // nobody's Firefox becomes curl
    return points;
  }

  /** The old id must die here: an attacker may have planted it before the login form was sent. */
  async moult(old: Session, userId: string, assurance: Assurance, ip: string): Promise<Session> {
    const fresh = await this.mint(old.ua, ip, userId, assurance);
    await this.entomb(old.id, old.userId, "moult");
    return fresh;
  }

  private async entomb(id: string, userId: string | null, why: string): Promise<void> {
    const tx = this.redis.multi().set(k.grave(id), why, "EX", 3600).del(k.sess(id));
    if (userId) tx.zrem(k.user(userId), id);
    await tx.exec();
    await this.audit.emit("session.end", { id, why });
  }

  async scorch(userId: string, except?: string): Promise<number> {
    const ids = (await this.redis.zrange(k.user(userId), 0, -1)).filter((id) => id !== except);
    for (const id of ids) await this.entomb(id, userId, "scorch");
    return ids.length;
  }

  /** Two tabs refreshing one upstream token at once get both tokens revoked. Loser waits, then reads. */
  async aloneWith<T>(id: string, work: () => Promise<T>, otherwise: () => Promise<T>): Promise<T> {
    const mine = randomBytes(8).toString("hex");
    for (let tries = 0; tries < 20; tries++) {
      if (await this.redis.set(k.lease(id), mine, "PX", 5000, "NX")) {
        try {
          return await work();
        } finally {
          if ((await this.redis.get(k.lease(id))) === mine) await this.redis.del(k.lease(id));
        }
      }
      await new Promise((r) => setTimeout(r, 120));
    }
    return otherwise();
  }

  /** Layout 3 cookies were a bare uuid. Drop this once `layout3.seen` has been zero for a quarter. */
  private async thawLegacy(cookie: string): Promise<string | null> {
    if (!/^[0-9a-f-]{36}$/.test(cookie)) return null;
    const raw = await this.redis.getdel(`sess:${cookie}`);
    if (!raw) return null;
    const old = JSON.parse(raw) as { uid?: string; agent?: string; ip?: string };
    const s = await this.mint(old.agent ?? "", old.ip ?? "0.0.0.0", old.uid ?? null, old.uid ? "password" : "anon");
    return s.id;
  }
}

function family(ua: string): string {
  return /(firefox|edg|chrome|safari|curl|okhttp)/i.exec(ua)?.[1].toLowerCase() ?? "other";
}
