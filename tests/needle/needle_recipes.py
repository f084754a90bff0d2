"""Recipes and trials for the tests of this folder."""

from functools import cache

from latbench.needle.build import Builder
from latbench.needle.haystack import VERSION, Generated
from latbench.needle.kinds import KINDS
from latbench.needle.trial import Control, Kind, Recipe, Trial

ABSENT_KINDS = [kind for kind, info in KINDS.items() if info.may_be_absent]


def recipe(
    kind: Kind,
    tokens: int = 3_000,
    depth: float = 0.5,
    *,
    seed: int = 7,
    needle: int = 0,
    control: Control = Control.NONE,
    trial: str = "t",
    block: str | None = None,
    question: str = "after",
    source: str = "generated",
) -> Recipe:
    """A recipe as a grid makes it, with every choice open."""
    return Recipe(
        version=VERSION,
        seed=seed,
        kind=kind,
        control=control,
        source=source,
        block=block or f"{kind}/{tokens}/{needle}",
        needle=needle,
        trial=trial,
        stratum=None,
        depth=depth,
        tokens=tokens,
        target_tokens=tokens,
        nonce="0123456789abcdef",
        question=question,
    )


@cache
def builder() -> Builder:
    """One builder of generated code, so that tests share what it keeps."""
    return Builder(Generated())


def built(made: Recipe) -> Trial:
    """The trial of a recipe, from generated code."""
    return builder().build(made)
