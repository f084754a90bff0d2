"""Google's Gemini API: `generateContent`, and its stream as server-sent events.

A stream is one chunk a token (the real one puts many tokens into a chunk), each with the counts so far, and a last one
with the finish reason, which is STOP for a function call, too. A function call comes whole. There is no event for the
end. Thoughts are always counted, and shown where `includeThoughts` asks for them. A stream without `alt=sse`, which is
one JSON array there, is refused here.

There are no headers for limits: an error says all in its details. It comes raw inside a stream, over several lines.

As all of Google's JSON, names of fields may be in snake case, too: the SDK sends some so.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Hit, Parts, Refused, Reply, Room, Start, Tool
from latbench.sim.dialects.fields import dump, entries, entry, flag, json_object, limit, texts, tokens

_SERVICE = "generativelanguage.googleapis.com"
_TYPE = "type.googleapis.com/google.rpc."
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_QUOTAS = {
    "requests": ("generate_content_paid_tier_requests", "GenerateRequestsPerMinutePerProjectPerModel"),
    "tokens": ("generate_content_paid_tier_token_count", "GenerateContentPaidTierTokensPerModelPerMinute"),
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool": "STOP"}


class Gemini:
    """The dialect."""

    paths: tuple[str, ...] = (
        "/{version:v1|v1alpha|v1beta}/models/{model}:{method:generateContent|streamGenerateContent}",
    )
    id_header = "x-request-id"

    def pages(self, model: str, _created: int) -> Mapping[str, bytes]:
        """The list of models, and this one. (That of `/v1` is OpenAI's.)"""
        methods = ["generateContent", "countTokens"]
        listed = {"name": f"models/{model}", "displayName": model, "supportedGenerationMethods": methods}
        return {"/v1beta/models": dump({"models": [listed]}), f"/v1beta/models/{model}": dump(listed)}

    def key(self, parts: Parts) -> str:
        """From `x-goog-api-key`, or the query's `key`."""
        return parts.headers.get("x-goog-api-key") or parts.query.get("key", "")

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        stream = parts.path["method"] == "streamGenerateContent"
        if stream and parts.query.get("alt") != "sse":
            raise Refused(400, "This endpoint streams with alt=sse only.")
        fields = _camel(json_object(parts.body))
        contents = entries(fields, "contents")
        if not contents:
            raise Refused(400, "* GenerateContentRequest.contents: contents is not specified\n")
        turns = [entry(fields, "systemInstruction"), *contents]
        prompt = b"".join(texts(turn.get("parts"), "parts") for turn in turns)
        config = _entry(fields, "generationConfig")
        thinking = _entry(config, "thinkingConfig")
        tools, must_call = _chosen(_offered(entries(fields, "tools")), _entry(fields, "toolConfig"))
        return Ask(
            model=parts.path["model"],
            stream=stream,
            max_tokens=limit(config, "maxOutputTokens"),
            to_the_limit=False,
            prompt_tokens=tokens(prompt),
            include_usage=True,
            prompt=prompt,
            reasoning=thinking.get("thinkingBudget") != 0,
            tools=tools,
            must_call=must_call,
            tool_rounds=sum(_has_called(turn) for turn in contents),
            schema=_wanted_schema(config),
            reasoning_shown=flag(thinking, "includeThoughts"),
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return GeminiReply(start)

    def error(self, refused: Refused, _request_id: str) -> bytes:
        """The body of an error, over several lines as it really comes."""
        return _error(refused)

    def limit_headers(self, _rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """None: the API has none."""
        return {}

    def limited(self, hit: Hit) -> Refused:
        """429. What was hit and how long to wait is in the details; of concurrency it is not told."""
        if hit.kind == "concurrency":
            return Refused(429, "Resource has been exhausted (e.g. check quota).")
        metric, quota = _QUOTAS[hit.kind]
        metric = f"{_SERVICE}/{metric}"
        violation = {"quotaMetric": metric, "quotaId": quota, "quotaValue": str(hit.limit)}
        details: list[dict[str, Any]] = [{"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}]
        message = (
            "You exceeded your current quota, please check your plan and billing details.\n"
            f"* Quota exceeded for metric: {metric}, limit: {hit.limit}"
        )
        if hit.wait_s is not None:
            message += f"\nPlease retry in {hit.wait_s:.9f}s."
            details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{hit.wait_s:.9f}s"})
        return Refused(429, message, details=details)

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        if status == 500:
            return Refused(500, "An internal error has occurred. Please retry.")
        return Refused(status, "The model is overloaded. Please try again later.")

    def bad_key(self) -> Refused:
        """400: this API has no 401 for a key."""
        info = {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
        details = [{**info, "metadata": {"service": _SERVICE}}]
        return Refused(400, "API key not valid. Please pass a valid API key.", details=details)

    def unknown_model(self, model: str) -> Refused:
        """404."""
        message = f"models/{model[:200]} is not found for API version v1beta, or is not supported for generateContent."
        return Refused(404, message)

    def too_large(self, limit_bytes: int) -> Refused:
        """413."""
        return Refused(413, f"Request payload size exceeds the limit: {limit_bytes} bytes.")


def _error(refused: Refused) -> bytes:
    said: dict[str, Any] = {
        "code": refused.status,
        "message": refused.message,
        "status": _STATUS.get(refused.status, "UNKNOWN"),
    }
    if refused.details is not None:
        said["details"] = refused.details
    return json.dumps({"error": said}, indent=2).encode() + b"\n"


def _camel(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by their names in camel case. What is in them stays as it is: there may be names of others in it."""
    return {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value for name, value in fields.items()}


def _entry(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _camel(entry(fields, name))


def _has_called(turn: Mapping[str, Any]) -> bool:
    return any(_camel(part).get("functionCall") for part in entries(turn, "parts"))


def _offered(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions that are declared. Raises Refused for one without a name."""
    found = []
    for tool in tools:
        for function in map(_camel, entries(_camel(tool), "functionDeclarations")):
            if not isinstance(function.get("name"), str) or not function["name"]:
                raise Refused(400, "* GenerateContentRequest.tools[0].function_declarations[0].name: is required\n")
            schema = function.get("parametersJsonSchema")
            found.append(Tool(function["name"], function.get("parameters") if schema is None else schema))
    return tuple(found)


def _chosen(tools: tuple[Tool, ...], config: Mapping[str, Any]) -> tuple[tuple[Tool, ...], bool]:
    """The tools that the mode leaves, and whether one has to be called. Raises Refused where none is left to call."""
    calling = _entry(config, "functionCallingConfig")
    mode, allowed = calling.get("mode"), calling.get("allowedFunctionNames")
    if mode == "NONE":
        return (), False
    left = tuple(tool for tool in tools if not isinstance(allowed, list) or not allowed or tool.name in allowed)
    if mode == "ANY" and not left:
        raise Refused(400, "Function calling config is set without function_declarations.")
    return left, mode == "ANY"


def _wanted_schema(config: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    if config.get("responseMimeType") != "application/json":
        return None
    for name in ("responseJsonSchema", "responseSchema"):
        if config.get(name) is not None:
            return config[name]
    return True


class GeminiReply:
    """The bytes of one answer, which counts what it has sent."""

    content_type = "text/event-stream"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._thoughts = 0
        self._said = 0

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """A chunk with a thought, where thoughts are shown."""
        self._thoughts += 1
        return self._chunk({"text": piece, "thought": True}) if self._start.ask.reasoning_shown else b""

    def token(self, piece: str) -> bytes:
        """A chunk with one token."""
        self._said += 1
        return self._chunk({"text": piece})

    def call_opening(self, _index: int, _call: Call) -> bytes:
        """Nothing: a call comes whole."""
        return b""

    def call_piece(self, _index: int, _piece: str) -> bytes:
        """Nothing, but it counts."""
        self._said += 1
        return b""

    def call_closing(self, _index: int, call: Call) -> bytes:
        """A chunk with the whole call."""
        return self._chunk(_call_part(call))

    def closing(self, end: End) -> list[bytes]:
        """A chunk with the finish reason and the final counts."""
        said = end.output_tokens - end.reasoning_tokens
        response = self._response([{"text": ""}], _FINISH[end.finish], said, end.reasoning_tokens)
        return [b"data: " + dump(response) + b"\r\n\r\n"]

    def error_event(self, refused: Refused) -> bytes:
        """The body of an error as it is, without `data:`."""
        return _error(refused)

    def garbage(self) -> bytes:
        """A chunk that is cut off in its middle."""
        return b'data: {"candidates":[{"content":{"parts":[{"text":"\r\n\r\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        parts: list[dict[str, Any]] = []
        if answer.reasoning and self._start.ask.reasoning_shown:
            parts.append({"text": answer.reasoning, "thought": True})
        if answer.text:
            parts.append({"text": answer.text})
        parts += [_call_part(call) for call in answer.calls]
        end = answer.end
        said = end.output_tokens - end.reasoning_tokens
        return dump(self._response(parts, _FINISH[end.finish], said, end.reasoning_tokens))

    def _chunk(self, part: Mapping[str, Any]) -> bytes:
        return b"data: " + dump(self._response([part], None, self._said, self._thoughts)) + b"\r\n\r\n"

    def _response(
        self, parts: Sequence[Mapping[str, Any]], finish: str | None, said: int, thoughts: int
    ) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        return {
            "candidates": [candidate],
            "usageMetadata": self._usage(said, thoughts),
            "modelVersion": self._start.ask.model,
            "responseId": f"sim-{self._start.number}",
        }

    def _usage(self, said: int, thoughts: int) -> dict[str, Any]:
        """What was thought is not among what was said; of zeros there is no mention."""
        prompt = self._start.ask.prompt_tokens
        counts = {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": self._start.cached_tokens,
            "candidatesTokenCount": said,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + said + thoughts,
        }
        by_kind = {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}]}
        return {name: count for name, count in counts.items() if count} | by_kind


def _call_part(call: Call) -> dict[str, Any]:
    return {"functionCall": {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}}
