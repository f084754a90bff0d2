"""The key `needle:` of a scenario: which trials are sent instead of prompts.

A preset says everything, and each key that is given beside it replaces what the preset says. How many trials that comes
to is known here; how they are made is the business of the room `needle`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator

from latbench.model.load import Closed, Step
from latbench.scenario.grammar import ONE_OR_MORE, Count, Flag, Record, Size, Text, nearest

KINDS = ("constant", "signature", "body-fact", "description", "bug", "execution", "chain", "contract", "multi")
"""The rungs of the ladder, in order."""
NEVER_ABSENT = frozenset({"execution", "chain", "contract", "multi"})
"""Kinds without a control that lacks the target."""
GENERATED, STDLIB = "generated", "stdlib"
SHORTEST, LONGEST = 1_000, 1_000_000
STRATA = ("10%", "30%", "50%", "70%", "90%")

_EVERYWHERE: dict[str, Any] = {
    "lengths": ("10k",),
    "depths": STRATA,
    "jitter": "10%",
    "absent": "20%",
    "base": 0,
    "closed_book": 0,
    "canaries": 0,
    "round": 1,
    "question": "after",
    "haystack": GENERATED,
    "strip_comments": False,
    "scale": None,
}
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"kinds": ("constant",), "blocks": 2, "absent": "40%"},
    "fifty": {"kinds": ("bug",), "blocks": 100, "round": 50, "depths": "random", "absent": "10%"},
    "position": {"kinds": ("description", "bug"), "blocks": 50, "base": 10},
    "length": {"kinds": ("description",), "lengths": ("4k", "8k", "16k", "32k"), "blocks": 25},
    "certify": {"kinds": ("description",), "lengths": ("4k", "8k", "16k", "32k", "64k", "128k"), "blocks": 25},
}
"""`smoke` shows that all works, `fifty` a load of fifty at a time, `position` tests depth, the others length."""
CONCURRENCY = {"smoke": 4, "fifty": 50, "position": 8, "length": 4, "certify": 4}


def parse_share(value: object) -> float:
    """A share from 0 to 1 of `30%`. Raises ValueError with advice; a bare number is refused, but for 0."""
    if value == 0 and not isinstance(value, bool):
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)%", value) if isinstance(value, str) else None
    if match is None:
        bare = isinstance(value, int | float) or (isinstance(value, str) and value.replace(".", "", 1).isdigit())
        raise ValueError(
            f"a bare number; write {value}%" if bare and not isinstance(value, bool) else "not a share; write it as 30%"
        )
    share = Decimal(match[1]) / 100
    if share > 1:
        raise ValueError("more than 100%")
    return float(share)


def format_share(share: float) -> str:
    """The text that `parse_share` reads as this share."""
    return f"{(Decimal(repr(share)) * 100).normalize():f}%"


def _inside(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError("must lie between 0% and 100%")
    return share


def _half(share: float) -> float:
    if share > 0.5:
        raise ValueError("more than 50%")
    return share


def _length(tokens: int) -> int:
    if not SHORTEST <= tokens <= LONGEST:
        raise ValueError("must be from 1k to 1M tokens")
    return tokens


def _depths(value: object) -> tuple[float, ...]:
    """Depth strata; `random` is none of them: each trial then has a depth of its own."""
    if value == "random":
        return ()
    given = value if isinstance(value, list | tuple) else (value,)
    if not given:
        raise ValueError("an empty list; give it depths such as 10%, or write random")
    depths = tuple(_inside(parse_share(one)) for one in given)
    if len(set(depths)) < len(depths):
        raise ValueError("names a depth twice")
    return depths


def _written_depths(depths: tuple[float, ...]) -> list[str] | str:
    return [format_share(depth) for depth in depths] or "random"


def _kind(value: object) -> str:
    if value not in KINDS:
        raise ValueError(f"no kind of needle; {nearest(str(value), KINDS)}")
    return str(value)


Share = Annotated[float, PlainValidator(parse_share), PlainSerializer(format_share)]
Few = Annotated[int, Field(ge=0, le=10_000, strict=True)]


class NeedleSettings(Record):
    """What is sent instead of prompts: needle trials.

    There are `blocks` blocks for each kind and length, `round` of each in a round. `absent` is the share of controls
    without a target, `base` and `closed_book` so many controls of each kind, `canaries` so many pairs of each length.
    `haystack` is `generated`, `stdlib` or a folder. `scale` is how many tokens the endpoint counts for each of ours
    (o200k_base); lengths are then in its tokens, and prompts that it counts shorter were cut. None where nobody knows.
    """

    preset: Literal["smoke", "fifty", "position", "length", "certify"] = "smoke"
    kinds: Annotated[tuple[Annotated[str, PlainValidator(_kind)], ...], ONE_OR_MORE, Field(min_length=1)]
    lengths: Annotated[tuple[Annotated[Size, AfterValidator(_length)], ...], ONE_OR_MORE, Field(min_length=1)]
    depths: Annotated[tuple[float, ...], PlainValidator(_depths), PlainSerializer(_written_depths)]
    jitter: Annotated[Share, AfterValidator(_half)]
    blocks: Annotated[Count, Field(le=10_000)]
    round: Count
    absent: Share
    base: Few
    closed_book: Few
    canaries: Few
    question: Literal["after", "before", "both"]
    haystack: Text
    strip_comments: Flag
    scale: Annotated[float, Field(ge=0.2, le=5, strict=True, allow_inf_nan=False)] | None

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: object) -> object:
        """What is not given is the preset's."""
        if isinstance(data, str) and data in PRESETS:
            data = {"preset": data}
        if not isinstance(data, Mapping):
            return data
        preset = data.get("preset", "smoke")
        return {**_EVERYWHERE, **PRESETS.get(preset if isinstance(preset, str) else "", PRESETS["smoke"]), **data}

    @model_validator(mode="after")
    def _no_twins(self) -> "NeedleSettings":
        for name in ("kinds", "lengths"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names one twice")
        return self

    @property
    def trials(self) -> int:
        """How many trials these settings come to, controls included."""
        found = 0
        for kind in self.kinds:
            share = 0.0 if kind in NEVER_ABSENT else self.absent * max(1, len(self.depths))
            absent = round(self.blocks * share + 1e-9)
            found += len(self.lengths) * (self.blocks * max(1, len(self.depths)) + absent)
            found += min(self.base, self.blocks) + min(self.closed_book, self.blocks)
        return found + 2 * len(self.lengths) * min(self.canaries, self.blocks)

    def load(self) -> Step:
        """The load where the scenario names none: all trials, so many at a time as suits the preset."""
        return Step(Closed(CONCURRENCY[self.preset]), self.trials)
