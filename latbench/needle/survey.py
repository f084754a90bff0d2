"""What stands where in a code block that has been laid out."""

import re

from latbench.needle.assemble import Seat
from latbench.needle.counting import Piece
from latbench.needle.haystack import PATH_MARK
from latbench.needle.trial import FileStart, Planted

_HEAD = re.compile(rf"^{PATH_MARK}(.+)$", re.MULTILINE)


class Survey:
    """Goes through the pieces once.

    `target_at` is where the answer-bearing line begins, in characters. `found` has every item by name, as it is to be
    graded. `units` counts pieces of filler.
    """

    def __init__(self, laid: list[Piece | Seat], target: Seat) -> None:
        pieces = [one.piece if isinstance(one, Seat) else one for one in laid]
        self.code = "".join(one.text for one in pieces)
        self.files: list[FileStart] = []
        self.found: dict[str, Planted] = {}
        self.units = 0
        self.target_at = 0
        whole = sum(one.tokens for one in pieces)
        tokens = chars = lines = 0
        for one, block in zip(laid, pieces, strict=True):
            if block.opens:
                heads = _HEAD.finditer(block.text)
                self.files += [
                    FileStart(head[1], lines + 1 + block.text.count("\n", 0, head.start())) for head in heads
                ]
            if isinstance(one, Seat):
                self._place(one, (tokens + one.before_line) / whole, lines)
                if one is target:
                    self.target_at = chars + one.chars_before
            elif not block.opens:
                self.units += 1
            tokens += block.tokens
            chars += len(block.text)
            lines += block.text.count("\n")

    def _place(self, seat: Seat, depth: float, lines: int) -> None:
        """Notes an item that begins after so many lines. One with a file of its own is in the one it opens."""
        number = lines + 1 + seat.piece.text.count("\n", 0, seat.chars_before)
        path = max((file for file in self.files if file.line_number <= number), key=lambda file: file.line_number).path
        line = seat.piece.text[seat.chars_before :].partition("\n")[0]
        item = seat.item
        self.found[item.name] = Planted(item.name, path, qualifiers(path), line, number, depth, item.value)


def qualifiers(path: str) -> tuple[str, ...]:
    """What may truly stand before a name and a dot: the module, and the module with its packages."""
    parts = path.removesuffix(".py").removesuffix("/__init__").split("/")
    return tuple(dict.fromkeys((parts[-1], ".".join(parts))))
