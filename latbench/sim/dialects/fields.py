"""Reading and writing the JSON of requests and answers. Refusals are in OpenAI's words."""

import json
import math
from collections.abc import Mapping
from typing import Any

from latbench.sim.dialects import Refused

_BYTES_PER_TOKEN = 4
_MAX_TOKENS = 1_000_000  # an answer of years would be a typing error


def json_object(body: bytes) -> dict[str, Any]:
    """The fields of a request's body. Raises Refused where it is no JSON object."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return fields


def model(fields: Mapping[str, Any]) -> str:
    """The model's name. Raises Refused without one."""
    found = fields.get("model")
    if not isinstance(found, str) or not found:
        raise Refused(400, "you must provide a model parameter")
    return found


def flag(fields: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A field that is true or false; `default` where it is absent or null. Raises Refused for anything else."""
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Refused(400, f"Invalid type for '{name}': expected a boolean.", param=name, code="invalid_type")
    return value


def limit(fields: Mapping[str, Any], *names: str) -> int | None:
    """The limit of output tokens, under any one of `names`; null without one. Raises Refused for what is no limit."""
    given = [name for name in names if fields.get(name) is not None]
    if len(given) > 1:
        quoted = " and ".join(f"'{name}'" for name in sorted(given, key=len))
        raise Refused(400, f"Setting {quoted} at the same time is not supported.")
    if not given:
        return None
    name, value = given[0], fields[given[0]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type")
    if not 1 <= value <= _MAX_TOKENS:
        message = f"Invalid '{name}': expected a value from 1 to {_MAX_TOKENS}."
        raise Refused(400, message, param=name, code="invalid_value")
    return value


def entry(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object; empty where it is absent or null. Raises Refused for anything else."""
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused(400, f"Invalid type for '{name}': expected an object.", param=name, code="invalid_type")
    return value


def entries(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A field that is a list of objects; empty where it is absent or null. Raises Refused for anything else."""
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        message = f"Invalid type for '{name}': expected an array of objects."
        raise Refused(400, message, param=name, code="invalid_type")
    return value


def texts(content: object, where: str) -> bytes:
    """The text of what is a string, or a list of blocks with text in them, however deep. Raises Refused for the rest.

    Blocks without text (pictures, say) have none.
    """
    if content is None:
        return b""
    if isinstance(content, str):
        return text_bytes(content)
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        message = f"Invalid type for '{where}': expected a string or an array of objects."
        raise Refused(400, message, param=where, code="invalid_type")
    found = []
    for block in content:
        text = block.get("text")
        found.append(text_bytes(text) if isinstance(text, str) else texts(block.get("content"), f"{where}.content"))
    return b"".join(found)


def text_bytes(text: str) -> bytes:
    """UTF-8, lone surrogates included: JSON can say them."""
    return text.encode("utf-8", "surrogatepass")


def tokens(prompt: bytes) -> int:
    """How many tokens a prompt has: an estimate, at least 1."""
    return max(1, math.ceil(len(prompt) / _BYTES_PER_TOKEN))


def dump(value: object) -> bytes:
    """JSON without spaces, as the APIs send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def named_event(kind: str, fields: Mapping[str, Any]) -> bytes:
    """A server-sent event that says its type twice: in its name, and in its data."""
    return b"event: " + kind.encode() + b"\ndata: " + dump({"type": kind, **fields}) + b"\n\n"
