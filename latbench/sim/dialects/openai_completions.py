"""OpenAI completions, the older API: a text that is gone on with, or a gap that is filled (`suffix`).

A stream is: one chunk a token, a chunk with the finish reason, with `stream_options.include_usage` a chunk with empty
choices and the usage, `[DONE]`. A plain answer has the shape of a chunk. There is no chunk for the role, there are no
tools and no schemas, and reasoning is left out. One prompt and one choice only.
"""

from collections.abc import Mapping
from typing import Any

from latbench.sim.dialects import Answer, Ask, Call, End, Parts, Refused, Reply, Start
from latbench.sim.dialects.fields import dump, flag, json_object, limit, model, text_bytes, tokens
from latbench.sim.dialects.openai_api import OpenAIApi, error
from latbench.sim.dialects.openai_chat import DONE, FINISH, include_usage, usage

_OBJECT = "text_completion"


class OpenAICompletions(OpenAIApi):
    """The dialect."""

    paths: tuple[str, ...] = ("/v1/completions",)

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None: the list of models is the same as that of chat completions."""
        return {}

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        named = model(fields)
        for name in ("n", "best_of"):
            if fields.get(name) not in (None, 1):
                raise Refused(400, f"this endpoint gives one choice: leave out '{name}' or set it to 1.", param=name)
        stream = flag(fields, "stream")
        prompt, count = _prompt(fields.get("prompt"))
        suffix = fields.get("suffix")
        if suffix is not None and not isinstance(suffix, str):
            raise Refused(400, "Invalid type for 'suffix': expected a string.", param="suffix", code="invalid_type")
        after = text_bytes(suffix or "")
        return Ask(
            model=named,
            stream=stream,
            max_tokens=limit(fields, "max_tokens"),
            to_the_limit=flag(fields, "ignore_eos"),
            prompt_tokens=tokens(prompt + after) if count is None else count + tokens(after) * bool(after),
            include_usage=include_usage(fields.get("stream_options"), stream),
            prompt=prompt + after,
            reasoning=False,
            fill=suffix is not None,
        )

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return CompletionsReply(start)


def _prompt(prompt: object) -> tuple[bytes, int | None]:
    """The text of the prompt, and how many tokens it has if it came as such. Raises Refused for what is none."""
    if prompt is None:
        message = "Missing required parameter: 'prompt'."
        raise Refused(400, message, param="prompt", code="missing_required_parameter")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return text_bytes(prompt), None
    if isinstance(prompt, list) and prompt and all(type(one) is int for one in prompt):
        return dump(prompt), len(prompt)
    message = "Invalid 'prompt': expected one string, or the numbers of the tokens of one."
    raise Refused(400, message, param="prompt", code="invalid_type")


class CompletionsReply:
    """The bytes of one answer."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, start: Start) -> None:
        self._start = start
        self._head = {
            "id": f"cmpl-sim-{start.number}",
            "object": _OBJECT,
            "created": start.created,
            "model": start.ask.model,
        }
        # Everything around a token is the same in all chunks of an answer: it is made once.
        self._before, _, self._after = self._chunk("\x00", None).rpartition(dump("\x00"))

    def greeting(self) -> bytes:
        """Nothing."""
        return b""

    def opening(self) -> bytes:
        """Nothing: there are no roles."""
        return b""

    def reasoning(self, _piece: str) -> bytes:
        """Nothing: the API knows none."""
        return b""

    def token(self, piece: str) -> bytes:
        """The chunk of one token."""
        return self._before + dump(piece) + self._after

    def call_opening(self, _index: int, _call: Call) -> bytes:
        """Nothing: the API knows no tools."""
        return b""

    def call_piece(self, _index: int, _piece: str) -> bytes:
        """Nothing."""
        return b""

    def call_closing(self, _index: int, _call: Call) -> bytes:
        """Nothing."""
        return b""

    def closing(self, end: End) -> list[bytes]:
        """The events after the last token."""
        events = [self._chunk("", FINISH[end.finish])]
        if self._start.ask.include_usage:
            events.append(self._event({**self._head, "choices": [], "usage": usage(self._start, end)}))
        return [*events, DONE]

    def error_event(self, refused: Refused) -> bytes:
        """An event with the body of an error."""
        return b"data: " + error(refused) + b"\n\n"

    def garbage(self) -> bytes:
        """A chunk that is cut off in its middle."""
        return self._before + b'"\n\n'

    def plain(self, answer: Answer) -> bytes:
        """The whole answer of a request that is not streamed."""
        choice = _choice(answer.text, FINISH[answer.end.finish])
        return dump({**self._head, "choices": [choice], "usage": usage(self._start, answer.end)})

    def _chunk(self, text: str, finish_reason: str | None) -> bytes:
        counts = {"usage": None} if self._start.ask.include_usage else {}
        return self._event({**self._head, "choices": [_choice(text, finish_reason)], **counts})

    @staticmethod
    def _event(chunk: Mapping[str, Any]) -> bytes:
        return b"data: " + dump(chunk) + b"\n\n"


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
