"""Puts a code block together so that the answer-bearing line stands where it was asked for.

Assembly, not insertion: the block is whole pieces, planned in tokens from both sides of the target, and the last gap on
each side is closed with small constants made to measure. So nothing is cut, everything parses because every piece does,
and depth and length are right before anything is counted.

Of k things that look alike each has a k-th of the block to itself and stands anywhere in it, the target in the part
that its depth is in. So its place says nothing: not that it is first, and not that it is near another. Closers stand
anywhere.
"""

from dataclasses import dataclass

from latbench.needle.counting import Piece, piece
from latbench.needle.dice import Dice
from latbench.needle.haystack import File, closer, deal, header, module_path, settings
from latbench.needle.planting import Item
from latbench.needle.style import Names

RESERVE = 160
"""Tokens of a block that are left to closers. More where units are too large to fit."""

_SMALLEST = 14  # tokens that a closer has at least
_LARGEST = 40
_ENOUGH = 60  # a gap that needs no more units


@dataclass(frozen=True, slots=True)
class Seat:
    """An item as it will stand there: its piece, and what is in it before the answer-bearing line."""

    item: Item
    piece: Piece
    before_line: int
    """In tokens."""
    chars_before: int


def planted_tokens(ground: "Ground") -> int:
    """Tokens of all that is planted."""
    return _total([ground.target, *ground.rivals])


class NoRoom(Exception):
    """The target cannot stand at that depth in a block of that length."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all trials of a block share."""

    names: Names
    files: list[File]
    loose: bool
    target: Seat
    rivals: list[Seat]
    """In the order in which they stand, whatever the target's place among them."""
    needs_imports: bool = False
    """Whether what is planted would be wrong in a file that imports nothing."""


def lay_out(ground: Ground, length: int, depth: float, dice: Dice, names: Names) -> list[Piece | Seat]:
    """The pieces of a code block of `length` tokens with the target's line at `depth`, in order.

    Raises NoRoom where that cannot be.
    """
    stream = deal(ground.files, ground.loose, dice) or [header(module_path(names))]
    before = round(depth * length) - ground.target.before_line
    after = length - before - ground.target.piece.tokens
    early = _rivals_before(ground, before - stream[0].tokens, after, depth)
    if early is None and not ground.needs_imports:
        # Room for a line with a path, if for nothing else.
        stream[0] = header(module_path(names), bare=True)
        early = _rivals_before(ground, before - stream[0].tokens, after, depth)
    if early is None:
        raise NoRoom
    first, second = ground.rivals[:early], ground.rivals[early:]
    filler, left = _take(stream, before - _total(first))
    part = length / (len(ground.rivals) + 1)
    wanted = [round((number + dice.random()) * part) for number in range(early)]
    head = _region(filler, list(zip(wanted, first, strict=True)), before, dice, names)
    filler, _ = _take(left, after - _total(second))
    start = before + ground.target.piece.tokens
    wanted = [round((early + 1 + number + dice.random()) * part) - start for number in range(len(second))]
    tail = _region(filler, list(zip(wanted, second, strict=True)), after, dice, names)
    return [*head, ground.target, *tail]


def _total(seats: list[Seat]) -> int:
    return sum(seat.piece.tokens for seat in seats)


def _rivals_before(ground: Ground, before: int, after: int, depth: float) -> int | None:
    """How many rivals stand before the target: their share, or the nearest number for which there is room."""
    sizes = [seat.piece.tokens for seat in ground.rivals]
    wanted = int(depth * (len(sizes) + 1))
    for early in sorted(range(len(sizes) + 1), key=lambda number: (abs(number - wanted), number)):
        if _closable(before - sum(sizes[:early])) and _closable(after - sum(sizes[early:])):
            return early
    return None


def _closable(gap: int) -> bool:
    """Whether constants can make up for so many tokens, but for two."""
    return gap >= _SMALLEST or -2 <= gap <= 2


def _take(stream: list[Piece], budget: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces from the stream, in order, that fit into the budget and leave a gap that can be closed; and the rest.

    A header is taken with the first unit that follows it and fits; the first piece, if it is one, in any case.
    """
    taken: list[Piece] = []
    skipped: list[Piece] = []
    waiting: Piece | None = None
    for place, one in enumerate(stream):
        if one.opens:
            if place:
                waiting = one
            else:
                taken.append(one)
                budget -= one.tokens
            continue
        cost = one.tokens + (waiting.tokens if waiting else 0)
        if not _closable(budget - cost):
            skipped.append(one)
        else:
            taken += [waiting, one] if waiting else [one]
            waiting = None
            budget -= cost
        if budget < _ENOUGH:
            return taken, [*skipped, *([waiting] if waiting else []), *stream[place + 1 :]]
    return taken, skipped


def _region(
    filler: list[Piece], rivals: list[tuple[int, Seat]], budget: int, dice: Dice, names: Names
) -> list[Piece | Seat]:
    """Filler, closers for what it lacks, and rivals, each where its line is nearest to where it is wanted."""
    gap = budget - sum(one.tokens for one in filler) - _total([seat for _, seat in rivals])
    pieces = list(filler)
    opens = bool(pieces) and pieces[0].opens
    for one in _closers(gap, dice, names):
        # The head of the first file is first, whatever else comes.
        pieces.insert(opens + dice.below(len(pieces) + 1 - opens), one)
    laid: list[Piece | Seat] = []
    at = 0
    waiting = list(rivals)
    for number, one in enumerate(pieces):
        while waiting and (number or not opens) and waiting[0][0] - waiting[0][1].before_line < at + one.tokens / 2:
            seat = waiting.pop(0)[1]
            laid.append(seat)
            at += seat.piece.tokens
        laid.append(one)
        at += one.tokens
    return [*laid, *(seat for _, seat in waiting)]


def _closers(gap: int, dice: Dice, names: Names) -> list[Piece]:
    """Constants, and functions where the gap is large, of `gap` tokens together."""
    made: list[Piece] = []
    while gap > RESERVE:
        one = piece(settings(names))
        made.append(one)
        gap -= one.tokens
    while gap >= _SMALLEST:
        size = gap if gap <= _LARGEST else dice.between(_SMALLEST, min(_LARGEST, gap - _SMALLEST))
        one = closer(names, size)
        made.append(one)
        gap -= one.tokens
    return made
