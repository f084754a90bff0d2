"""What is planted for one question: target, decoys and whatever else the answer needs, as pieces of code.

A planting is a function of seed, kind and block, not of the length: while the haystack grows, needle, decoys and
question stay what they are. Within it the target is drawn from rivals made alike, so that without understanding them
nobody does better than chance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from latbench.needle.dice import Dice
from latbench.needle.style import Names

TARGET, DECOY, PART = "target", "decoy", "part"


@dataclass(frozen=True, slots=True)
class Item:
    """A piece to be planted. `line` is the index of its answer-bearing line.

    An item with `own_file` stands in a file of its own, so that who uses it is in another.
    """

    role: str
    name: str
    text: str
    line: int = 0
    value: int | tuple[str, ...] | None = None
    own_file: bool = False


@dataclass(frozen=True, slots=True)
class Planting:
    """All that is planted for one question.

    `items` are in no particular order but for the first, which is placed at the depth that was asked for: the target,
    or what stands in its place in a control. `chance` as in `AnswerKey`. `unique` are identifiers and numbers that must
    not occur outside of the items. Filler must not use the family `avoid`, whose behaviours the question is about.
    """

    items: tuple[Item, ...]
    question: str
    asked: tuple[str, ...] = ()
    chance: float = 0.0
    mutation: str = ""
    unique: frozenset[str] = field(default_factory=frozenset)
    avoid: str = ""


Plant = Callable[[Names, Dice, bool], Planting]
"""Makes a planting; the last argument says whether its target is present."""
