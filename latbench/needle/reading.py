"""From a reply to what it answers. A reply is hostile input: every step is linear in its length or capped.

An answer is a line `ANSWER: {json}`, perhaps inside bold, quotes, a bullet or a fence, or with its value on the lines
below. The value is an object with the field that was asked for, or bare: an identifier, an integer, a list of names,
`ABSENT`. What follows a value on its line is not read, except for a further object, which is a further answer. Without
any marker the whole reply, apart from one fence around it, has to be one value.

All markers count: a reply that answers twice, differently, has not answered. A marker line that stands in the prompt
too is an echo of it and is not read, and neither is one without a value in it.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from latbench.needle.trial import Form

MAX_IDENTIFIER_CHARS = 128
MAX_INTEGER_CHARS = 128
MAX_LINE_CHARS = 2_000
MAX_VALUE_CHARS = 16_384
"""A value that does not end within so many characters is overlong."""
MAX_MARKERS = 64
MAX_OBJECTS = 8  # on the line of a marker
MAX_NAMES = 1_000

_MARKER = "ANSWER"
_COLONS = (":", "：")
_DECORATION = " \t*_`~\"'>#-+•“”‘’«»|()[].0123456789"  # what may stand before a marker on its line, numbering included
_EMPHASIS = " \t*`~\"'“”‘’«»"  # around a value; an underscore belongs to a name
_MAX_DECORATION = 32
_AROUND_COLON = _EMPHASIS + "_"
_AFTER_MARKER = frozenset((*_COLONS, *_AROUND_COLON))
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_FENCE = "```"
_LANGUAGE = "json"
_FIELDS = {Form.IDENTIFIER: "name", Form.INTEGER: "value", Form.NAMES: "names", Form.NAME_SET: "names"}


class Fault(Enum):
    """Why a marker has no usable value."""

    FORMAT = "format"
    OVERLONG = "overlong"
    UNFINISHED = "unfinished"
    """The text ends before the value does."""


class Absent(Enum):
    """The answer that there is nothing."""

    ABSENT = "ABSENT"


Value = str | int | tuple[str, ...] | Absent
"""An identifier as it was written, an integer, names in order, or nothing."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One value that a reply gives. `line` is the answer-bearing line, where one was given with it."""

    value: Value
    line: str | None = None
    closed: bool = True
    """False for a bare value at the very end of the text: there might have been more of it."""


def visible(text: str) -> str:
    """A reply without what cannot be seen: zero-width characters, and white space around it."""
    return text.translate(_INVISIBLE).strip()


def read(text: str, form: Form, echoes: Collection[str] = ()) -> list[Answered | Fault]:
    """The answers of a visible text, and the faults of markers without one; nothing if there is no marker at all.

    `echoes` are marker lines of the prompt, as `marker_lines` gives them.
    """
    found: list[Answered | Fault] = []
    for number, (at, start) in enumerate(_markers(text)):
        if number == MAX_MARKERS:
            return [Fault.OVERLONG]
        values = _values(text, start, form)
        says_absent = any(isinstance(one, Answered) and one.value is Absent.ABSENT for one in values)
        if says_absent or _line(text, at) not in echoes:
            found += values
    return found


def read_whole(text: str, form: Form) -> Answered | None:
    """The value that a visible text consists of, one fence around it left out; None if it is anything else."""
    inside = _unfenced(text)
    if not inside or len(inside) > MAX_VALUE_CHARS:
        return None
    if inside[0] in "{[\"'":
        value, end = _structured(inside, 0, form)
        alone = not inside[end:].strip(_EMPHASIS + ".")
        if isinstance(value, Answered) and alone:
            return value
    bare = _bare(inside, form)
    return Answered(bare.value, closed=False) if isinstance(bare, Answered) else None


def has_marker(text: str) -> bool:
    """Whether there is a marker at all."""
    return next(_markers(text), None) is not None


def marker_lines(prompt: str) -> frozenset[str]:
    """The lines of a prompt that would be read as markers if they were a reply's."""
    return frozenset(_line(prompt, at) for at, _ in _markers(prompt))


def _markers(text: str) -> Iterator[tuple[int, int]]:
    """Where each marker begins, and where what follows its colon begins."""
    after = 0
    while (at := text.find(_MARKER, after)) >= 0:
        after = at + len(_MARKER)
        if text[after : after + 1] not in _AFTER_MARKER:
            continue  # at once: a reply may be a megabyte of the word
        before = text[max(0, at - _MAX_DECORATION) : at]
        line_start = max(before.rfind("\n"), before.rfind("\r")) + 1
        if (line_start or at <= _MAX_DECORATION) and not before[line_start:].strip(_DECORATION):
            tail = text[after : after + _MAX_DECORATION]
            colon = tail.lstrip(_AROUND_COLON)
            if colon.startswith(_COLONS):
                yield at, after + len(tail) - len(colon) + 1


def _line(text: str, at: int) -> str:
    """The line from `at` on, white space collapsed, capped."""
    return " ".join(text[at : at + MAX_LINE_CHARS].partition("\n")[0].split())


def _values(text: str, start: int, form: Form) -> list[Answered | Fault]:
    """What stands after a marker's colon: on its line, or below it."""
    window = text[start : start + MAX_VALUE_CHARS + 1]
    place = _skip(window, 0, _EMPHASIS)
    if window.startswith(("_ ", "__ "), place):
        place = _skip(window, place, _AROUND_COLON)
    if _FENCE in window[:place] and window.startswith(_LANGUAGE, place):
        place += len(_LANGUAGE)
    if place == len(window) or window[place] in "\r\n":
        place = _below(window, place)
    if place >= len(window):
        return [Fault.OVERLONG if len(window) > MAX_VALUE_CHARS else Fault.UNFINISHED]
    if window[place] in "{[":
        return _objects(window, place, form)
    line, newline, _ = window[place:].partition("\n")
    if len(line) > MAX_VALUE_CHARS:
        return [Fault.OVERLONG]
    bare = _bare(line, form)
    return [Answered(bare.value, closed=bool(newline))] if isinstance(bare, Answered) else [bare]


def _below(window: str, place: int) -> int:
    """Where the value begins that is not on the marker's own line: after blank lines and the opening of a fence."""
    place = _skip(window, place, " \t\r\n")
    if window.startswith(_FENCE, place):
        end = window.find("\n", place)
        place = len(window) if end < 0 else _skip(window, end, " \t\r\n")
    return _skip(window, place, _EMPHASIS)


def _objects(window: str, place: int, form: Form) -> list[Answered | Fault]:
    """The value at `place` and further objects on the line it ends on; more than a few are too many."""
    found: list[Answered | Fault] = []
    while place >= 0 and (not found or isinstance(found[-1], Answered)):
        if len(found) == MAX_OBJECTS:
            return [Fault.OVERLONG]
        value, end = _structured(window, place, form)
        found.append(value)
        stop = window.find("\n", end)
        place = window.find("{", end, len(window) if stop < 0 else stop)
    return found


def _structured(window: str, place: int, form: Form) -> tuple[Answered | Fault, int]:
    """A JSON value and where it ends."""
    try:
        decoded, end = _DECODER.raw_decode(window, place)
    except (_RepeatedKeyError, RecursionError):
        return Fault.FORMAT, place + 1
    except ValueError:
        return _unreadable(window, place, form)
    return _from_json(decoded, form), end


class _RepeatedKeyError(ValueError):
    """An object says two things under one name."""


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedKeyError
    return found


@dataclass(frozen=True, slots=True)
class _Number:
    """A JSON number as it was written: huge ones must not be converted, and 1e6 is no integer."""

    written: str


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number, strict=False
)


def _unreadable(window: str, place: int, form: Form) -> tuple[Answered | Fault, int]:
    """What is not JSON: `{"value": 1_000_000}` is forgiven, and what only lacks its end is told apart."""
    head, brace, _ = window[place + 1 : place + 1 + 4 * MAX_INTEGER_CHARS].partition("}")
    if form is Form.INTEGER and brace:
        key, _, raw = head.partition(":")
        value = integer(raw)
        if key.strip(" \t\r\n\"'") == _FIELDS[form] and value is not None:
            return Answered(value), place + len(head) + 2
    if _closes(window, place):
        return Fault.FORMAT, place + 1
    return (Fault.OVERLONG if len(window) > MAX_VALUE_CHARS else Fault.UNFINISHED), place + 1


def _closes(window: str, place: int) -> bool:
    """Whether as many braces close as open, from `place` on, strings not looked at."""
    opened = window.count("{", place) + window.count("[", place)
    closed = window.count("}", place) + window.count("]", place)
    return closed >= opened


def _from_json(decoded: object, form: Form) -> Answered | Fault:
    line = None
    if isinstance(decoded, dict):
        said = decoded.get("line")
        if said is not None:
            line = said if isinstance(said, str) and len(said) <= MAX_LINE_CHARS else ""
        if _FIELDS[form] not in decoded:
            return Fault.FORMAT
        decoded = decoded[_FIELDS[form]]
    value = _plain(decoded, form)
    return value if isinstance(value, Fault) else Answered(value, line)


def _plain(decoded: object, form: Form) -> Value | Fault:
    """What a JSON value says: a number, a name, or several."""
    if isinstance(decoded, _Number):
        number = integer(decoded.written)
        return decoded.written[:MAX_IDENTIFIER_CHARS] if number is None else number
    if isinstance(decoded, str):
        return _word(decoded, form)
    if isinstance(decoded, list):
        if len(decoded) > MAX_NAMES:
            return Fault.OVERLONG
        if not all(isinstance(one, str) for one in decoded):
            return Fault.FORMAT
        words = _words(decoded, Form.IDENTIFIER)
        if isinstance(words, Fault):
            return words
        return Absent.ABSENT if words == [Absent.ABSENT] else tuple(map(_written, words))
    return Fault.FORMAT


def _words(said: Sequence[str], form: Form) -> list[Value] | Fault:
    """The words of a list, or the first fault in it."""
    words: list[Value] = []
    for one in said:
        word = _word(one, form)
        if isinstance(word, Fault):
            return word
        words.append(word)
    return words


def _written(word: Value) -> str:
    """A word of a list. `ABSENT` beside others is a name like them, and no thing's."""
    return str(word.value if isinstance(word, Absent) else word)


def _word(said: str, form: Form) -> Value | Fault:
    """A string of an answer: nothing, an integer where one is asked for, or a name as it was written."""
    word = said.strip().strip(_EMPHASIS).removesuffix(".")
    if word.upper() == Absent.ABSENT.value:
        return Absent.ABSENT
    if len(word) > MAX_IDENTIFIER_CHARS:
        return Fault.OVERLONG
    if form is Form.INTEGER:
        number = integer(word)
        return word if number is None else number
    return word if is_path(word) else Fault.FORMAT


def _bare(line: str, form: Form) -> Answered | Fault:
    """A value without JSON: one word, or several names with commas between them."""
    text = line.strip().strip(_EMPHASIS).removesuffix(".").strip(_EMPHASIS)
    number = integer(text) if form is Form.INTEGER else None
    if number is not None:
        return Answered(number)
    said = [one.strip() for one in text.split(",")]
    if not all(said) or any(len(one.split()) > 1 for one in said):
        return Fault.FORMAT  # prose, or nothing
    if len(said) > MAX_NAMES:
        return Fault.OVERLONG
    words = _words(said, form if len(said) == 1 else Form.IDENTIFIER)
    if isinstance(words, Fault):
        return words
    return Answered(words[0] if len(words) == 1 else tuple(map(_written, words)))


def integer(written: str) -> int | None:
    """The integer that a text is: quotes, underscores, proper thousands and a full stop allowed, no expression."""
    text = written.strip(_EMPHASIS).removesuffix(".").strip(_EMPHASIS)
    if not text or len(text) > MAX_INTEGER_CHARS:
        return None
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    groups = digits.split(",")
    if len(groups) > 1:
        proper = 1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])
        digits = "".join(groups) if proper and "_" not in digits else ""
    if "__" in digits or digits[:1] == "_" or digits[-1:] == "_":
        return None
    digits = digits.replace("_", "")
    return int(sign + digits) if digits.isascii() and digits.isdigit() else None


def is_path(word: str) -> bool:
    """Whether a word is an identifier, perhaps with qualifiers before it and `()` after it."""
    return all(part.isidentifier() for part in word.removesuffix("()").split("."))


def _skip(text: str, place: int, chars: str) -> int:
    while place < len(text) and text[place] in chars:
        place += 1
    return place


def _unfenced(text: str) -> str:
    """What stands between the lines of one surrounding fence; else the text itself."""
    if not text.startswith(_FENCE):
        return text
    _, _, rest = text.partition("\n")
    inside, _, closing = rest.rpartition("\n")
    return inside.strip() if closing.strip() == _FENCE else text
