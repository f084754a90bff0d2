"""Azure OpenAI: chat completions under the path of a deployment, and under that of the v1 API.

By the dated API the deployment is the model, `api-version` has to be said, and a stream begins with a chunk that has no
choices and no names, but what the content filter found in the prompt. The v1 API is plain chat completions. Of the
filter, whose default holds output back and hands it out in blocks, nothing more is here.
"""

from collections.abc import Mapping, Sequence

from latbench.sim.dialects import Ask, Hit, Parts, Refused, Reply, Room, Start
from latbench.sim.dialects.fields import dump, json_object
from latbench.sim.dialects.openai_api import ceil_ms, retry_after
from latbench.sim.dialects.openai_chat import ChatReply, OpenAIChat, read

_LIMITS = {"requests": "call rate limit", "tokens": "token rate limit", "concurrency": "concurrent request limit"}
_SAFE = {"filtered": False, "severity": "safe"}
_FILTER = dict.fromkeys(("hate", "self_harm", "sexual", "violence"), _SAFE)


class AzureOpenAI(OpenAIChat):
    """The dialect."""

    paths: tuple[str, ...] = ("/openai/deployments/{deployment}/chat/completions", "/openai/v1/chat/completions")
    id_header = "apim-request-id"

    def pages(self, _model: str, _created: int) -> Mapping[str, bytes]:
        """None."""
        return {}

    def key(self, parts: Parts) -> str:
        """From `api-key`, or a token from `Authorization: Bearer`."""
        return parts.headers.get("api-key") or super().key(parts)

    def read(self, parts: Parts) -> Ask:
        """What a request asks for. Raises Refused as the API refuses."""
        fields = json_object(parts.body)
        deployment = parts.path.get("deployment")
        if deployment is None:
            return read(fields)
        if not parts.query.get("api-version"):
            raise Refused(404, "Resource not found", code="404")
        return read({**fields, "model": deployment})

    def reply(self, start: Start) -> Reply:
        """The writer of one answer."""
        return AzureReply(start)

    def limit_headers(self, rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """`x-ratelimit-*`; of resets only that of tokens, in whole seconds."""
        headers: dict[str, str] = {}
        for room in rooms:
            headers[f"x-ratelimit-limit-{room.kind}"] = str(room.limit)
            headers[f"x-ratelimit-remaining-{room.kind}"] = str(room.remaining)
            if room.kind == "tokens":
                headers["x-ratelimit-reset-tokens"] = str(_seconds(room.reset_s))
        return headers

    def limited(self, hit: Hit) -> Refused:
        """429. A request that is larger than the limit is told the same as any other."""
        message = (
            f"Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded {_LIMITS[hit.kind]}"
            " of your current OpenAI S0 pricing tier."
        )
        if hit.wait_s is None:
            return Refused(429, message, code="429")
        message += f" Please retry after {_seconds(hit.wait_s)} seconds."
        return Refused(429, message, code="429", headers=retry_after(hit.wait_s))

    def bad_key(self) -> Refused:
        """401."""
        message = "Access denied due to invalid subscription key or wrong API endpoint."
        return Refused(401, message, code="401")

    def unknown_model(self, _model: str) -> Refused:
        """404."""
        return Refused(404, "The API deployment for this resource does not exist.", code="DeploymentNotFound")

    def error(self, refused: Refused, _request_id: str = "") -> bytes:
        """The body of an error: the gateway's own have a code and a message, the model's have all four fields."""
        if refused.code in ("401", "404", "429", "DeploymentNotFound"):
            return dump({"error": {"code": refused.code, "message": refused.message}})
        return super().error(refused)


class AzureReply(ChatReply):
    """The bytes of one answer."""

    def opening(self) -> bytes:
        """What the filter found in the prompt, and then as ever."""
        prompt = {"prompt_index": 0, "content_filter_results": _FILTER}
        nameless = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [prompt]}
        return b"data: " + dump(nameless) + b"\n\n" + super().opening()


def _seconds(wait_s: float) -> int:
    return -(-ceil_ms(wait_s) // 1000)
