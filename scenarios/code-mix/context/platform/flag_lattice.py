"""Feature flags, evaluated in process from a snapshot the control plane pushes every ~20 s.

Nothing in here may block or raise on the request path: a flag service that takes the shop down
is worse than no flag service. Anything odd -> the coded default, plus a counter.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

ODDITIES: Counter[str] = Counter()
_MAX_DEPTH = 6
_SPOOL = Path("/var/lib/flags/last-good.json")


@dataclass(frozen=True)
class Subject:
    user_id: str
    tenant: str = ""
    country: str = ""
    app_version: str = "0"
    staff: bool = False
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Flag:
    key: str
    default: str
    salt: str
    rules: tuple[Mapping[str, Any], ...] = ()
    needs: tuple[tuple[str, str], ...] = ()  # (other flag, variant it must have)
    killed: bool = False
    weights: tuple[tuple[str, int], ...] = ()  # per mille, in the order they were added


def pigeonhole(salt: str, user_id: str) -> int:
    """0..999. crc32 is fine: we need spread, not secrecy. Do NOT swap the hash, people would change sides."""
    return zlib.crc32(f"{salt}/{user_id}".encode()) % 1000


def dole_out(flag: Flag, who: Subject) -> str:
    # Cumulative on purpose: widening the last variant from 10 to 50 per mille keeps the first ten where they were.
    hole, edge = pigeonhole(flag.salt, who.user_id), 0
    for variant, share in flag.weights:
        edge += share
        if hole < edge:
            return variant
    return flag.default


def loosely_versioned(text: str) -> tuple[int, ...]:
    """'4.12.0-rc3+build7' -> (4, 12, 0). Half of the Android fleet reports '4.12' and compares equal."""
    parts = [int(p) for p in re.findall(r"\d+", re.split(r"[-+]", text, maxsplit=1)[0])[:4]]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


_OPS: dict[str, Callable[[str, Any], bool]] = {
    "in": lambda got, want: got in want,
    "not_in": lambda got, want: got not in want,
    "at_least": lambda got, want: loosely_versioned(got) >= loosely_versioned(want),
    "below": lambda got, want: loosely_versioned(got) < loosely_versioned(want),
    "matches": lambda got, want: re.fullmatch(want, got) is not None,
}


def clause_holds(clause: Mapping[str, Any], who: Subject) -> bool:
    got = who.traits.get(clause["on"], None) if clause["on"] not in who.__dict__ else str(getattr(who, clause["on"]))
    if got is None:
        return bool(clause.get("absent_ok", False))
    op = _OPS.get(clause["op"])
    if op is None:
        ODDITIES[f"op:{clause['op']}"] += 1
        return False
    return op(got, clause["want"])


class Lattice:
    def __init__(self, env: str, boot: Mapping[str, Flag] | None = None) -> None:
        self._env = env
        self._flags: Mapping[str, Flag] = boot or {}
        self._etag = ""
        self._fresh_at = monotonic()
        self._seen: dict[tuple[str, str], str] = {}
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()

    def decant(self, body: bytes, etag: str) -> bool:
        """Swap in a pushed snapshot, all of it or none of it. False if we kept the old one."""
        try:
            doc = json.loads(body)
            fresh = {f["key"]: _flag_from(f) for f in doc["flags"]}
        except (ValueError, KeyError, TypeError) as bad:
            ODDITIES[f"snapshot:{type(bad).__name__}"] += 1
            return False
        if self._flags and len(fresh) < len(self._flags) // 2:
            ODDITIES["snapshot:shrunk"] += 1  # control plane once served an empty page with 200 OK
            return False
        self._flags, self._etag, self._fresh_at = fresh, etag, monotonic()
        return True

    def spool(self) -> None:
        tmp = _SPOOL.with_suffix(".tmp")
        tmp.write_text(json.dumps({"flags": [_flag_to(f) for f in self._flags.values()]}))
        tmp.replace(_SPOOL)

    def crutch(self) -> bool:
        """Cold start while the control plane is away: yesterday's truth beats the coded defaults."""
        try:
            return self.decant(_SPOOL.read_bytes(), etag="spool")
        except OSError:
            return False

    def variant(self, key: str, who: Subject, fallback: str, header: str | None = None) -> str:
        self._asked[key] = monotonic()
        forced = self.heed_header(key, who, header)
        return forced if forced is not None else self._settle(key, who, fallback, 0)

    def heed_header(self, key: str, who: Subject, header: str | None) -> str | None:
        """`X-Flags: checkout=b;nav=off`. In production only for staff, or a customer could unlock the beta."""
        if not header or (self._env == "prod" and not who.staff):
            return None
        pairs = dict(p.split("=", 1) for p in header.split(";") if "=" in p)
        return pairs.get(key)

    def _settle(self, key: str, who: Subject, fallback: str, depth: int) -> str:
        flag = self._flags.get(key)
        if flag is None or depth > _MAX_DEPTH:
            ODDITIES["missing" if flag is None else "ring"] += 1
            return fallback
        if flag.killed or not self._footing_ok(flag, who, depth):
            return flag.default
        for rule in flag.rules:
            if all(clause_holds(c, who) for c in rule["if"]):
                return rule.get("serve") or dole_out(flag, who)
        return dole_out(flag, who)

    def _footing_ok(self, flag: Flag, who: Subject, depth: int) -> bool:
        return all(self._settle(other, who, "", depth + 1) == want for other, want in flag.needs)

    def jot_exposure(self, key: str, who: Subject, variant: str, emit: Callable[[dict[str, str]], None]) -> None:
        """One event per person and flag until the side changes; the warehouse bill was 70 % repeats."""
        with self._lock:
            if self._seen.get((key, who.user_id)) == variant:
                return
            if len(self._seen) > 50_000:
                self._seen.clear()
            self._seen[key, who.user_id] = variant
        emit({"flag": key, "user": who.user_id, "variant": variant, "etag": self._etag})

    def cobwebs(self, idle_s: float = 30 * 86_400.0) -> Iterable[str]:
        now = monotonic()
        return sorted(k for k in self._flags if now - self._asked.get(k, float("-inf")) > idle_s)


def _flag_from(doc: Mapping[str, Any]) -> Flag:
    weights = tuple((str(v), int(w)) for v, w in doc.get("weights", []))
    if sum(w for _, w in weights) > 1000:
        raise ValueError(doc["key"])
    needs = tuple((n["flag"], n["is"]) for n in doc.get("needs", []))
    return Flag(doc["key"], doc["default"], doc.get("salt", doc["key"]), tuple(doc.get("rules", ())), needs,
                bool(doc.get("killed")), weights)  # fmt: skip


def _flag_to(flag: Flag) -> dict[str, Any]:
    needs = [{"flag": k, "is": v} for k, v in flag.needs]
    return {**flag.__dict__, "needs": needs, "weights": [list(w) for w in flag.weights]}
