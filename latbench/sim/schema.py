"""Making a value that validates against a JSON schema: small, deterministic, without a library.

Objects, arrays, enums, strings, numbers, booleans and null, `anyOf`, `oneOf`, `allOf` and `$ref` within the document;
type names in any case, as Gemini writes them, with its `nullable`. Deep down only what is required is made, so that a
schema that refers to itself comes to an end. What cannot be made here (a `pattern`, `not`, `if`) is refused, never
answered wrongly.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from latbench.sim import draws

_DEEP = 4  # from here on only what is required
_DEEPEST = 60
_MOST_VALUES = 20_000  # of one answer: a small schema can ask for more than there are atoms
_WORDS = ("rows", "batch", "key", "node", "cache", "index", "query", "page", "event", "token")
_FORMATS = {
    "date": "2026-01-05",
    "time": "09:30:00Z",
    "date-time": "2026-01-05T09:30:00Z",
    "duration": "PT1H",
    "email": "node@example.com",
    "hostname": "node.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/page",
    "uuid": "9f1c2a34-5b6d-4e7f-8a90-b1c2d3e4f506",
}
_REFUSED = (
    "pattern", "not", "if", "dependentRequired", "dependentSchemas", "propertyNames", "contains", "uniqueItems",
    "patternProperties", "unevaluatedItems", "$dynamicRef", "contentEncoding",
)  # fmt: skip
_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}


class Unsupported(Exception):
    """No value can be made: the schema is none, has none that validates, or is beyond what this maker knows."""


def value(schema: Any, key: int) -> Any:  # noqa: ANN401  a schema is any JSON, and so is what it describes
    """A value that validates against `schema`; the stream of draws `key` fixes which. Raises Unsupported."""
    return _Maker(schema, key).make(schema, 0)


class _Maker:
    """Makes one value. `document` is where references point into."""

    def __init__(self, document: Any, key: int) -> None:  # noqa: ANN401
        self._document = document
        self._key = key
        self._draws = 0
        self._made = 0

    def _draw(self, below: int) -> int:
        self._draws += 1
        return draws.integer(self._key, self._draws) % below

    def make(self, schema: Any, depth: int) -> Any:  # noqa: ANN401
        self._made += 1
        if depth > _DEEPEST or self._made > _MOST_VALUES:
            raise Unsupported("the schema asks for too large a value")
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            raise Unsupported("the schema is not an object")
        whole = self._whole(schema, depth)
        for name in _REFUSED:
            if whole.get(name) not in (None, False):
                raise Unsupported(f"{name!r} in a schema is not supported here")
        for name in ("anyOf", "oneOf"):
            if name in whole:
                return self._one_of(whole, name, depth)
        if "const" in whole:
            return whole["const"]
        if "enum" in whole:
            return self._of(_list(whole, "enum"))
        return self._typed(whole, depth)

    def _whole(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """The schema with what it refers to put in its place. Of two that say different things, none validates."""
        whole: dict[str, Any] = {name: item for name, item in schema.items() if name not in ("$ref", "allOf")}
        others = []
        if "$ref" in schema:
            others.append(self._target(schema["$ref"]))
        if "allOf" in schema:
            others += _list(schema, "allOf")
        for other in others:
            if other is True:
                continue
            if depth > _DEEPEST or not isinstance(other, Mapping):
                raise Unsupported("a reference of the schema leads nowhere")
            more = self._whole(other, depth + 1)
            _closed(whole, more)
            for name, item in more.items():
                whole[name] = _both(name, whole[name], item) if name in whole else item
        return whole

    def _target(self, reference: object) -> Any:  # noqa: ANN401
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unsupported("a $ref of the schema leads out of it")
        found = self._document
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                raise Unsupported(f"the schema has no {reference[:100]}")
        return found

    def _one_of(self, whole: Mapping[str, Any], name: str, depth: int) -> Any:  # noqa: ANN401
        """One of the alternatives that can be made: deep down one that comes to an end soonest."""
        options = _list(whole, name)
        beside = {key: item for key, item in whole.items() if key != name and key not in _NOTES}
        shift = self._draw(len(options))
        order = [*options[shift:], *options[:shift]]
        if depth >= _DEEP:
            order.sort(key=_weight)
        for option in order:
            try:
                return self.make({"allOf": [option, beside]} if beside else option, depth + 1)
            except Unsupported as problem:
                reason = problem
        raise reason

    def _typed(self, whole: Mapping[str, Any], depth: int) -> Any:  # noqa: ANN401
        kind = whole.get("type")
        if isinstance(kind, list):
            kind = self._of([one for one in _list(whole, "type") if one != "null"] or ["null"])
        if kind is None:
            kind = "array" if "items" in whole or "prefixItems" in whole else "object"
            if not {"properties", "required", "items", "prefixItems"} & set(whole) and not whole.keys() <= _NOTES:
                kind = "string" if {"minLength", "maxLength", "format"} & set(whole) else "number"
        makers: dict[str, Callable[[Mapping[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _whole, _depth: self._draw(2) == 1,
            "null": lambda _whole, _depth: None,
        }
        maker = makers.get(kind.lower()) if isinstance(kind, str) else None
        if maker is None:
            raise Unsupported(f"the schema has the type {str(kind)[:40]!r}")
        return maker(whole, depth)

    def _object(self, whole: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = whole.get("properties", {})
        if not isinstance(properties, Mapping):
            raise Unsupported("'properties' of the schema is not an object")
        required = _list(whole, "required") if "required" in whole else []
        if not all(isinstance(name, str) for name in required):
            raise Unsupported("'required' of the schema is not a list of names")
        made: dict[str, Any] = {}
        for name, schema in properties.items():
            if name in required:
                made[name] = self.make(schema, depth + 1)
            elif depth < _DEEP and schema is not False:
                try:
                    made[name] = self.make(schema, depth + 1)
                except Unsupported:  # nobody misses it
                    continue
        rest = whole.get("additionalProperties", True)
        for name in required:
            if name not in made:
                if rest is False:
                    raise Unsupported(f"the schema requires {name[:40]!r} and forbids it")
                made[name] = self.make(rest, depth + 1) if isinstance(rest, Mapping) else None
        number = 0
        while len(made) < _size(whole, "minProperties", 0):
            number += 1
            if rest is False or number > _MOST_VALUES:
                raise Unsupported("the schema asks for more properties than it has")
            made.setdefault(f"key_{number}", self.make(rest, depth + 1) if isinstance(rest, Mapping) else None)
        if len(made) > _size(whole, "maxProperties", len(made)):
            raise Unsupported("'maxProperties' of the schema is too small for this maker")
        return made

    def _array(self, whole: Mapping[str, Any], depth: int) -> list[Any]:
        first = _list(whole, "prefixItems") if "prefixItems" in whole else []
        least = _size(whole, "minItems", 0)
        most = _size(whole, "maxItems", max(least, 3))
        rest = whole.get("items", True)
        if least > most or least > _MOST_VALUES or (rest is False and least > len(first)):
            raise Unsupported("the schema has no array that is long enough")
        usual = least if depth >= _DEEP else min(most, max(least, len(first) or 1 + self._draw(3)))
        count = min(usual, len(first)) if rest is False else usual
        return [self.make(first[place] if place < len(first) else rest, depth + 1) for place in range(count)]

    def _string(self, whole: Mapping[str, Any], _depth: int) -> str:
        least = _size(whole, "minLength", 0)
        most = _size(whole, "maxLength", max(least, 40))
        if least > most or least > _MOST_VALUES * 10:
            raise Unsupported("the schema has no string that is long enough")
        named = whole.get("format")
        if isinstance(named, str) and named in _FORMATS:
            if not least <= len(_FORMATS[named]) <= most:
                raise Unsupported(f"the schema has no {named} of that length")
            return _FORMATS[named]
        text = str(self._of(_WORDS))
        while len(text) < least:
            text += f" {self._of(_WORDS)}"
        return text[:most]

    def _integer(self, whole: Mapping[str, Any], _depth: int) -> int:
        step = _number(whole, "multipleOf", 1)
        if step < 1 or step != int(step):
            raise Unsupported("'multipleOf' of the schema has to be a whole number above 0 here")
        low, high = _bounds(whole)
        least = None if low is None else math.ceil((math.floor(low[0]) + 1 if low[1] else math.ceil(low[0])) / step)
        most = None if high is None else math.floor((math.ceil(high[0]) - 1 if high[1] else math.floor(high[0])) / step)
        if least is None:
            least = 0 if most is None or most >= 0 else most - 99
        if most is None:
            most = least + 99
        if least > most:
            raise Unsupported("the schema has no number between its bounds")
        return (least + self._draw(min(100, most - least + 1))) * int(step)

    def _number(self, whole: Mapping[str, Any], depth: int) -> float:
        if "multipleOf" in whole:
            return self._integer(whole, depth)
        low, high = _bounds(whole)
        if low is None:
            low = (0.0, True) if high is None or high[0] > 0 else (high[0] - 100.0, True)
        if high is None:
            high = (low[0] + 100.0, True)
        if low == high and not low[1]:
            return low[0]
        found = low[0] + (high[0] - low[0]) * (2 + self._draw(5)) / 8
        if not low[0] < found < high[0]:
            raise Unsupported("the schema has no number between its bounds")
        return found

    def _of(self, options: Sequence[Any]) -> Any:  # noqa: ANN401
        return options[self._draw(len(options))]


def _list(schema: Mapping[str, Any], name: str) -> list[Any]:
    """A list that is not empty, except for `required`, which may be."""
    found = schema[name]
    if not isinstance(found, list) or not (found or name == "required"):
        raise Unsupported(f"{name!r} of the schema is not a list")
    return found


def _number(schema: Mapping[str, Any], name: str, default: float) -> float:
    found = schema.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise Unsupported(f"{name!r} of the schema is not a number")
    return found


def _size(schema: Mapping[str, Any], name: str, default: int) -> int:
    """A length. Gemini writes it as a string."""
    found = schema.get(name, default)
    if isinstance(found, str) and found.isdecimal():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise Unsupported(f"{name!r} of the schema is not a length")
    return found


def _bounds(schema: Mapping[str, Any]) -> tuple[tuple[float, bool] | None, tuple[float, bool] | None]:
    """The least and the greatest number, each with whether it is itself excluded."""
    low = [(_number(schema, name, 0), name != "minimum") for name in ("minimum", "exclusiveMinimum") if name in schema]
    high = [(_number(schema, name, 0), name != "maximum") for name in ("maximum", "exclusiveMaximum") if name in schema]
    return max(low, default=None), min(high, key=lambda bound: (bound[0], not bound[1]), default=None)


def _weight(schema: object) -> int:
    """How far an alternative leads: values first, then lists, what refers to something last."""
    if not isinstance(schema, Mapping) or "$ref" in schema:
        return 2
    if {"const", "enum"} & set(schema) or str(schema.get("type")).lower() not in ("array", "object", "none"):
        return 0
    return 1


def _both(name: str, one: Any, other: Any) -> Any:  # noqa: ANN401
    """What a keyword says when two schemas hold at the same time. Raises Unsupported where they do not agree."""
    if one == other or name in _NOTES:
        return one
    if name == "properties" and isinstance(one, Mapping) and isinstance(other, Mapping):
        shared = {key: {"allOf": [one[key], other[key]]} for key in one.keys() & other.keys()}
        return {**one, **other, **shared}
    if name == "required" and isinstance(one, list) and isinstance(other, list):
        return [*one, *(key for key in other if key not in one)]
    if name in ("items", "additionalProperties") and isinstance(one, Mapping) and isinstance(other, Mapping):
        return {"allOf": [one, other]}
    if name == "enum" and isinstance(one, list) and isinstance(other, list):
        return [item for item in one if item in other]
    if name == "type":
        return _common_type(one, other)
    if {type(one), type(other)} <= {int, float}:
        if name in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
            return max(one, other)
        if name in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
            return min(one, other)
    raise Unsupported(f"the schema says {name!r} twice")


def _closed(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Raises Unsupported where a schema that forbids other properties meets one that has some."""
    for closed, open_ in ((one, other), (other, one)):
        if closed.get("additionalProperties", True) is not True:
            known, more = closed.get("properties", {}), open_.get("properties", {})
            if not isinstance(known, Mapping) or not isinstance(more, Mapping) or not more.keys() <= known.keys():
                raise Unsupported("'additionalProperties' beside other properties is not supported here")


def _common_type(one: object, other: object) -> str:
    ours = one if isinstance(one, list) else [one]
    theirs = other if isinstance(other, list) else [other]
    common = [kind for kind in ours if kind in theirs]
    if all(kind in (*ours, *theirs) for kind in ("integer", "number")):  # a whole number is both
        common.append("integer")
    if not common:
        raise Unsupported("the schema asks for two types at the same time")
    return str(common[0])
