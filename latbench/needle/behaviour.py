"""Rungs 3 and 4: what a function does, and whether it does what its example says.

Both plant variants of one family of functions, or of a few, and draw the target from them, so that every rival could
have been it. That a description fits one of them only, and that a bug is a bug, is made sure by running them.

How a bug is made: each specimen is a pair of variants that differ in one slot, with examples that tell the two apart.
Its docstring shows what the first one gives. A sound specimen has the body of the first, the buggy one that of the
second. Both are drawn alike, so that neither the body nor the docstring by itself says anything.
"""

import re
from itertools import product

from latbench.needle.dice import Dice
from latbench.needle.families import FAMILIES, Family
from latbench.needle.planting import DECOY, TARGET, Item, Planting
from latbench.needle.sandbox import calls_of, results, sound
from latbench.needle.style import Names, Style, pattern, remark, slot_line
from latbench.needle.words import ROLES, listed

VARIANTS = 9  # three alternatives of two slots: each differs in one behaviour from four others
SPECIMENS = 12
_PER_FAMILY = 3
_EXAMPLES = 2
_PROBES = 8
_ATTEMPTS = 40
_LETTERS = "bcdfghjkmnprstvw"
_PLAIN = Style(docstrings=0, comments=0)
_PLAIN_NAMES = {**{role: role for role in ROLES}, "f": "f", "doc": ""}
_DESCRIBED = tuple(family for family in FAMILIES if family.describe)
_SITES: dict[str, list[tuple[Family, str]]] = {}
for _family in FAMILIES:
    for _name, _slot in _family.slots.items():
        if _slot.mutation:
            _SITES.setdefault(_slot.mutation, []).append((_family, _name))
_EXAMPLE = re.compile(r"^\s*>>> (.+)\n\s*(.+)$", re.MULTILINE)

Picks = tuple[int, ...]


class Unsound(Exception):
    """A planting that is not what it must be. It is drawn again, and never sent."""


def argument(dice: Dice, kind: str) -> str:
    """The source of an argument of that kind."""
    if kind == "ints":
        return repr([dice.between(-4, 12) for _ in range(dice.between(4, 6))])
    if kind == "pairs":
        letters = dice.sample(_LETTERS, 3)
        return repr([(dice.pick(letters), dice.between(-5, 12)) for _ in range(dice.between(4, 5))])
    if kind == "word":
        return repr("".join(dice.pick(_LETTERS) for _ in range(dice.between(5, 7))))
    if kind == "letter":
        return repr(dice.pick(_LETTERS[4:12]))
    if kind == "stream":
        return f"StringIO({''.join(dice.pick(_LETTERS) for _ in range(8))!r})"
    low, high = {"small": (2, 9), "digit": (3, 6), "large": (100, 9999)}[kind]
    return str(dice.between(low, high))


def call(family: Family, dice: Dice) -> str:
    """The source of a call, with `{f}` for the function."""
    arguments = [argument(dice, kind) for kind in family.takes]
    shape = family.call or f"{{f}}({', '.join(f'{{{number}}}' for number in range(len(arguments)))})"
    return shape.format(*arguments, f="{f}")


def shown(family: Family, picks: Picks, calls: list[str]) -> list[str]:
    """What a variant gives for each call."""
    return results(pattern(family, picks, _PLAIN) % _PLAIN_NAMES, calls_of([one.format(f="f") for one in calls]))


def description(names: Names, dice: Dice, present: bool) -> Planting:
    """The function that does what is described, among variants that differ from it in one behaviour or two."""
    for _ in range(_ATTEMPTS):
        family = dice.pick(_DESCRIBED)
        picks = _grid(family, dice)
        calls = [call(family, dice) for _ in range(_PROBES)]
        if len({tuple(shown(family, variant, calls)) for variant in picks}) < len(picks):
            continue
        target, spare, *rest = picks
        phrases = {slot: family.slots[slot].phrases[pick] for slot, pick in zip(family.slots, target, strict=True)}
        question = f"Which function {family.describe.format(**phrases)}?"
        items = [_variant(family, target if present else spare, TARGET if present else DECOY, names)]
        items += [_variant(family, variant, DECOY, names) for variant in rest]
        if not shared_words(question, "".join(item.text for item in items)):
            unique = frozenset(item.name for item in items)
            return Planting(tuple(items), question, chance=1 / VARIANTS, unique=unique, avoid=family.name)
    raise Unsound("no family gave nine different behaviours")


def _grid(family: Family, dice: Dice) -> list[Picks]:
    """Nine variants, three alternatives of each of two slots, shuffled; the second is none of them."""
    sizes = {slot: len(alternatives.codes) for slot, alternatives in family.slots.items()}
    varied = dice.sample([slot for slot, size in sizes.items() if size >= 3], 2)
    fixed = {slot: dice.below(size) for slot, size in sizes.items()}
    chosen = {slot: dice.sample(range(sizes[slot]), 3) if slot in varied else [fixed[slot]] for slot in sizes}
    grid = dice.shuffled(list(product(*chosen.values())))
    every = [picks for picks in product(*(range(size) for size in sizes.values())) if picks not in grid]
    return [grid[0], dice.pick(every), *grid[1:]]


def _variant(family: Family, picks: Picks, role: str, names: Names) -> Item:
    name = names.function()
    return Item(role, name, names.filled(pattern(family, picks, names.style), name) + "\n\n")


def shared_words(question: str, code: str) -> set[str]:
    """Words of a question that the code has as well, identifiers split; stop words and keywords of Python aside."""
    return (_words(question) & _words(code)) - _STOP_WORDS


def _words(text: str) -> set[str]:
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)
    return {part.lower() for part in parts if len(part) > 1}


_STOP_WORDS = frozenset(
    listed(
        """
        a ahead all along among and any as at be by each else for from goes has if in into is it its no not of
        on one or other so such than that the them then there these they this those times to up what which while
        with without
        """
    )
)


def bug(names: Names, dice: Dice, present: bool) -> Planting:
    """The function whose body contradicts its example, among functions whose bodies do not."""
    # Every specimen has a place where it might have been mutated, drawn alike for all; the first one is.
    labels = dice.sample(tuple(_SITES), SPECIMENS // _PER_FAMILY)
    order = dice.shuffled([label for label in labels for _ in range(_PER_FAMILY)])
    items = [_specimen(*dice.pick(_SITES[label]), names, dice, present and not at) for at, label in enumerate(order)]
    failing = [item.role for item in items if contradicts(item.text)]
    if failing != [TARGET] * present:
        raise Unsound(f"{len(failing)} specimens contradict their examples")
    return Planting(
        tuple(items),
        "Which function contradicts an example in its own docstring, and which of its lines is wrong?",
        chance=1 / SPECIMENS,
        mutation=order[0] if present else "",
        unique=frozenset(item.name for item in items),
    )


def _specimen(family: Family, slot: str, names: Names, dice: Dice, buggy: bool) -> Item:
    right, wrong, calls = _told_apart(family, slot, dice)
    name, indent = names.function(), names.style.indent
    lines = [f'{indent}"""{remark(dice)}', ""]
    for one, result in zip(calls, shown(family, right, calls), strict=True):
        lines += [f"{indent}>>> {one.format(f=name)}", indent + result]
    lines.append(f'{indent}"""')
    body = pattern(family, wrong if buggy else right, names.style)
    text = names.filled(body, name, doc="\n".join(lines) + "\n")
    at = slot_line(family, slot)
    return Item(TARGET if buggy else DECOY, name, text + "\n\n", at + len(lines) if at else 0)


def _told_apart(family: Family, slot: str, dice: Dice) -> tuple[Picks, Picks, list[str]]:
    """Two variants that differ in this slot alone, and examples of the first that the second does not satisfy."""
    place = list(family.slots).index(slot)
    for _ in range(_ATTEMPTS):
        right = tuple(dice.below(len(one.codes)) for one in family.slots.values())
        if right[place] ^ 1 >= len(family.slots[slot].codes):
            continue  # the odd one of its slot, in no pair
        wrong = (*right[:place], right[place] ^ 1, *right[place + 1 :])
        calls = telling_calls(family, right, wrong, dice)
        if calls:
            return right, wrong, calls
    raise Unsound(f"no example tells the variants of {family.name} apart")


def telling_calls(family: Family, right: Picks, wrong: Picks, dice: Dice) -> list[str] | None:
    """Calls for which the right variant gives plain values, and the wrong one something else at least once.

    None where a few draws have none: the mutation may be equivalent, and is not used.
    """
    for _ in range(_ATTEMPTS // 4):
        calls = [call(family, dice) for _ in range(_EXAMPLES)]
        expected = shown(family, right, calls)
        if sound(expected) and expected != shown(family, wrong, calls):
            return calls
    return None


def contradicts(text: str) -> bool:
    """Whether a specimen, as it is printed, contradicts an example in its docstring. Runs it: for our own code only."""
    examples = _EXAMPLE.findall(text)
    given = results(text, calls_of([one for one, _ in examples]))
    return given != [result for _, result in examples]
