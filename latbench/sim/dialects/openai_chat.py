"""OpenAI chat completions as the API itself speaks it.

A stream is: a role chunk with empty content, one chunk a token, a chunk with the finish reason, with
`stream_options.include_usage` a chunk with empty choices and the usage, `[DONE]`. `usage: null` stands in every other
chunk exactly where usage was asked for. One choice only; `stop` and the sampling fields are ignored.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from latbench.sim.dialects import Ask, Refused

PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"

_BYTES_PER_TOKEN = 4
_MAX_TOKENS = 1_000_000  # an answer of years would be a typing error
_FINGERPRINT = "fp_sim"


def read(body: bytes) -> Ask:
    """What the body of a request asks for. Raises Refused as the API refuses."""
    fields = _fields(body)
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise Refused(400, "you must provide a model parameter")
    if fields.get("n") not in (None, 1):
        raise Refused(400, "this endpoint gives one choice: leave out 'n' or set it to 1.", param="n")
    stream = _flag(fields, "stream")
    return Ask(
        model=model,
        stream=stream,
        max_tokens=_limit(fields),
        to_the_limit=_flag(fields, "ignore_eos"),
        prompt_tokens=_prompt_tokens(fields.get("messages")),
        include_usage=_include_usage(fields.get("stream_options"), stream),
    )


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(fields, dict):
        raise Refused(400, "The body of the request must be a JSON object.")
    return fields


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"Invalid type for '{name}': expected a boolean.", param=name, code="invalid_type")
    return bool(value)


def _limit(fields: Mapping[str, Any]) -> int | None:
    given = [name for name in ("max_completion_tokens", "max_tokens") if fields.get(name) is not None]
    if len(given) > 1:
        raise Refused(400, "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if not given:
        return None
    name, value = given[0], fields[given[0]]
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type")
    if not 1 <= value <= _MAX_TOKENS:
        message = f"Invalid '{name}': expected a value from 1 to {_MAX_TOKENS}."
        raise Refused(400, message, param=name, code="invalid_value")
    return value


def _include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise Refused(400, message, param="stream_options")
    if not isinstance(options, dict):
        message = "Invalid type for 'stream_options': expected an object."
        raise Refused(400, message, param="stream_options", code="invalid_type")
    return _flag(options, "include_usage")


def _prompt_tokens(messages: object) -> int:
    """An estimate from the text of all messages, at least 1."""
    if messages is None:
        message = "Missing required parameter: 'messages'."
        raise Refused(400, message, param="messages", code="missing_required_parameter")
    if not isinstance(messages, list):
        raise Refused(400, "Invalid type for 'messages': expected an array.", param="messages", code="invalid_type")
    if not messages:
        message = "Invalid 'messages': empty array. Expected at least one message."
        raise Refused(400, message, param="messages", code="empty_array")
    size = sum(_message_bytes(message, f"messages[{index}]") for index, message in enumerate(messages))
    return max(1, math.ceil(size / _BYTES_PER_TOKEN))


def _message_bytes(message: object, where: str) -> int:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Refused(400, f"Invalid '{where}': expected an object with a role.", param=where, code="invalid_type")
    content = message.get("content")
    if content is None:  # an assistant's turn that only called tools
        return 0
    if isinstance(content, str):
        return _bytes(content)
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return sum(_bytes(part["text"]) for part in content if isinstance(part.get("text"), str))
    where = f"{where}.content"
    message_text = f"Invalid type for '{where}': expected a string or an array of objects."
    raise Refused(400, message_text, param=where, code="invalid_type")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class Reply:
    """The bytes of one answer. `number` names it, `created` is in seconds since 1970."""

    def __init__(self, ask: Ask, number: int, created: int) -> None:
        self._ask = ask
        self._head = {
            "id": f"chatcmpl-sim-{number}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": ask.model,
            "system_fingerprint": _FINGERPRINT,
        }
        # Everything around a token is the same in all chunks of an answer: it is made once.
        # (From the right: a model's name may hold anything, and stands before the content.)
        self._before, _, self._after = self._chunk({"content": "\x00"}, None).rpartition(_dump("\x00"))

    def opening(self) -> bytes:
        """The chunk that comes with the first token and says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None)

    def token(self, piece: str) -> bytes:
        """The chunk of one token."""
        return self._before + _dump(piece) + self._after

    def closing(self, finish_reason: str, output_tokens: int) -> list[bytes]:
        """The events after the last token."""
        events = [self._chunk({}, finish_reason)]
        if self._ask.include_usage:
            usage = _usage(self._ask.prompt_tokens, output_tokens)
            events.append(self._event({**self._head, "choices": [], "usage": usage}))
        return [*events, DONE]

    def plain(self, text: str, finish_reason: str, output_tokens: int) -> bytes:
        """The whole answer of a request that is not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        usage = _usage(self._ask.prompt_tokens, output_tokens)
        return _dump({**self._head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._ask.include_usage else {}
        return self._event({**self._head, "choices": [choice], **usage})

    @staticmethod
    def _event(chunk: dict[str, Any]) -> bytes:
        return b"data: " + _dump(chunk) + b"\n\n"


def error(refused: Refused) -> bytes:
    """The body of an error."""
    fields = {"message": refused.message, "type": refused.kind, "param": refused.param, "code": refused.code}
    return _dump({"error": fields})


def unknown_model(model: str) -> Refused:
    """What a request for a model that is not there gets."""
    return Refused(
        404, f"The model `{model[:200]}` does not exist or you do not have access to it.", code="model_not_found"
    )


def unknown_path(method: str, path: str) -> Refused:
    """What a request to a route that is not there gets."""
    return Refused(404, f"Invalid URL ({method} {path[:200]})")


def bad_key() -> Refused:
    """What a request without the right key gets."""
    return Refused(401, "Incorrect API key provided.", code="invalid_api_key")


def too_large(limit_bytes: int) -> Refused:
    """What a request with too long a body gets."""
    return Refused(413, f"The body of the request is longer than {limit_bytes} bytes.", code="request_too_large")


def models(model: str, created: int) -> bytes:
    """The list of models."""
    entry = {"id": model, "object": "model", "created": created, "owned_by": "latbench"}
    return _dump({"object": "list", "data": [entry]})
