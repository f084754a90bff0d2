"""Where filler comes from: one shape for all sources, and the default one, code generated from seeds.

Generated code is made from the families that needles are made of too, there is as much of it as a prompt can take,
nobody has seen it before, and it is the same on every machine. Filler is never run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Protocol

from latbench.needle import families, words
from latbench.needle.counting import Piece, piece
from latbench.needle.dice import Dice
from latbench.needle.families import FAMILIES
from latbench.needle.style import Names, Style, drawn_style, in_style, pattern, remark
from latbench.needle.words import NOUNS, QUALITIES

VERSION = 1
"""Of the generator. Any change of a generated prompt is a new version: recipes of another one are not rebuilt."""

PATH_MARK = "# path: "


@dataclass(frozen=True, slots=True)
class File:
    """A file of filler: the line with its path and what may stand before the first unit, and its units in order."""

    header: Piece
    units: tuple[Piece, ...]


class Haystack(Protocol):
    """A source of filler.

    `loose` says whether units mean nothing by their order and may be shuffled across files. `sha256` tells apart what
    must not be pooled.
    """

    @property
    def source(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def loose(self) -> bool: ...

    def style(self, dice: Dice) -> Style:
        """How the code of a block is written."""
        ...

    def filler(self, names: Names, budget: int, usable: Callable[[str], bool], avoid: str) -> list[File]:
        """Files of at most `budget` tokens together, and nearly that, with no unit twice.

        Units that are not `usable` are left out, and functions of the family `avoid` are not made. Raises UserError
        where the source is too small.
        """
        ...


def deal(files: list[File], loose: bool, dice: Dice) -> list[Piece]:
    """The files in random order as one stream of pieces."""
    files = dice.shuffled(files)
    units = [unit for file in files for unit in file.units]
    if loose:
        units = dice.shuffled(units)
    stream: list[Piece] = []
    given = iter(units)
    for file in files:
        stream += [file.header, *(next(given) for _ in file.units)]
    return stream


class Generated:
    """Code from seeds, with comments or without."""

    source = "generated"
    loose = True

    def __init__(self, *, strip_comments: bool = False) -> None:
        self._strip_comments = strip_comments

    @property
    def sha256(self) -> str:
        """Of everything that generated code is made of: the templates, the words, the version of the generator."""
        return _generator_sha256()

    def style(self, dice: Dice) -> Style:
        """Any of a few usual ones."""
        style = drawn_style(dice)
        return replace(style, comments=0) if self._strip_comments else style

    def filler(self, names: Names, budget: int, usable: Callable[[str], bool], avoid: str) -> list[File]:
        """As much as is asked for."""
        made: list[File] = []
        earlier: list[str] = []
        smallest = 60
        while budget > smallest:
            head = header(module_path(names))
            budget -= head.tokens
            units: list[Piece] = []
            for _ in range(names.dice.between(5, 9)):
                one = piece(unit(names, earlier, avoid))
                if one.tokens > budget:
                    budget = min(budget, smallest)
                    break
                if usable(one.text):
                    units.append(one)
                    budget -= one.tokens
            if units:
                made.append(File(head, tuple(units)))
        return made


@cache
def _generator_sha256() -> str:
    parts = [str(VERSION), repr(words.VERBS), repr(words.NOUNS), repr(words.QUALITIES), repr(words.ROLES)]
    parts += [repr((family.name, family.text, family.slots)) for family in families.FAMILIES]
    return sha256("\n".join(parts).encode()).hexdigest()


def module_path(names: Names) -> str:
    """A path that no other file of the block has."""
    while True:
        dice = names.dice
        path = f"{dice.pick(NOUNS)}/{dice.pick(QUALITIES)}_{dice.pick(NOUNS)}.py"
        if names.take(path):
            return path


def header(path: str, *, bare: bool = False) -> Piece:
    """What opens a file: the line with its path and, unless it is `bare`, imports of all that generated code uses."""
    return piece(f"{PATH_MARK}{path}\n{'' if bare else _IMPORTS}\n\n", opens=True)


_IMPORTS = "import asyncio\nfrom contextlib import closing, nullcontext\nfrom io import StringIO\n"


_CLASS = """\
class {f}:
    def __init__(self, {p:int}, {q:int}) -> None:
        self.{t} = {p}
        self.{s} = {q}

    def {method}(self, {seq:list[int]}) -> int:
        {acc} = self.{t}
        for {x} in {seq}:
            {acc} SIGN= {x} * self.{s}
        return {acc}
"""
_CALLING = """\
def {f}({seq:list[int]}, {lim:int}) -> list[int]:
    {t} = {first}({seq}, {lim})
    return [{t}, {second}({seq}, {lim} SIGN NUM)]
"""
_LITERAL = """\
def {f}({seq:list[str]}, {lim:int}) -> str:
    if len({seq}) > {lim}:
        return {seq}[{lim}]
    return "{stem}-NUM"
"""
_SUMMING = "def {f}({one:int}, {two:int}, {three:int}) -> int:\n    return {one} * NUM + {two} SIGN {three}\n"


def unit(names: Names, earlier: list[str], avoid: str) -> str:
    """A piece of filler: mostly functions of the families. `earlier` are functions of the block, to be called."""
    dice = names.dice
    draw = dice.random()
    if draw < 0.08:
        return settings(names)
    if draw < 0.16:
        return _filled(_CLASS, names, names.type_name(), method=names.function())
    name = names.function()
    earlier.append(name)
    if draw < 0.23:
        return _filled(_LITERAL, names, name, stem=f"{dice.pick(QUALITIES)}-{dice.pick(NOUNS)}")
    if draw < 0.3:
        first = dice.below(len(NOUNS) - 2)
        one, two, three = NOUNS[first : first + 3]
        return _filled(_SUMMING, names, name, one=one, two=two, three=three)
    if draw < 0.38:
        return _filled(_CALLING, names, name, first=dice.pick(earlier), second=dice.pick(earlier))
    family = dice.pick(FAMILIES)
    while family.name == avoid:
        family = dice.pick(FAMILIES)
    picks = tuple(dice.below(len(slot.codes)) for slot in family.slots.values())
    return names.filled(pattern(family, picks, names.style), name) + "\n\n"


def _filled(template: str, names: Names, name: str, **extra: str) -> str:
    dice = names.dice
    text = names.filled(in_style(template, names.style), name, **extra)
    return text.replace("SIGN", dice.pick("+-")).replace("NUM", str(dice.between(2, 9999))) + "\n\n"


def settings(names: Names) -> str:
    """A few constants, as in a file of settings."""
    dice = names.dice
    opening = f"# {remark(dice)}\n" if dice.random() < names.style.comments else ""
    lines = [f"{names.constant()} = {dice.between(2, 9999)}\n" for _ in range(dice.between(2, 5))]
    return f"{opening}{''.join(lines)}\n\n"


def closer(names: Names, gap: int) -> Piece:
    """One constant that is as near to `gap` tokens as a constant can be, for gaps from 12 to 40."""
    dice, quote = names.dice, names.style.quote
    opening = f"{names.constant()} = {quote}"
    base = piece(f"{opening}{dice.pick(NOUNS)}{quote}\n\n\n")
    best = base
    count = max(1, gap - base.tokens + 1)
    for _ in range(4):
        # Most of these words are one token, some are two.
        content = " ".join(dice.pick(NOUNS) for _ in range(count))
        one = piece(f"{opening}{content}{quote}\n\n\n")
        if abs(one.tokens - gap) < abs(best.tokens - gap):
            best = one
        if best.tokens == gap:
            break
        count = max(1, count + gap - one.tokens)
    return best
