"""Rungs 0, 1, 2 and 8: what is asked for stands there literally. A ceiling control, not a result."""

from latbench.needle.dice import Dice
from latbench.needle.planting import DECOY, TARGET, Item, Planting
from latbench.needle.style import Names, in_style
from latbench.needle.words import NOUNS, QUALITIES

DECOYS = 5
MULTI_TARGETS = 5

_SIGNATURE = "def {f}(PARAMETERS):\n    return {BODY}\n"
_FACT = """def {f}({seq:list[str]}, {lim:int}) -> str:
    if len({seq}) > {lim}:
        return {seq}[{lim}]
    return "{literal}"
"""
_REGISTERED = """def {f}({seq:list[int]}, {lim:int}) -> list[int]:
    return [{x} + {lim} for {x} in {seq}]
"""


def constant(names: Names, dice: Dice, present: bool) -> Planting:
    """A number with a name, among numbers with nearly that name."""
    asked = names.constant()
    numbers = _numbers(dice, DECOYS + 1)
    others = [names.near(asked) for _ in range(DECOYS if present else DECOYS + 1)]
    labelled = [asked, *others] if present else others
    items = [
        Item(TARGET if name == asked else DECOY, name, f"{name} = {number}\n\n\n", 0, number)
        for name, number in zip(labelled, numbers, strict=True)
    ]
    return Planting(
        tuple(items),
        f"What is the value of the constant {asked}?",
        (asked,),
        unique=frozenset([*labelled, asked, *(str(number) for number in numbers)]),
    )


def _numbers(dice: Dice, count: int) -> list[int]:
    """Different ones, of six to nine digits."""
    numbers: dict[int, None] = {}
    while len(numbers) < count:
        digits = dice.between(6, 9)
        numbers[dice.between(10 ** (digits - 1), 10**digits - 1)] = None
    return list(numbers)


def signature(names: Names, dice: Dice, present: bool) -> Planting:
    """A function's parameters, among functions of nearly that name that share some of them."""
    asked = names.function()
    others = [names.near(asked) for _ in range(DECOYS if present else DECOYS + 1)]
    pool = dice.sample(NOUNS, 9)
    items, seen = [], set[tuple[str, ...]]()
    for name in [asked, *others] if present else others:
        parameters = tuple(dice.sample(pool, 4))
        while tuple(sorted(parameters)) in seen:
            parameters = tuple(dice.sample(pool, 4))
        seen.add(tuple(sorted(parameters)))
        annotated = ", ".join(f"{{{word}:int}}" for word in parameters)
        body = " + ".join(f"{word} * {dice.between(2, 9)}" for word in parameters)
        text = _SIGNATURE.replace("PARAMETERS", annotated).replace("{BODY}", body)
        text = names.filled(in_style(text, names.style), name, **{word: word for word in parameters}) + "\n\n"
        items.append(Item(TARGET if name == asked else DECOY, name, text, 0, parameters))
    question = f"What are the names of the parameters of the function {asked}, in their order?"
    return Planting(tuple(items), question, (asked,), unique=frozenset([asked, *others]))


def body_fact(names: Names, dice: Dice, present: bool) -> Planting:
    """The function that returns a literal, among functions that return one like it."""
    count = DECOYS + 2 if not present else DECOYS + 1
    # Of every literal the last part differs, the first is shared.
    stem = f"{dice.pick(QUALITIES)}-{dice.pick(NOUNS)}"
    tails = [f"{dice.between(1000, 9999)}" for _ in range(200)]
    literals = [f"{stem}-{tail}" for tail in dict.fromkeys(tails)][:count]
    asked = literals[0]
    labelled = [(names.function(), literal) for literal in (literals if present else literals[1:])]
    items = []
    for name, literal in labelled:
        text = names.filled(in_style(_FACT, names.style), name, literal=literal)
        line = next(index for index, row in enumerate(text.splitlines()) if literal in row)
        items.append(Item(TARGET if literal == asked else DECOY, name, text + "\n\n", line))
    quoted = f"{names.style.quote}{asked}{names.style.quote}"
    return Planting(
        tuple(items),
        f"Which function returns the literal {quoted}?",
        chance=1 / (DECOYS + 1),
        unique=frozenset(name for name, _ in labelled),
    )


def multi(names: Names, dice: Dice, present: bool) -> Planting:
    """All functions that are registered with a tag, among as many with other tags."""
    asked, *others = dice.sample(QUALITIES, 4)
    registrar = names.function()
    items = []
    for number in range(MULTI_TARGETS + DECOYS):
        wanted = present and number < MULTI_TARGETS
        tag = asked if wanted else dice.pick(others)
        name = names.function()
        text = names.filled(in_style(_REGISTERED, names.style), name)
        text = f"@{registrar}({names.style.quote}{tag}{names.style.quote})\n{text}\n\n"
        items.append(Item(TARGET if wanted else DECOY, name, text, 0))
    quoted = f"{names.style.quote}{asked}{names.style.quote}"
    return Planting(
        tuple(items),
        f"Which functions are registered with {registrar} under the tag {quoted}? Name all of them.",
        (registrar, asked),
        unique=frozenset(item.name for item in items),
    )
