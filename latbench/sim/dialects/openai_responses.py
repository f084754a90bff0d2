"""OpenAI responses.

A stream is `response.created` and `response.in_progress` right after the headers, then item after item of the output
(reasoning, a message, function calls), each with its own events from `output_item.added` to `output_item.done`, and at
last `response.completed` or, at the limit of tokens, `response.incomplete`, which repeats everything. Events are
numbered. Reasoning is shown as text, as open models do: api.openai.com shows summaries at most. Function tools only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Parts, Refused, Reply, Start, Tool
from latbench.sim.dialects.fields import (
    dump,
    entries,
    entry,
    flag,
    json_object,
    limit,
    model,
    named_event,
    text_bytes,
    texts,
    tokens,
)
from latbench.sim.dialects.openai_api import OpenAIApi
from latbench.sim.dialects.openai_chat import chosen

_Item = dict[str, Any]


class OpenAIResponses(OpenAIApi):
    """The dialect."""

    paths: tuple[str, ...] = ("/v1/responses",)

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None: the list of models is the same as that of chat completions."""
        return {}

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        named = model(fields)
        items = _items(fields.get("input"))
        prompt = texts(fields.get("instructions"), "instructions") + b"".join(map(_text, items))
        tools, must_call = chosen(_offered(entries(fields, "tools")), fields.get("tool_choice"))
        return Ask(
            model=named,
            stream=flag(fields, "stream"),
            max_tokens=limit(fields, "max_output_tokens"),
            to_the_limit=flag(fields, "ignore_eos"),
            prompt_tokens=tokens(prompt),
            include_usage=True,
            prompt=prompt,
            reasoning=entry(fields, "reasoning").get("effort") != "none",
            tools=tools,
            must_call=must_call,
            parallel=flag(fields, "parallel_tool_calls", default=True),
            tool_rounds=_rounds(items),
            schema=_wanted_schema(entry(entry(fields, "text"), "format")),
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return ResponsesReply(start)


def _items(given: object) -> list[_Item]:
    """What the conversation consists of. A string is one message. Raises Refused for what is neither."""
    if given is None:
        raise Refused(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        message = "Invalid type for 'input': expected a string or an array of objects."
        raise Refused(400, message, param="input", code="invalid_type")
    return given


def _text(item: Mapping[str, Any]) -> bytes:
    """The text of an item: of a message, of a call or of its result."""
    arguments = item.get("arguments")
    called = text_bytes(arguments) if isinstance(arguments, str) else b""
    return texts(item.get("content"), "input") + called + texts(item.get("output"), "input")


def _rounds(items: Sequence[Mapping[str, Any]]) -> int:
    """Calls that stand together are one turn."""
    called = [item.get("type") == "function_call" for item in items]
    return sum(now and not before for before, now in zip([False, *called], called, strict=False))


def _offered(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions among the tools. Raises Refused for one without a name."""
    found = []
    for index, tool in enumerate(tools):
        if tool.get("type") != "function":
            continue
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            where = f"tools[{index}].name"
            message = f"Missing required parameter: '{where}'."
            raise Refused(400, message, param=where, code="missing_required_parameter")
        found.append(Tool(tool["name"], tool.get("parameters")))
    return tuple(found)


def _wanted_schema(form: Mapping[str, Any]) -> Any:  # noqa: ANN401  a JSON schema is any JSON
    if form.get("type") == "json_object":
        return True
    if form.get("type") != "json_schema":
        return None
    if not isinstance(form.get("schema"), dict | bool):
        message = "Missing required parameter: 'text.format.schema'."
        raise Refused(400, message, param="text.format.schema", code="missing_required_parameter")
    return form["schema"]


class ResponsesReply:
    """The bytes of one answer. `_output` holds the items that are whole, `_open` the one that is being written."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._sequence = 0
        self._output: list[_Item] = []
        self._open: _Item | None = None
        self._pieces: list[str] = []

    def greeting(self) -> bytes:
        """That the response is there, and that it is being made."""
        response = self._response("in_progress", None)
        events = ("response.created", "response.in_progress")
        return b"".join(self._event(kind, response=response) for kind in events)

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def reasoning(self, piece: str) -> bytes:
        """A delta of reasoning, with what has to stand before it."""
        return self._begin("reasoning") + self._piece("response.reasoning_text.delta", piece, content_index=0)

    def token(self, piece: str) -> bytes:
        """A delta of text, with what has to stand before it."""
        begun = self._begin("message")
        return begun + self._piece("response.output_text.delta", piece, content_index=0, logprobs=[])

    def call_opening(self, _index: int, call: Call) -> bytes:
        """The item that names the function."""
        return self._finish("completed") + self._added(_call_item(call, "in_progress", ""))

    def call_piece(self, _index: int, piece: str) -> bytes:
        """A delta of its arguments."""
        return self._piece("response.function_call_arguments.delta", piece)

    def call_closing(self, _index: int, _call: Call) -> bytes:
        """Its arguments, whole."""
        return self._finish("completed")

    def closing(self, end: End) -> list[bytes]:
        """The end of the last item, and of the response."""
        status = _status(end)
        events = [self._finish(status), self._event(f"response.{status}", response=self._response(status, end))]
        return [event for event in events if event]

    def error_event(self, refused: Refused) -> bytes:
        """An event of its own type, with the words in itself."""
        return self._event("error", code=refused.code or refused.kind, message=refused.message, param=refused.param)

    def garbage(self) -> bytes:
        """An event that is cut off in its middle."""
        cut = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"'
        return cut + b"\n\n"

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        status = _status(answer.end)
        if answer.reasoning:
            self._output.append(self._item("reasoning", "completed", answer.reasoning))
        if answer.text:
            self._output.append(self._item("message", status, answer.text))
        self._output += [_call_item(call, "completed", call.arguments) for call in answer.calls]
        return dump(self._response(status, answer.end))

    # --- items ----------------------------------------------------------------------------------------------------

    def _begin(self, kind: str) -> bytes:
        """Opens an item of text or of reasoning, unless it is open, and ends the one before."""
        if self._open is not None and self._open["type"] == kind:
            return b""
        ended = self._finish("completed")
        item = self._item(kind, "in_progress", None)
        return ended + self._added(item) + self._event("response.content_part.added", **self._place(), part=_part(kind))

    def _added(self, item: _Item) -> bytes:
        self._open, self._pieces = item, []
        return self._event("response.output_item.added", output_index=len(self._output), item=item)

    def _piece(self, event: str, piece: str, **more: object) -> bytes:
        self._pieces.append(piece)
        assert self._open is not None
        place = {"item_id": self._open["id"], "output_index": len(self._output), **more}
        return self._event(event, **place, delta=piece)

    def _finish(self, status: str) -> bytes:
        """Ends the item that is open, if one is."""
        item, text = self._open, "".join(self._pieces)
        if item is None:
            return b""
        kind, place = item["type"], self._place()
        if kind == "function_call":
            item = {**item, "status": status, "arguments": text}
            del place["content_index"]
            events = self._event("response.function_call_arguments.done", **place, name=item["name"], arguments=text)
        else:
            item = self._item(kind, status, text)
            done = "response.output_text.done" if kind == "message" else "response.reasoning_text.done"
            logprobs: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
            events = self._event(done, **place, text=text, **logprobs)
            events += self._event("response.content_part.done", **place, part=_part(kind, text))
        events += self._event("response.output_item.done", output_index=place["output_index"], item=item)
        self._output.append(item)
        self._open = None
        return events

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._output), "content_index": 0}

    def _item(self, kind: str, status: str, text: str | None) -> _Item:
        """A message or reasoning, without content where `text` is null."""
        content = [] if text is None else [_part(kind, text)]
        number = self._start.number
        if kind == "reasoning":
            return {"id": f"rs_sim_{number}", "type": kind, "summary": [], "content": content, "status": status}
        return {"id": f"msg_sim_{number}", "type": kind, "status": status, "role": "assistant", "content": content}

    # --- the whole ------------------------------------------------------------------------------------------------

    def _response(self, status: str, end: End | None) -> dict[str, Any]:
        """The response as it stands; with its counts once it has ended."""
        ask = self._start.ask
        return {
            "id": f"resp_sim_{self._start.number}",
            "object": "response",
            "created_at": self._start.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "max_output_tokens": ask.max_tokens,
            "model": ask.model,
            "output": list(self._output),
            "parallel_tool_calls": ask.parallel,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "required" if ask.must_call else "auto",
            "tools": [
                {"type": "function", "name": tool.name, "parameters": tool.schema, "strict": True} for tool in ask.tools
            ],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None if end is None else self._usage(end),
            "metadata": {},
        }

    def _usage(self, end: End) -> dict[str, Any]:
        start = self._start
        return {
            "input_tokens": start.ask.prompt_tokens,
            "input_tokens_details": {"cached_tokens": start.cached_tokens, "cache_write_tokens": start.written_tokens},
            "output_tokens": end.output_tokens,
            "output_tokens_details": {"reasoning_tokens": end.reasoning_tokens},
            "total_tokens": start.ask.prompt_tokens + end.output_tokens,
        }

    def _event(self, kind: str, **fields: object) -> bytes:
        numbered = named_event(kind, {**fields, "sequence_number": self._sequence})
        self._sequence += 1
        return numbered


def _status(end: End) -> str:
    return "incomplete" if end.finish == "length" else "completed"


def _part(kind: str, text: str = "") -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call_item(call: Call, status: str, arguments: str) -> _Item:
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }
