"""Rungs 5, 6 and 7: what has to be worked out from the code, and stands nowhere in it.

The answers of rungs 5 and 6 come from running our own templates, and are numbers that the prompt does not contain.
"""

from collections.abc import Sequence

from latbench.needle.behaviour import Unsound
from latbench.needle.dice import Dice
from latbench.needle.planting import DECOY, PART, TARGET, Item, Planting
from latbench.needle.sandbox import calls_of, results
from latbench.needle.style import Names, in_style

HOPS = 4
CHAINS = 4
CALLERS = 8
_EXECUTED = 5
_ATTEMPTS = 40

_STEPS = (
    "{s} = {s} * K + {q}",
    "{t} = {s} % L - {q} * K",
    "{s} = {s} + {t} * K if {t} > K else {s} - {p}",
    "{t} = ({t} + {s}) // K + L",
    "{s} = {s} ^ ({t} + L)",
    "{t} = {t} * K - {s} % L",
)


def execution(names: Names, dice: Dice, present: bool) -> Planting:
    """What a function with unpredictable steps returns, among functions of nearly that name with other numbers."""
    del present  # there is always an answer
    for _ in range(_ATTEMPTS):
        asked = names.function()
        steps = dice.sample(_STEPS, 4)
        arguments = f"{dice.between(3, 19)}, {dice.between(3, 19)}"
        items = []
        for number in range(_EXECUTED):
            name = asked if number == 0 else names.near(asked)
            text = _stepped(names, dice, name, steps)
            value = int(results(text, calls_of([f"{name}({arguments})"]))[0])
            items.append(Item(DECOY if number else TARGET, name, text + "\n\n", _first_step(text), value))
        values = [str(item.value) for item in items]
        written = "".join(item.text for item in items)
        if len(set(values)) == len(values) and abs(int(values[0])) > 99 and values[0].lstrip("-") not in written:
            unique = frozenset([*(item.name for item in items), values[0].lstrip("-")])
            return Planting(tuple(items), f"What does {asked}({arguments}) return?", (asked,), unique=unique)
    raise Unsound("no function with results that differ")


def _stepped(names: Names, dice: Dice, name: str, steps: Sequence[str]) -> str:
    lines = ["def {f}({p:int}, {q:int}) -> int:", "    {s} = {p} * K", "    {t} = {q} + L"]
    lines += [f"    {step}" for step in steps]
    lines.append("    return {s} * K - {t}")
    text = in_style("\n".join(lines) + "\n", names.style)
    while "K" in text:
        text = text.replace("K", str(dice.between(2, 9)), 1)
    while "L" in text:
        text = text.replace("L", str(dice.between(11, 97)), 1)
    return names.filled(text, name)


def _first_step(text: str) -> int:
    """The line of the first step: the first with an assignment."""
    return next(number for number, line in enumerate(text.splitlines()) if number and " = " in line)


_ROOT = "def {f}() -> int:\n    {s} = K\n    return {s}\n"
_HOPS = (
    "def {f}({q:int}=L) -> int:\n    return {g}() + {q}\n",
    "def {f}() -> int:\n    {t} = {g}() * M\n    return {t} - L\n",
    "def {f}({p:int}=L) -> int:\n    {t} = {g}() + {p}\n    {t} = {g}() * M - {p}\n    return {t}\n",
)


def chain(names: Names, dice: Dice, present: bool) -> Planting:
    """The value at the end of a chain of functions in random places, beside chains just like it."""
    del present  # there is always an answer
    for _ in range(_ATTEMPTS):
        order = dice.shuffled(_HOPS)
        chains = [_links(names, dice, order) for _ in range(CHAINS)]
        values = [_value(links) for links in chains]
        written = "".join(text for links in chains for _, text in links)
        if len(set(values)) == CHAINS and str(values[0]) not in written:
            break
    else:
        raise Unsound("no chain with a value that is not written down")
    (root, text), *hops = chains[0]
    # The target is called what was asked for, and stands where the number is that everything comes from.
    items = [Item(TARGET, root, text, _first_step(text), values[0])]
    items += [Item(PART, name, text) for name, text in hops]
    for links, value in zip(chains[1:], values[1:], strict=True):
        items += [Item(PART, name, text) for name, text in links[:-1]]
        items.append(Item(DECOY, *links[-1], value=value))
    asked = hops[-1][0]
    unique = frozenset([*(item.name for item in items), str(values[0])])
    return Planting(tuple(items), f"What does {asked}() return?", (asked,), unique=unique)


def _links(names: Names, dice: Dice, hops: Sequence[str]) -> list[tuple[str, str]]:
    """The functions of a chain, each with its text, the one with the number first."""
    links: list[tuple[str, str]] = []
    for template in (_ROOT, *hops):
        name = names.function()
        text = in_style(template, names.style)
        text = text.replace("K", str(dice.between(100, 999))).replace("L", str(dice.between(11, 97)))
        text = text.replace("M", str(dice.between(3, 9)))
        links.append((name, names.filled(text, name, g=links[-1][0] if links else "") + "\n\n"))
    return links


def _value(links: Sequence[tuple[str, str]]) -> int:
    return int(results("".join(text for _, text in links), calls_of([f"{links[-1][0]}()"]))[0])


_CALLEE = """\
def {f}({num:int}, {s:int}) -> int:
    return {num} * K + {s} % L
"""
# Which comes first in a caller says nothing: half of them work out the second argument first.
_CALLER = """\
def {f}({h}, {s:int}) -> int:
    {p} = {h}.ONE OP {s}
    {q} = {h}.OTHER OP {s}
    return {g}(ARGUMENTS)
"""


def contract(names: Names, dice: Dice, present: bool) -> Planting:
    """The caller that gives a function its arguments the wrong way round, or in the wrong unit."""
    callee = names.function()
    callers = [names.function() for _ in range(CALLERS)]
    make = dice.pick((_swapped_callers, _unit_callers))
    declaration, texts = make(names, dice, callee, callers, present)
    items = [
        Item(DECOY if number or not present else TARGET, name, text, _call_line(text, callee))
        for number, (name, text) in enumerate(zip(callers, texts, strict=True))
    ]
    items.append(Item(PART, callee, declaration, own_file=True))
    return Planting(
        tuple(items),
        f"Which function calls {callee} against what {callee} says about its arguments?",
        (callee,),
        chance=1 / CALLERS,
        mutation="argument order" if make is _swapped_callers else "unit",
        unique=frozenset(callers),
    )


def _call_line(text: str, callee: str) -> int:
    return next(number for number, line in enumerate(text.splitlines()) if f"{callee}(" in line)


def _declared(names: Names, dice: Dice, callee: str, doc: str) -> str:
    text = in_style(_CALLEE, names.style)
    text = text.replace("K", str(dice.between(3, 9))).replace("L", str(dice.between(11, 97)))
    return names.filled(text, callee, doc=doc) + "\n\n"


def _swapped_callers(
    names: Names, dice: Dice, callee: str, callers: Sequence[str], present: bool
) -> tuple[str, list[str]]:
    first, second = dice.sample(("mass", "reach", "depth", "heat", "speed", "price"), 2)
    indent = names.style.indent
    doc = f'{indent}"""Takes the {first} of a thing, then its {second}."""\n'
    declaration = _declared(names, dice, callee, doc)
    # A coin for each, so that neither the order of the lines nor that of the arguments says who is the broken one.
    early = [dice.chance(0.5) for _ in callers]
    texts = []
    for number, name in enumerate(callers):
        one, other, arguments = (first, second, "{p}, {q}") if early[number] else (second, first, "{q}, {p}")
        if present and number == 0:
            arguments = "{q}, {p}" if arguments == "{p}, {q}" else "{p}, {q}"
        template = _CALLER.replace("ONE", one).replace("OTHER", other).replace("ARGUMENTS", arguments)
        text = in_style(template.replace("OP", dice.pick("+-*")), names.style)
        texts.append(names.filled(text, name, g=callee) + "\n\n")
    return declaration, texts


_UNIT_CALLER = """\
def {f}({h}, {s:int}) -> int:
    {t} = {h}.FIELD
    return {g}({t}CONVERTED, {s})
"""
_UNITS = (("seconds", " * 1000"), ("micros", " // 1000"), ("millis", ""))


def _unit_callers(
    names: Names, dice: Dice, callee: str, callers: Sequence[str], present: bool
) -> tuple[str, list[str]]:
    doc = f'{names.style.indent}"""Takes a time in thousandths of a second, then a step."""\n'
    declaration = _declared(names, dice, callee, doc)
    texts = []
    units = [dice.pick(_UNITS) for _ in callers]
    for number, name in enumerate(callers):
        field, converted = units[number]
        if present and number == 0:
            converted = dice.pick([other for _, other in _UNITS if other != converted])
        template = _UNIT_CALLER.replace("FIELD", field).replace("CONVERTED", converted)
        text = in_style(template, names.style)
        texts.append(names.filled(text, name, g=callee) + "\n\n")
    return declaration, texts
