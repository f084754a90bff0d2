"""What differs between two runs besides their figures, and whether they may be compared at all.

Other prompts, another load, other limits of the answers: then the figures are of different things, and a ratio between
them means nothing. The same holds for an invalid run. Another model, provider or address is what is compared. Anything
else that differs is said, because it may be the reason.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from latbench.model.errors import UserError

_ABSENT = "none"
_FREE = ("name", "version", "labels", "thresholds", "slo", "lead", "budget", "demand", "endpoints", "seed")
_LENGTHS = ("duration", "requests", "warmup")
_BLOCKING = ("prompts", "output", "cache", "rate_limits", "load", "endpoints_order")

Summary = Mapping[str, Any]
"""A `summary.json`."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is `a` on one side and `b` on the other. `blocks`: what is measured is not the same thing."""

    what: str
    a: str
    b: str
    blocks: bool = False


def pairs(a: Summary, b: Summary) -> list[tuple[str, str]]:
    """The endpoints that belong together: those of one name, or the only ones. Raises UserError for none."""
    ours, theirs = list(a["endpoints"]), list(b["endpoints"])
    same = [(name, name) for name in ours if name in theirs]
    if same:
        return same
    if len(ours) == len(theirs) == 1:
        return [(ours[0], theirs[0])]
    raise UserError(
        f"no endpoint is on both sides: A has {', '.join(ours)}, B has {', '.join(theirs)};"
        " give those that belong together one name in their scenarios"
    )


def differences(a: Summary, b: Summary) -> list[Difference]:
    """All that differs, what blocks a comparison first."""
    found = [*_of_the_runs(a, b), *_of_the_scenarios(a, b)]
    return sorted(found, key=lambda one: not one.blocks)


def _of_the_runs(a: Summary, b: Summary) -> Iterator[Difference]:
    ours, theirs = (side["validity"]["verdict"] for side in (a, b))
    if "invalid" in (ours, theirs):
        yield Difference("validity", ours, theirs, blocks=True)
    elif ours != theirs:
        yield Difference("validity", ours, theirs)
    for key in ("scenario", "workers", "state", "window", "labels"):
        yield from _unlike(key, a["run"][key], b["run"][key])
    yield from _unlike("scenario_sha256", a["run"]["scenario_sha256"][:12], b["run"]["scenario_sha256"][:12])
    first, second = a["provenance"], b["provenance"]
    yield from _unlike("latbench", first["version"], second["version"])
    yield from _unlike("seed", first["seed"], second["seed"])
    yield from _unlike("host", first["host"], second["host"])
    for one in _unlike("prompts", first["prompts"], second["prompts"]):
        # The same prompts in a newer version of their manifest are the same prompts; so are those of another folder.
        yield msgspec.structs.replace(one, blocks=_sha256(first["prompts"]) != _sha256(second["prompts"]))


def _sha256(prompts: Mapping[str, Any] | None) -> object:
    return None if prompts is None else prompts.get("sha256")


def _of_the_scenarios(a: Summary, b: Summary) -> Iterator[Difference]:
    ours, theirs = (side["provenance"]["scenario"] for side in (a, b))
    for key in dict.fromkeys([*ours, *theirs]):
        if key in _FREE:
            continue
        for one in _unlike(key, ours.get(key), theirs.get(key)):
            if one.what not in ("prompts.pack", "prompts.path"):  # their hash has been compared
                yield msgspec.structs.replace(one, blocks=_is_blocking(one.what))
    for name, other in pairs(a, b):
        for one in _unlike(f"endpoint {name}", _settings(ours, name), _settings(theirs, other)):
            yield msgspec.structs.replace(one, blocks=one.what.endswith(".stream"))


def _is_blocking(what: str) -> bool:
    """How long a step lasts only changes how much is known of it."""
    room, last = what.partition(".")[0].partition("[")[0], what.rpartition(".")[2]
    return room in _BLOCKING and not (room == "load" and last in _LENGTHS)


def _settings(scenario: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = [one for one in scenario.get("endpoints", []) if one["name"] == name]
    return {key: value for key, value in found[0].items() if key not in ("name", "price", "limits")} if found else {}


def _unlike(what: str, a: object, b: object) -> Iterator[Difference]:
    """The leaves in which two values differ, by their paths."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys([*a, *b]):
            yield from _unlike(f"{what}.{key}", a.get(key), b.get(key))
    elif isinstance(a, list) and isinstance(b, list):
        for at in range(max(len(a), len(b))):
            yield from _unlike(f"{what}[{at}]", a[at] if at < len(a) else None, b[at] if at < len(b) else None)
    elif a != b:
        yield Difference(what, _said(a), _said(b))


def _said(value: object) -> str:
    if value is None:
        return _ABSENT
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
