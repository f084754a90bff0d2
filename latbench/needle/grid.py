"""What a needle run sends: recipes in rounds, from a few settings and a seed.

A block has its haystack and its needle to itself and is rendered at every depth stratum, so that depths are compared on
the same problem. Controls come with the blocks, in the same words. Within a round the order is random over kinds,
lengths, depths and controls: a drift of the endpoint must not look like an effect of depth.
"""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from latbench.model.errors import UserError
from latbench.needle.dice import Dice
from latbench.needle.haystack import VERSION
from latbench.needle.kinds import KINDS
from latbench.needle.trial import Control, Kind, Recipe, Round
from latbench.scenario import needle
from latbench.scenario.needle import GENERATED, LONGEST, SHORTEST, STDLIB, NeedleSettings

STRATA = (0.1, 0.3, 0.5, 0.7, 0.9)
JITTER = 0.1
CANARY_DEPTHS = (0.01, 0.99)
_NONCE_CHARS = 16
_EDGE_TOKENS = 300
_WIDEST_EDGE = 0.08


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a needle run.

    There are `blocks` blocks for each kind and length, `blocks_in_round` of each in a round. Without `depths`, a block
    has one trial at a depth drawn over the whole file. `absent` is the share of controls without a target, of the
    trials of a kind that may have them; `base`, `closed_book` are controls of each kind, `canaries` pairs at each
    length. `lengths` are in the endpoint's tokens, of which it counts `scale` for each of o200k_base.
    """

    kinds: tuple[Kind, ...]
    lengths: tuple[int, ...]
    blocks: int
    blocks_in_round: int = 1
    depths: tuple[float, ...] = STRATA
    jitter: float = JITTER
    absent: float = 0.2
    base: int = 0
    closed_book: int = 0
    canaries: int = 0
    question: str = "after"
    source: str = "generated"
    strip_comments: bool = False
    scale: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Raises UserError for settings that mean nothing."""
        if not self.kinds or not self.lengths or self.blocks < 1 or self.blocks_in_round < 1:
            raise UserError("a needle run needs a kind, a length and a block at least")
        for length in self.lengths:
            if not SHORTEST <= length <= LONGEST:
                raise UserError(f"a length of {length:,} tokens: from {SHORTEST:,} to {LONGEST:,} is possible")
        for depth in self.depths:
            if not 0 < depth < 1:
                raise UserError(f"a depth of {depth:.0%}: it must lie between 0 % and 100 %")
        if not 0 <= self.jitter <= 0.5 or not 0 <= self.absent <= 1:
            raise UserError("jitter is from 0 to 50 points, the share of absent controls from 0 to 1")


def grid_of(settings: NeedleSettings, seed: int) -> Grid:
    """The grid that a scenario's `needle` asks for."""
    folder = settings.haystack not in (GENERATED, STDLIB)
    return Grid(
        kinds=tuple(Kind(kind) for kind in settings.kinds),
        lengths=settings.lengths,
        blocks=settings.blocks,
        blocks_in_round=settings.round,
        depths=settings.depths,
        jitter=settings.jitter,
        absent=settings.absent,
        base=settings.base,
        closed_book=settings.closed_book,
        canaries=settings.canaries,
        question=settings.question,
        source="folder" if folder else settings.haystack,
        strip_comments=settings.strip_comments,
        scale=settings.scale or 1.0,
        seed=seed,
    )


PRESETS: dict[str, Grid] = {
    name: grid_of(NeedleSettings.model_validate({"preset": name}), 0) for name in needle.PRESETS
}
"""`smoke` shows that all works, `fifty` a load of fifty at a time, `position` tests depth, the others length."""


def rounds(grid: Grid, run_id: str) -> list[Round]:
    """All that is to be sent, in order. The run's id goes into the nonces, and into nothing else."""
    grid.check()
    made: list[Round] = []
    for first in range(0, grid.blocks, grid.blocks_in_round):
        blocks = range(first, min(first + grid.blocks_in_round, grid.blocks))
        recipes = [recipe for block in blocks for recipe in _of_block(grid, block, run_id)]
        made.append(Round(len(made), tuple(Dice(grid.seed, "send", len(made)).shuffled(recipes))))
    return made


def _of_block(grid: Grid, number: int, run_id: str) -> Iterator[Recipe]:
    """Block `number` of every kind and length, with its share of controls."""
    for kind in grid.kinds:
        for length in grid.lengths:
            yield from _at_length(grid, kind, length, number, run_id)
        if number < grid.base:
            yield _recipe(grid, kind, Control.BASE, 0, number, "", None, run_id)
        if number < grid.closed_book:
            yield _recipe(grid, kind, Control.CLOSED_BOOK, 0, number, "", None, run_id)
    if number < grid.canaries:
        for length in grid.lengths:
            for depth in CANARY_DEPTHS:
                name = f"{depth:.0%}"
                yield _recipe(grid, Kind.CONSTANT, Control.CANARY, length, number, name, depth, run_id)


def _at_length(grid: Grid, kind: Kind, length: int, number: int, run_id: str) -> Iterator[Recipe]:
    for stratum in grid.depths or (None,):
        name = "" if stratum is None else f"{stratum:.1%}"
        yield _recipe(grid, kind, Control.NONE, length, number, name, stratum, run_id)
    if KINDS[kind].may_be_absent:
        share = grid.absent * max(1, len(grid.depths))
        # Rounded sums: of 0.1 a block, every tenth block has one.
        before, after = round(number * share + 1e-9), round((number + 1) * share + 1e-9)
        for extra in range(before, after):
            yield _recipe(grid, kind, Control.ABSENT, length, extra, "", None, run_id)


def _recipe(
    grid: Grid,
    kind: Kind,
    control: Control,
    length: int,
    needle: int,
    name: str,
    stratum: float | None,
    run_id: str,
) -> Recipe:
    block = f"{kind}/{length}/{needle}" if control == Control.NONE else f"{kind}/{length}/{control}/{needle}"
    trial = f"{block}/{name}" if name else block
    tokens = round(length / grid.scale)
    exact = control == Control.CANARY or not grid.jitter
    return Recipe(
        version=VERSION,
        seed=grid.seed,
        kind=kind,
        control=control,
        source=grid.source,
        block=block,
        needle=needle,
        trial=trial,
        stratum=stratum,
        depth=stratum if stratum is not None and exact else _depth(grid, trial, tokens, stratum),
        tokens=length,
        target_tokens=tokens,
        nonce=nonce(run_id, trial),
        question=grid.question,
        strip_comments=grid.strip_comments,
    )


def _depth(grid: Grid, trial: str, tokens: int, stratum: float | None) -> float:
    """A depth in the stratum, or anywhere, where a whole function has room before and after its line."""
    edge = min(_WIDEST_EDGE, _EDGE_TOKENS / tokens) if tokens > 0 else 0.0
    low, high = (0.0, 1.0) if stratum is None else (stratum - grid.jitter, stratum + grid.jitter)
    low, high = max(low, edge), min(high, 1 - edge)
    return round(low + max(0.0, high - low) * Dice(grid.seed, "depth", trial).random(), 5)


def nonce(run_id: str, trial: str) -> str:
    """Sixteen hexadecimal digits that open the prompt, and no other prompt of any run."""
    return blake2b(f"{run_id}/needle/{trial}".encode(), digest_size=_NONCE_CHARS // 2).hexdigest()
