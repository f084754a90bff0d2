"""How code is written, and names in that style: everything that a reader could smell a needle by.

A style holds for a whole block, so that needles, decoys and generated filler are written alike. For harvested filler it
is inferred from the code itself (`latbench/needle/harvest.py:style_of`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from latbench.needle.dice import Dice
from latbench.needle.families import Family
from latbench.needle.words import NOUNS, QUALITIES, ROLES, VERBS

_NAME = re.compile(r"\{(\w+)(?::([^}]+))?\}(=?)")
_FILLED = re.compile(r"%\((\w+)\)s")
_SLOT = re.compile(r"\[\[(\w+)\]\]")
_RESULT = re.compile(r"\) -> [^:\n]+:$")


@dataclass(frozen=True, slots=True)
class Style:
    """Indentation, quotes, annotations, naming, and how often a function has a docstring or a comment."""

    indent: str = "    "
    quote: str = '"'
    annotated: bool = True
    camel: bool = False
    docstrings: float = 0.5
    comments: float = 0.3


def drawn_style(dice: Dice) -> Style:
    """A style for a block of generated code."""
    return Style(
        indent=dice.pick(("    ", "    ", "    ", "  ")),
        quote=dice.pick(('"', '"', "'")),
        annotated=dice.chance(0.5),
        camel=dice.chance(0.2),
        docstrings=dice.pick((0.0, 0.3, 0.6)),
        comments=dice.pick((0.0, 0.2, 0.4)),
    )


class Names:
    """Makes names that were never made before in this block, all by the same rule."""

    def __init__(self, dice: Dice, style: Style, taken: set[str]) -> None:
        """`taken` is what must not be made again; it grows."""
        self.dice, self.style, self.taken = dice, style, taken

    def function(self) -> str:
        """A name for a function, as in `pack_amber_crate`."""
        while True:
            pick = self.dice.pick
            name = self.joined((pick(VERBS), pick(QUALITIES), pick(NOUNS)))
            if self.take(name):
                return name

    def constant(self) -> str:
        """A name for a constant, as in `AMBER_CRATE_QUOTA`."""
        while True:
            pick = self.dice.pick
            name = f"{pick(QUALITIES)}_{pick(NOUNS)}_{pick(NOUNS)}".upper()
            if self.take(name):
                return name

    def type_name(self) -> str:
        """A name for a class, as in `AmberCrate`."""
        while True:
            pick = self.dice.pick
            name = f"{pick(QUALITIES)}_{pick(NOUNS)}_{pick(NOUNS)}".title().replace("_", "")
            if self.take(name):
                return name

    def near(self, name: str) -> str:
        """Another name for a function or a constant that differs from `name` in one word."""
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
        pools = (QUALITIES, NOUNS, NOUNS) if name.isupper() else (VERBS, QUALITIES, NOUNS)
        while True:
            place = self.dice.below(3)
            changed = [word.lower() for word in words]
            changed[place] = self.dice.pick(pools[place])
            other = "_".join(changed).upper() if name.isupper() else self.joined(tuple(changed))
            if self.take(other):
                return other

    def take(self, name: str) -> bool:
        """Whether the name was still free; it is not any longer."""
        if name in self.taken:
            return False
        self.taken.add(name)
        return True

    def joined(self, words: tuple[str, ...]) -> str:
        """Words as a name of a function or variable."""
        if self.style.camel:
            return words[0] + "".join(word.capitalize() for word in words[1:])
        return "_".join(words)

    def filled(self, template: str, name: str, **words: str) -> str:
        """A template in style with a name for each of its roles, the function's, and what that says about itself."""
        pick = self.dice.pick
        chosen = {role: pick(pool) for role, pool in _roles_of(template) if role not in words}
        if "doc" not in words:
            chosen["doc"] = about(self)
        return template % {**chosen, **words, "f": name}


@lru_cache(maxsize=8192)
def _roles_of(template: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The roles that a template has, with the names for each, in the order in which they first occur."""
    return tuple((role, ROLES[role]) for role in dict.fromkeys(_FILLED.findall(template)) if role in ROLES)


def indented(text: str, indent: str) -> str:
    """Text with four spaces a level, in other indentation."""
    if indent == "    ":
        return text
    return re.sub(r"^(?:    )+", lambda found: indent * (len(found[0]) // 4), text, flags=re.MULTILINE)


def in_style(text: str, style: Style) -> str:
    """A template without slots, written in this style. Its names stay as they are: `%(role)s`, ready to be filled in.

    Templates have four spaces a level, double quotes, annotations. `%(doc)s` after the first line is what a function
    says about itself: nothing, or whole lines.
    """
    return _written(text, style.indent, style.quote, style.annotated)


@lru_cache(maxsize=8192)
def _written(text: str, indent: str, quote: str, annotated: bool) -> str:
    lines = text.replace("%", "%%").splitlines()
    if not annotated:
        lines = [_RESULT.sub("):", line) for line in lines]
    text = indented("\n".join(lines) + "\n", indent).replace("\n", "\n{doc}", 1)

    def name(found: re.Match[str]) -> str:
        if not (found[2] and annotated):
            return f"%({found[1]})s{found[3]}"
        return f"%({found[1]})s: {found[2]}{' = ' if found[3] else ''}"

    return _NAME.sub(name, text.replace('"', quote))


@lru_cache(maxsize=8192)
def variant_text(family: Family, picks: tuple[int, ...]) -> str:
    """The family's template with one alternative in each slot."""
    chosen = {slot: family.slots[slot].codes[pick] for slot, pick in zip(family.slots, picks, strict=True)}
    return _SLOT.sub(lambda found: chosen[found[1]], family.text)


def pattern(family: Family, picks: tuple[int, ...], style: Style) -> str:
    """A variant in a style, to be filled in by `Names.filled`."""
    return in_style(variant_text(family, picks), style)


def slot_line(family: Family, slot: str) -> int:
    """The line of a template, from 0, that has this slot."""
    before, _, _ = family.text.partition(f"[[{slot}]]")
    return before.count("\n")


def about(names: Names) -> str:
    """What a function says about itself: nothing that helps, and as often in needles as in filler."""
    dice, style = names.dice, names.style
    text = ""
    if dice.random() < style.docstrings:
        text = f'{style.indent}"""{remark(dice)}"""\n'
    if dice.random() < style.comments:
        text += f"{style.indent}# {remark(dice)}\n"
    return text


def remark(dice: Dice) -> str:
    """A sentence that says nothing about what a function does."""
    opening = dice.pick(("Part of", "Serves", "Called by", "Kept for", "Belongs with", "Used in"))
    return f"{opening} the {dice.pick(QUALITIES)} {dice.pick(NOUNS)} {dice.pick(NOUNS)}."
