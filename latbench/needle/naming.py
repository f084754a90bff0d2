"""Which thing of a prompt an answer names. Equality of whole identifiers, letter for letter: no substring, no distance.

A qualifier before a name counts if it is the true one of what is named. What was not planted is looked up in the code:
by its definitions if it has any, else by its occurrences.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from latbench.model.needle import Named
from latbench.needle.reading import Value
from latbench.needle.trial import AnswerKey, Form, Planted

_MAX_PLACES = 1_000
_DEFINES = re.compile(r"\s*(?:async\s+)?(?:def|class)\s+\Z")
_MOST_BEFORE = 200  # characters of a line that are looked at for a definition


@dataclass(frozen=True, slots=True)
class Found:
    """What was named. `depth` is None where it stands in no place or in several; of what was not planted it is the
    share of characters before it. `near` says that it stands in the target's file, one of several."""

    named: Named
    depth: float | None = None
    near: bool = False


def denotes(word: str, planted: Planted) -> bool:
    """Whether a word, perhaps qualified and with `()` after it, is what this thing is called."""
    qualifier, dot, name = word.removesuffix("()").rpartition(".")
    return name == planted.name and (not dot or qualifier in planted.qualifiers)


def says(value: Value, planted: Planted, form: Form) -> bool:
    """Whether a value is the answer that this thing stands for."""
    if form is Form.INTEGER:
        return isinstance(value, int) and value == planted.value
    if form is Form.NAMES:
        return ((value,) if isinstance(value, str) else value) == planted.value
    return isinstance(value, str) and denotes(value, planted)


def whose(value: Value, key: AnswerKey, code: str) -> Found:
    """Which thing one value is of: a planted one, another of the code or the question, or none at all."""
    for planted in key.targets:
        if says(value, planted, key.form):
            return Found(Named.TARGET, planted.depth)
    for planted in key.decoys:
        if says(value, planted, key.form):
            return Found(Named.DECOY, planted.depth, key.form is Form.IDENTIFIER and _near(key, (planted.path,)))
    if isinstance(value, str):
        return _of_code(value, key, code)
    if isinstance(value, int):
        known = not _is_read(key) or _stands(str(value), code)
    else:
        known = isinstance(value, tuple) and all(_stands(name, code) for name in value)
    return Found(Named.OTHER if known else Named.UNKNOWN)


def _of_code(word: str, key: AnswerKey, code: str) -> Found:
    qualifier, _, name = word.removesuffix("()").rpartition(".")
    places = list(islice(_places(name, code), _MAX_PLACES))
    if not places:
        return Found(Named.OTHER if word in key.asked else Named.UNKNOWN)
    defined = [at for at in places if _is_definition(code, at, name)]
    depth = defined[0] / len(code) if len(defined) == 1 else None
    # A class or module around the target is no function at all, and a qualifier that is not true leads elsewhere.
    apart = (
        bool(qualifier)
        or word in key.asked
        or name in _enclosing(key)
        or any("class" in _before(code, at) for at in defined)
    )
    near = key.form is Form.IDENTIFIER and not apart and _near(key, _paths(key, code, defined or places))
    return Found(Named.OTHER, depth, near)


def _enclosing(key: AnswerKey) -> set[str]:
    """The classes and modules that a target is known to stand in."""
    return {part for target in key.targets for qualifier in target.qualifiers for part in qualifier.split(".")}


def _near(key: AnswerKey, paths: Iterable[str]) -> bool:
    """Whether something in these files is in a target's; in a single file that would say nothing."""
    return len({start.path for start in key.files}) > 1 and not {one.path for one in key.targets}.isdisjoint(paths)


def _paths(key: AnswerKey, code: str, places: list[int]) -> set[str]:
    starts = [start.line_number for start in key.files]
    found, line_number, before = set(), 1, 0
    for at in places:
        line_number += code.count("\n", before, at)
        before = at
        index = bisect_right(starts, line_number) - 1
        if index >= 0:
            found.add(key.files[index].path)
    return found


def _stands(word: str, code: str) -> bool:
    return next(_places(word, code), None) is not None


def _places(word: str, code: str) -> Iterator[int]:
    """Where a word stands by itself."""
    at = code.find(word)
    while at >= 0:
        end = at + len(word)
        if not (_is_word(code[at - 1 : at]) or _is_word(code[end : end + 1])):
            yield at
        at = code.find(word, end)


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _before(code: str, at: int) -> str:
    """What stands before a place on its line."""
    return code[max(0, at - _MOST_BEFORE) : at].rpartition("\n")[2]


def _is_definition(code: str, at: int, name: str) -> bool:
    before = _before(code, at)
    after = code[at + len(name) : at + len(name) + 40].lstrip(" ")
    assigned = not before.strip() and after[:1] in ("=", ":") and after[:2] != "=="
    return assigned or _DEFINES.match(before) is not None


def _is_read(key: AnswerKey) -> bool:
    """Whether the right number stands in its line: then one that is nowhere was made up, not calculated wrongly."""
    return key.form is Form.INTEGER and any(str(target.value) in target.line for target in key.targets)
