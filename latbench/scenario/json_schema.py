"""JSON Schemas: whether one is any, and whether an answer satisfies it.

An answer satisfies its schema if it is one JSON value that does; white space around it and one fence are forgiven in
every output mode alike, because every reader of such answers strips them. What is longer than 256 kB satisfies none: an
endpoint must not keep a worker busy with what it sends.

A module of its own, because jsonschema takes a twentieth of a second to import and a run in text mode has no schema.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema
import msgspec
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, SchemaRegistry, SchemaResource

from latbench.model.errors import UserError

_NOWHERE: SchemaRegistry = Registry()  # the library's own fetches from the network what a schema refers to
_FENCE = "```"
_MOST_BYTES = 1 << 18  # of an answer are held against a schema


def check_schema(schema: object) -> dict[str, Any]:
    """`schema`, if it is a JSON Schema of an object. Raises UserError where it is not."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise UserError("must be a JSON Schema with `type: object`, which is what providers take")
    dialect = schema.get("$schema", "")
    if not isinstance(dialect, str) or (dialect and validator_for(schema, default=None) is None):
        raise UserError("not a JSON Schema at $schema: names no draft that is known; leave it out for 2020-12")
    try:
        validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as fault:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.absolute_path)
        raise UserError(f"not a JSON Schema{f' at {where[1:]}' if where else ''}: {fault.message[:200]}") from fault
    for reference in _dangling(schema):
        raise UserError(f"{reference[:200]}: a reference to what is not in this JSON Schema; put it under $defs")
    return schema


def _dangling(schema: dict[str, Any]) -> Iterator[str]:
    """The references that lead out of the schema, or nowhere."""
    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    to_see: list[tuple[SchemaResource, Any]] = [(root, _NOWHERE.resolver_with_root(root))]
    while to_see:
        found, resolver = to_see.pop()
        to_see += [(inner, resolver.in_subresource(inner)) for inner in found.subresources()]
        if isinstance(found.contents, Mapping):
            for reference in (found.contents[key] for key in ("$ref", "$dynamicRef") if key in found.contents):
                try:
                    resolver.lookup(reference)
                except Unresolvable:
                    yield reference


def schema_check(schema: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a text is JSON that satisfies the schema; false for more than 256 kB of UTF-8."""
    validator = validator_for(schema)(schema, registry=_NOWHERE)

    def satisfies(text: str) -> bool:
        try:
            if len(text.encode()) > _MOST_BYTES:
                return False
            return bool(validator.is_valid(msgspec.json.decode(_unfenced(text).encode())))
        except (msgspec.DecodeError, UnicodeError, RecursionError, ArithmeticError, Unresolvable):
            return False  # arithmetic: a huge integer has no quotient with a `multipleOf` that is a fraction

    return satisfies


def _unfenced(text: str) -> str:
    """What stands between the lines of a fence, with or without the name of a language; else the text itself."""
    # No regular expression: one that forgives white space takes cubic time for a text of newlines.
    opening, _, rest = text.strip().partition("\n")
    inside, _, closing = rest.rpartition("\n")
    word = opening.removeprefix(_FENCE).rstrip()
    named = not word or (word.isascii() and word.isalpha())
    return inside if opening.startswith(_FENCE) and named and closing.strip() == _FENCE else text
