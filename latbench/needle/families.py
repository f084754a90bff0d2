"""Families of functions: templates with slots, each alternative of a slot a behaviour of its own.

Most generated code is made of them, filler and needles alike, so that a needle looks like what surrounds it. In a text,
`{seq}` is a name of that role (`{seq:list[int]}` where it may be annotated) and `[[span]]` a slot. A slot is one piece
of one line, and its alternatives come in pairs: the bug of a pair is the other one. `mutation` says what such a bug is
called; a slot without it is never mutated.

`phrase` describes an alternative in words that no generated code uses; a family without `describe` is never described.
`takes` says what the arguments are, for calls that are executed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """Alternatives of one place: pieces of code, and what each means in words."""

    codes: tuple[str, ...]
    phrases: tuple[str, ...] = ()
    mutation: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One template. `call` is how an example calls it, with `{f}` the function and `{0}`, `{1}` … its arguments."""

    name: str
    text: str
    slots: dict[str, Slot]
    takes: tuple[str, ...]
    describe: str = ""
    call: str = ""


def _slot(mutation: str, *pairs: tuple[str, str]) -> Slot:
    return Slot(tuple(code for code, _ in pairs), tuple(phrase for _, phrase in pairs), mutation)


OFF_BY_ONE, OPERATOR, SWAPPED, VARIABLE = "off-by-one", "wrong operator", "swapped arguments", "wrong variable"
GUARD, AWAIT, LEAK, SHARED = "inverted guard", "missing await", "resource leak", "shared default"

_TALLY = Family(
    "tally",
    """\
def {f}({seq:list[int]}, {lim:int}) -> int:
    {acc} = 0
    for {x} in {seq}[[span]]:
        if {x} [[test]] {lim}:
            {acc} += [[gain]]
    return {acc}
""",
    {
        "span": _slot(
            OFF_BY_ONE,
            ("", "considering all of them"),
            ("[1:]", "disregarding the foremost one"),
            ("[:-1]", "disregarding the rearmost one"),
            ("[1:-1]", "disregarding both ends"),
        ),
        "test": _slot(
            OFF_BY_ONE,
            ("<", "strictly beneath"),
            ("<=", "beneath or equal to"),
            (">", "strictly above"),
            (">=", "above or equal to"),
        ),
        "gain": _slot(
            VARIABLE,
            ("{x}", "what such members come to together"),
            ("{lim}", "the threshold as many times as there are such members"),
            ("1", "how many such members exist"),
        ),
    },
    ("ints", "small"),
    "is given a sequence and a threshold and, {span}, finds members {test} the threshold, and answers with {gain}",
)

_KEEP = Family(
    "keep",
    """\
def {f}({seq:list[int]}, {best:int}) -> int:
    for {x} in [[order]]:
        if {x} % 2 [[parity]] 0:
            {best} = [[take]]
    return {best}
""",
    {
        "order": _slot(
            "",
            ("{seq}", "from front to back"),
            ("reversed({seq})", "from back to front"),
            ("sorted({seq})", "from smallest to largest"),
        ),
        "parity": _slot(OPERATOR, ("==", "divisible by two"), ("!=", "not divisible by two")),
        "take": _slot(
            OPERATOR,
            ("{x} - {best}", "the member less the remembered quantum"),
            ("{x} + {best}", "both of them together"),
            ("{best} * 2 - {x}", "twice the remembered quantum less the member"),
            ("{best} * 2 + {x}", "twice the remembered quantum plus the member"),
        ),
    },
    ("ints", "small"),
    "visits a sequence {order} and, whenever a member is {parity}, replaces the remembered quantum by {take}",
)

_WEAVE = Family(
    "weave",
    """\
def {f}({text:str}, {sep:str}) -> str:
    {out} = []
    for {i}, {c} in enumerate({text}):
        if [[test]]:
            {out}.append([[put]])
    return [[join]]
""",
    {
        "test": _slot(
            GUARD,
            ("{i} % 2 == 0", "standing at an even place"),
            ("not {i} % 2 == 0", "standing at an odd place"),
            ("{c} > {sep}", "alphabetically after the given one"),
            ("not {c} > {sep}", "alphabetically no later than the given one"),
        ),
        "put": _slot(
            "wrong operator",
            ("{c} + {sep}", "with the given one behind it"),
            ("{sep} + {c}", "with the given one ahead of it"),
            ("{c}.upper()", "capitalised"),
            ("{c}", "unchanged"),
        ),
        "join": _slot(
            "",
            ('"".join({out})', "side by side"),
            ('"".join(reversed({out}))', "back to front"),
            ('"-".join({out})', "with hyphens among them"),
        ),
    },
    ("word", "letter"),
    "takes characters {test}, each {put}, and strings them {join}",
)

_FOLD = Family(
    "fold",
    """\
def {f}({pairs:list[tuple[str, int]]}) -> list[int]:
    {table} = {}
    for {key}, {x} in {pairs}:
        {table}[{key}] = [[step]]
    return [[view]]
""",
    {
        "step": _slot(
            OPERATOR,
            ("{table}.get({key}, 0) + {x}", "everything that pertains to it taken together"),
            ("{table}.get({key}, 0) - {x}", "everything that pertains to it deducted"),
            ("max({table}.get({key}, 0), {x})", "the largest that pertains to it, never negative"),
            ("min({table}.get({key}, 0), {x})", "the smallest that pertains to it, never positive"),
        ),
        "view": _slot(
            "",
            ("sorted({table}.values())", "in ascending arrangement"),
            ("sorted({table}.values(), reverse=True)", "in descending arrangement"),
            ("list({table}.values())", "in the arrangement of their arrival"),
            ("list({table}.values())[::-1]", "latest arrival foremost"),
        ),
    },
    ("pairs",),
    "keeps, for each distinct caption, {step}, and hands back those quanta {view}",
)

_SLIDE = Family(
    "slide",
    """\
def {f}({seq:list[int]}, {s:int}) -> int:
    {out} = [0]
    for {i} in range([[start]], len({seq})[[stop]]):
        {out}.append({seq}[{i}] [[op]] {seq}[{i} - 1])
    return [[end]]
""",
    {
        "start": _slot(OFF_BY_ONE, ("1", "from the second place"), ("2", "from the third place")),
        "stop": _slot(OFF_BY_ONE, ("", "as far as the end"), (" - 1", "stopping short of the end")),
        "op": _slot(OPERATOR, ("-", "differences"), ("+", "additions"), ("*", "products")),
        "end": _slot(
            "",
            ("sum({out}) + {s}", "combined and raised by a given quantum"),
            ("max({out}) + {s}", "of which the greatest counts, raised by a given quantum"),
            ("min({out}) - {s}", "of which the least counts, diminished by a given quantum"),
        ),
    },
    ("ints", "small"),
    "forms {op} of neighbours, {start} and {stop}, {end}",
)

_ZIP = Family(
    "zip",
    """\
def {f}({seq:list[int]}, {other:list[int]}) -> list[int]:
    {out} = []
    for {x}, {y} in zip({seq}, [[second]]):
        {out}.append([[mix]])
    return [[end]]
""",
    {
        "second": _slot(
            "",
            ("{other}", "as it comes"),
            ("reversed({other})", "backwards"),
            ("sorted({other})", "arranged upwards"),
        ),
        "mix": _slot(
            SWAPPED,
            ("divmod({x}, {y} or 1)[0]", "how often the latter goes into the former"),
            ("divmod({y}, {x} or 1)[0]", "how often the former goes into the latter"),
            ("{x} - {y}", "the former less the latter"),
            ("{y} - {x}", "the latter less the former"),
        ),
        "end": _slot(
            OFF_BY_ONE,
            ("{out}", "nothing dropped"),
            ("{out}[1:]", "dropping the foremost one"),
            ("{out}[:-1]", "dropping the rearmost one"),
        ),
    },
    ("ints", "ints"),
    "walks two sequences side by side, the latter {second}, works out {mix} at each place, and delivers these, {end}",
)

_SEEK = Family(
    "seek",
    """\
def {f}({seq:list[int]}, {lim:int}) -> int:
    for {i} in [[walk]]:
        if {seq}[{i}] [[test]] {lim}:
            return [[give]]
    return -99
""",
    {
        "walk": _slot(
            "",
            ("range(len({seq}))", "forwards"),
            ("range(1, len({seq}))", "forwards without the foremost one"),
            ("range(len({seq}) - 1, -1, -1)", "backwards"),
        ),
        "test": _slot(
            OFF_BY_ONE,
            ("<", "strictly beneath"),
            ("<=", "beneath or equal to"),
            (">", "strictly above"),
            (">=", "above or equal to"),
        ),
        "give": _slot(
            OFF_BY_ONE,
            ("{i}", "its place numbered zero upwards"),
            ("{i} + 1", "its place numbered one upwards"),
            ("{seq}[{i}] - {lim}", "its distance beyond the threshold"),
            ("{seq}[{i}] + {lim}", "it and the threshold combined"),
        ),
    },
    ("ints", "small"),
    "goes {walk} to the earliest member met that is {test} a threshold and answers with {give}",
)

_DIGITS = Family(
    "digits",
    """\
def {f}({num:int}, {base:int}) -> int:
    {acc} = 0
    while {num} > 0:
        {num}, {d} = divmod({num}, {base})
        {acc} = [[roll]]
    return {acc} [[end]]
""",
    {
        "roll": _slot(
            OPERATOR,
            ("{acc} * {base} + {d}", "shifts what it has along and adds"),
            ("{acc} * {base} - {d}", "shifts what it has along and deducts"),
            ("{acc} + {d} * {d}", "adds squares"),
            ("{acc} - {d} * {d}", "deducts squares"),
        ),
        "end": _slot(
            VARIABLE,
            ("+ {base}", "the divisor included"),
            ("+ {d}", "the most significant numeral included again"),
            ("* 2", "doubled"),
        ),
    },
    ("large", "small"),
    "takes an integer apart into numerals by some divisor, {roll}, the outcome being {end}",
)

_SPLIT = Family(
    "split",
    """\
def {f}({p:int}, {q:int}, {r:int}) -> int:
    {s}, {t} = divmod([[args]])
    if [[guard]]{s} > {r}:
        return {s} - [[after]]
    return {t} [[op]] {r}
""",
    {
        "args": _slot(SWAPPED, ("{p}, {q}", ""), ("{q}, {p}", "")),
        "guard": _slot(GUARD, ("", ""), ("not ", "")),
        "after": _slot(VARIABLE, ("{q}", ""), ("{p}", "")),
        "op": _slot(OPERATOR, ("+", ""), ("-", "")),
    },
    ("small", "small", "small"),
)

_BOTH = Family(
    "both",
    """\
def {f}({seq:list[int]}, {p:int}, {q:int}) -> list[int]:
    {out} = []
    for {x} in {seq}:
        if {x} > {p} [[logic]] {x} < {q}:
            {out}.append({x} * [[factor]])
    return {out}
""",
    {
        "logic": _slot(OPERATOR, ("and", ""), ("or", "")),
        "factor": _slot(VARIABLE, ("{p}", ""), ("{q}", "")),
    },
    ("ints", "small", "small"),
)

_AWAITED = Family(
    "awaited",
    """\
async def {f}({p:int}, {q:int}) -> int:
    [[how]]def {g}({s}):
        return {s} [[op]] {q}

    {t} = [[wait]]{g}({p})
    return {t}
""",
    {
        "how": Slot(("async ", "")),
        "wait": _slot(AWAIT, ("await ", ""), ("", "")),
        "op": _slot(OPERATOR, ("+", ""), ("-", "")),
    },
    ("small", "small"),
    call="asyncio.run({f}({0}, {1}))",
)

_CLOSED = Family(
    "closed",
    """\
def {f}({text:StringIO}, {num:int}) -> str:
    with [[manager]]({text}) as {h}:
        {out} = {h}.read({num} [[op]] 2)
    return {out}
""",
    {
        "manager": _slot(LEAK, ("closing", ""), ("nullcontext", "")),
        "op": _slot(OPERATOR, ("+", ""), ("-", "")),
    },
    ("stream", "digit"),
    call="[{f}(s, {1}) + str(s.closed) for s in [{0}]]",
)

_DEFAULT = Family(
    "default",
    """\
def {f}({x:int}, {out:list[int] | None}=[[default]]) -> list[int]:
    {out} = [] if {out} is None else {out}
    {out}.append({x} [[op]] len({out}))
    return list({out})
""",
    {
        "default": _slot(SHARED, ("None", ""), ("[]", "")),
        "op": _slot(OPERATOR, ("+", ""), ("-", "")),
    },
    ("small", "small"),
    call="[{f}({0}), {f}({1})]",
)

FAMILIES = (
    *(_TALLY, _KEEP, _WEAVE, _FOLD, _SLIDE, _ZIP, _SEEK, _DIGITS),
    *(_SPLIT, _BOTH, _AWAITED, _CLOSED, _DEFAULT),
)
