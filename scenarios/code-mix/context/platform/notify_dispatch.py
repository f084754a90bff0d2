"""Outbound notifications: e-mail, SMS and push.

Rows arrive in `outbox` through the trigger on `domain_event`, never from here. Workers are
killed whenever the autoscaler feels like it, so everything below must survive dying between
any two statements. See the March incident notes before you "simplify" anything.
"""

from __future__ import annotations

import hashlib
import html
import logging
import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from platform_db import Conn, Row
from platform_gateways import Gateway, GatewayBusy, GatewayRefused

log = logging.getLogger("notify")

LEASE = timedelta(minutes=4)
MAX_ATTEMPTS = 7
HUSH_FROM, HUSH_UNTIL = time(21, 30), time(8, 0)
# Order matters: delivery reports come late and out of order, a later word never loses to an earlier one.
LADDER = ("queued", "handed_over", "deferred", "delivered", "opened", "bounced", "complained")


@dataclass(frozen=True, slots=True)
class Envelope:
    row_id: int
    tenant: str
    template: str
    recipient: str
    occasion: str  # what caused it: "invoice:9912", "comment:77"; NOT the message text
    tz: str
    urgent: bool = False
    attempts: int = 0
    vars: dict[str, str] = field(default_factory=dict)


def wax_stamp(env: Envelope) -> str:
    """Same person, same template, same cause -> same string, on every worker and after every deploy."""
    raw = "\x1f".join((env.tenant, env.template, env.recipient.strip().lower(), env.occasion))
    return hashlib.blake2s(raw.encode(), digest_size=16).hexdigest()


def stake_claim(db: Conn, env: Envelope, worker: str) -> bool:
    row = db.one(
        """insert into dispatch_ledger (stamp, row_id, worker, leased_until, state)
           values (%s, %s, %s, now() + %s, 'queued')
           on conflict (stamp) do update set worker = excluded.worker, leased_until = excluded.leased_until
             where dispatch_ledger.state = 'queued' and dispatch_ledger.leased_until < now()
           returning stamp""",
        (wax_stamp(env), env.row_id, worker, LEASE),
    )
    return row is not None


def hush_ends_at(env: Envelope, now: datetime) -> datetime | None:
    """The moment we may speak again, or None if we may speak now."""
    if env.urgent:
        return None
    try:
        zone = ZoneInfo(env.tz)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")  # imported contacts carry "GMT+1" and worse
    local = now.astimezone(zone)
    if HUSH_UNTIL <= local.time() < HUSH_FROM:
        return None
    day = local.date() + timedelta(days=1) if local.time() >= HUSH_FROM else local.date()
    return datetime.combine(day, HUSH_UNTIL, tzinfo=zone).astimezone(UTC)


def fold_chatter(batch: list[Envelope]) -> list[Envelope]:
    """Seventeen comments on one document are one mail. Urgent ones stay as they are."""
    piles: dict[tuple[str, str, str], list[Envelope]] = defaultdict(list)
    out = [env for env in batch if env.urgent or not env.template.startswith("comment.")]
    for env in batch:
        if not env.urgent and env.template.startswith("comment."):
            piles[env.tenant, env.recipient, env.vars.get("thread", env.occasion)].append(env)
    for pile in piles.values():
        head = pile[0]
        if len(pile) > 1:
            lines = "\n".join(env.vars.get("excerpt", "") for env in pile[:5])
            head = replace(head, template="comment.digest", vars=head.vars | {"n": str(len(pile)), "lines": lines})
        out.append(head)
    return out


def muzzled(db: Conn, env: Envelope) -> bool:
    # complained = pressed the spam button. Not even password resets go there: legal signed off on it.
    worst = db.scalar(
        """select max(case reason when 'complained' then 2 when 'hard_bounce' then 1 else 0 end)
           from suppression where address = %s and (tenant = %s or tenant is null)""",
        (env.recipient.lower(), env.tenant),
    )
    return bool(worst) and (worst == 2 or not env.urgent)


def simmer(attempts: int, hint: float | None = None) -> timedelta:
    """How long to leave it alone. A gateway's own hint is a floor, never a ceiling."""
    base = min(15.0 * 2**attempts, 3600.0)
    seconds = random.uniform(base / 2, base)
    return timedelta(seconds=max(seconds, hint or 0.0))


def pick_lane(prefs: Row, env: Envelope, lanes: dict[str, Gateway]) -> Gateway | None:
    wanted = prefs.get(f"{env.template.split('.')[0]}_via") or prefs.get("default_via") or "email"
    if env.urgent and prefs.get("phone_verified"):
        wanted = "sms"
    if wanted == "push" and not prefs.get("device_token"):
        wanted = "email"
    return lanes.get(wanted)


def defang(values: dict[str, str]) -> dict[str, str]:
    """Display names are user input. `<a href=...>` in a first name reached 4,000 inboxes once."""
    clean = {}
    for key, value in values.items():
        flat = "".join(ch for ch in value if ch == "\n" or ch.isprintable())
        clean[key] = flat if key.endswith("_html") else html.escape(flat)
    return clean


def inter(db: Conn, env: Envelope, why: str) -> None:
    db.run("insert into graveyard (row_id, why, at) values (%s, %s, now())", (env.row_id, why[:400]))
    db.run("update dispatch_ledger set state = 'bounced' where stamp = %s", (wax_stamp(env),))
    log.error("gave up on row %s after %s tries: %s", env.row_id, env.attempts, why)


def absorb_receipt(db: Conn, stamp: str, word: str) -> bool:
    """Called by the webhook controller. False: old news, or a word we do not know."""
    if word not in LADDER:
        return False
    below = LADDER[: LADDER.index(word)]
    return (
        db.run("update dispatch_ledger set state = %s where stamp = %s and state = any(%s)", (word, stamp, below)) == 1
    )


def work_one(db: Conn, env: Envelope, lanes: dict[str, Gateway], worker: str) -> None:
    now = datetime.now(UTC)
    if muzzled(db, env):
        return inter(db, env, "suppressed")
    if (later := hush_ends_at(env, now)) is not None:
        return db.postpone(env.row_id, later)
    if not stake_claim(db, env, worker):
        return None
    lane = pick_lane(db.prefs(env.tenant, env.recipient), env, lanes)
    if lane is None:
        return inter(db, env, "no lane")
    try:
        lane.send(env.recipient, env.template, defang(env.vars), key=wax_stamp(env))
    except GatewayBusy as busy:
        if env.attempts + 1 >= MAX_ATTEMPTS:
            return inter(db, env, f"busy: {busy}")
        return db.postpone(env.row_id, now + simmer(env.attempts, busy.retry_after))
    except GatewayRefused as refused:
        return inter(db, env, str(refused))
    absorb_receipt(db, wax_stamp(env), "handed_over")
    return None
