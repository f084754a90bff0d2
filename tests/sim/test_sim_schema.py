"""Values made from a JSON schema, held against a small validator of the test's own."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.sim.schema import Unsupported, value

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def _target(root: Any, reference: str) -> Any:
    for step in reference.split("/")[1:]:
        root = root[step.replace("~1", "/").replace("~0", "~")]
    return root


def _has_type(found: Any, kind: str) -> bool:
    if isinstance(found, bool):
        return kind == "boolean"
    if isinstance(found, float) and kind == "integer":
        return found.is_integer()
    return isinstance(found, _TYPES[kind])


def _valid(schema: Any, found: Any, root: Any) -> bool:
    """Whether a value validates: written apart from the maker, and simpler."""
    if isinstance(schema, bool):
        return schema
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    checks = [
        not kinds or any(_has_type(found, kind.lower()) for kind in kinds),
        "$ref" not in schema or _valid(_target(root, schema["$ref"]), found, root),
        "const" not in schema or found == schema["const"],
        "enum" not in schema or found in schema["enum"],
        all(_valid(one, found, root) for one in schema.get("allOf", [])),
        *(any(_valid(one, found, root) for one in schema[name]) for name in ("anyOf", "oneOf") if name in schema),
    ]
    if isinstance(found, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        checks += [
            all(_valid(known.get(name, rest), item, root) for name, item in found.items()),
            set(schema.get("required", [])) <= set(found),
            schema.get("minProperties", 0) <= len(found) <= schema.get("maxProperties", math.inf),
        ]
    if isinstance(found, list):
        first = schema.get("prefixItems", [])
        checks += [
            all(_valid(one, item, root) for one, item in zip(first, found, strict=False)),
            all(_valid(schema.get("items", True), item, root) for item in found[len(first) :]),
            int(schema.get("minItems", 0)) <= len(found) <= int(schema.get("maxItems", 10**9)),
        ]
    if isinstance(found, str):
        checks.append(schema.get("minLength", 0) <= len(found) <= schema.get("maxLength", math.inf))
    if isinstance(found, int | float) and not isinstance(found, bool):
        checks += [
            schema.get("minimum", -math.inf) <= found <= schema.get("maximum", math.inf),
            schema.get("exclusiveMinimum", -math.inf) < found < schema.get("exclusiveMaximum", math.inf),
            "multipleOf" not in schema or found % schema["multipleOf"] == 0,
        ]
    return all(checks)


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "left", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}

SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "object"},
    {"description": "anything"},
    {"type": "string"},
    {"type": "null"},
    {"type": "boolean"},
    {"type": ["null", "integer"]},
    {"type": ["null"]},
    {"enum": ["a", 1, None]},
    {"const": {"a": 1}},
    {"type": "STRING", "format": "enum", "enum": ["ONE", "TWO"]},
    {"type": "OBJECT", "properties": {"n": {"type": "INTEGER", "nullable": True}}, "required": ["n"]},
    {"type": "ARRAY", "items": {"type": "NUMBER"}, "minItems": "2", "maxItems": "2"},
    {"type": "array"},
    {"type": "array", "items": {"enum": [1]}, "minItems": 7},
    {"type": "array", "items": {"type": "string"}, "maxItems": 0},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False, "maxItems": 1},
    {"prefixItems": [{"const": 1}], "items": {"type": "boolean"}, "minItems": 4},
    {"items": {"type": "integer"}},
    {"type": "string", "minLength": 70, "maxLength": 71},
    {"type": "string", "maxLength": 2},
    {"minLength": 3},
    {"minimum": 3},
    {"type": "string", "format": ["date"]},
    *({"type": "string", "format": name} for name in ("date", "date-time", "email", "uuid", "ipv4", "made-up")),
    *({"type": kind, "minimum": 3, "maximum": 3} for kind in ("integer", "number")),
    *({"type": kind, "exclusiveMinimum": 3, "exclusiveMaximum": 5} for kind in ("integer", "number")),
    *({"type": kind, "minimum": -7.5} for kind in ("integer", "number")),
    *({"type": kind, "maximum": -7.5} for kind in ("integer", "number")),
    *({"type": kind, "maximum": 7.5} for kind in ("integer", "number")),
    *({"type": kind, "multipleOf": 7, "minimum": 8, "maximum": 14} for kind in ("integer", "number")),
    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    {"type": "integer", "minimum": 0, "exclusiveMinimum": 4, "maximum": 9, "exclusiveMaximum": 6},
    {"type": "object", "required": ["a", "b"], "properties": {"b": {"type": "integer"}}},
    {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "string"}},
    {"type": "object", "minProperties": 2, "properties": {"key_1": {"type": "integer"}}},
    {"type": "object", "properties": {"a": False, "b": {"pattern": "x"}, "c": {"type": "null"}}},
    {"anyOf": [{"type": "string", "pattern": "x"}, {"type": "integer"}]},
    {"oneOf": [{"type": "string"}, {"type": "integer"}], "description": "one of two"},
    {"type": "object", "properties": {"a": {}, "b": {}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"type": "number", "minimum": 5, "maximum": 6}, True]},
    {"allOf": [{"properties": {"a": {"minimum": 1}}, "required": ["a"]}, {"properties": {"a": {"maximum": 2}}}]},
    {"allOf": [{"properties": {"a": True}, "required": ["a"]}, {"properties": {"b": True}, "required": ["a", "b"]}]},
    {"allOf": [{"items": {"minimum": 1}, "minItems": 2}, {"items": {"maximum": 2}, "maxItems": 3, "minItems": 3}]},
    {"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4]}]},
    {"allOf": [{"type": "integer", "title": "one"}, {"type": "integer", "title": "other"}]},
    {"allOf": [{"type": ["string", "integer"]}, {"type": ["boolean", "integer"]}]},
    {"$defs": {"a/b~c": {"type": "integer"}}, "$ref": "#/$defs/a~1b~0c", "description": "escaped"},
    {"definitions": {"n": {"minimum": 5, "maximum": 9}}, "allOf": [{"$ref": "#/definitions/n"}, {"maximum": 6}]},
    {
        "allOf": [
            {"additionalProperties": {"type": "integer"}, "minProperties": 2},
            {"additionalProperties": {"minimum": 3}},
        ]
    },
    {
        "type": "object",
        "properties": {
            "next": {
                "anyOf": [
                    {"$ref": "#"},
                    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
                    {"type": "object", "properties": {"more": {"$ref": "#"}}, "required": ["more"]},
                    {"enum": [1, 2]},
                ]
            }
        },
        "required": ["next"],
    },
    TREE,
    {"type": "object", "properties": {"self": {"$ref": "#"}, "n": {"type": "integer"}}, "required": ["n"]},
    {
        "type": "object",
        "properties": {
            "file": {"type": "string", "minLength": 1},
            "severity": {"type": "string", "enum": ["low", "high"]},
            "lines": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "fix": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["file", "severity", "lines", "fix"],
        "additionalProperties": False,
    },
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
@given(key=st.integers(0, 2**64 - 1))
def test_what_is_made_validates_and_is_the_same_again(schema: Any, key: int) -> None:
    found = value(schema, key)
    assert json.loads(json.dumps(found)) == found
    assert _valid(schema, found, schema)
    assert value(schema, key) == found


def test_different_keys_make_different_values() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 5}
    assert len({json.dumps(value(schema, key)) for key in range(20)}) == 20


def test_a_schema_that_refers_to_itself_ends_soon() -> None:
    assert all(len(json.dumps(value(TREE, key))) < 10_000 for key in range(50))


@pytest.mark.parametrize(
    "schema",
    [
        None,
        1,
        "string",
        False,
        {"type": "strange"},
        {"type": 3},
        {"type": []},
        {"enum": []},
        {"enum": 3},
        {"anyOf": []},
        {"anyOf": [{"type": "strange"}, False]},
        {"type": "string", "pattern": "^a+$"},
        {"not": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"type": "array", "minItems": 3, "maxItems": 2},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "minItems": -1},
        {"type": "array", "minItems": "many"},
        {"type": "array", "minItems": 3, "prefixItems": [True], "items": False},
        {"type": "array", "items": False, "minItems": 1},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "format": "date", "maxLength": 3},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 3},
        {"type": "integer", "minimum": "low"},
        {"type": "integer", "minimum": math.inf},
        {"type": "integer", "multipleOf": 0},
        {"type": "number", "multipleOf": 0.01},
        {"type": "number", "minimum": 3, "exclusiveMaximum": 3},
        {"type": "number", "minimum": 4, "maximum": 3},
        {"type": "object", "properties": []},
        {"type": "object", "required": "a"},
        {"required": [[]]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "object", "properties": {"a": {"type": "strange"}}, "required": ["a"]},
        {"type": "object", "minProperties": 1, "additionalProperties": False},
        {"type": "object", "required": ["a", "b"], "maxProperties": 1},
        {"type": "object", "minProperties": 10**9},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"$ref": 3},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": 3}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 2},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"allOf": [{"enum": [1]}, {"enum": [2]}]},
        {"allOf": [{"const": 1}, {"const": 2}]},
        {"allOf": [{"const": "1"}, {"const": 2}]},
        {"allOf": [{"format": "date"}, {"format": "time"}]},
        {"allOf": 3},
        {"allOf": [{"properties": {"a": True}, "additionalProperties": False}, {"properties": {"b": True}}]},
        {"allOf": [{"properties": 3, "additionalProperties": False}, {"required": []}]},
    ],
    ids=repr,
)
def test_what_cannot_be_made_is_refused(schema: Any) -> None:
    for key in range(3):
        with pytest.raises(Unsupported):
            value(schema, key)


_KEYWORDS = (
    "type properties items required anyOf allOf $ref enum const minItems minimum maximum additionalProperties "
    "prefixItems minLength multipleOf format a"
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 50) | st.floats() | st.sampled_from(["object", "array", "x", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYWORDS.split()), inner, max_size=5),
    max_leaves=12,
)


@given(_JSON)
def test_anything_is_made_or_refused(schema: Any) -> None:
    try:
        found = value(schema, 1)
    except Unsupported:
        return
    json.dumps(found)
