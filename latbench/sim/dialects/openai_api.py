"""What all APIs of OpenAI's shape have in common: the key, errors, rate limits, the list of models."""

import math
import re
from collections.abc import Mapping, Sequence

from latbench.sim.dialects import Hit, Parts, Refused, Room
from latbench.sim.dialects.fields import dump

_BEARER = "Bearer "
_UNITS = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}


class OpenAIApi:
    """The base of these dialects."""

    id_header = "x-request-id"

    def pages(self, model: str, created: int) -> Mapping[str, bytes]:
        """The list of models."""
        return {"/v1/models": models(model, created)}

    def key(self, parts: Parts) -> str:
        """From `Authorization: Bearer`."""
        given = parts.headers.get("authorization", "")
        return given.removeprefix(_BEARER) if given.startswith(_BEARER) else ""

    def error(self, refused: Refused, _request_id: str = "") -> bytes:
        """The body of an error."""
        return error(refused)

    def limit_headers(self, rooms: Sequence[Room], _now_s: float) -> Mapping[str, str]:
        """`x-ratelimit-*`."""
        headers: dict[str, str] = {}
        for room in rooms:
            headers[f"x-ratelimit-limit-{room.kind}"] = str(room.limit)
            headers[f"x-ratelimit-remaining-{room.kind}"] = str(room.remaining)
            headers[f"x-ratelimit-reset-{room.kind}"] = duration(room.reset_s)
        return headers

    def limited(self, hit: Hit) -> Refused:
        """429 with the wait in the message and in the headers."""
        if hit.wait_s is None:
            message = (
                f"Request too large for {hit.kind} per min: Limit {hit.limit}, Requested {hit.requested}. "
                "The input or output tokens must be reduced in order to run successfully."
            )
            return Refused(429, message, kind=hit.kind, code="rate_limit_exceeded")
        if hit.kind == "concurrency":
            message = f"Too many requests at a time: Limit {hit.limit}, Used {hit.used}, Requested {hit.requested}."
        else:
            message = (
                f"Rate limit reached on {_UNITS[hit.kind]}: Limit {hit.limit}, Used {hit.used}, "
                f"Requested {hit.requested}."
            )
        message += f" Please try again in {duration(hit.wait_s)}."
        kind = "requests" if hit.kind == "concurrency" else hit.kind
        return Refused(429, message, kind=kind, code="rate_limit_exceeded", headers=retry_after(hit.wait_s))

    def failure(self, status: int) -> Refused:
        """500, or the endpoint is overloaded."""
        return failure(status)

    def bad_key(self) -> Refused:
        """401."""
        return Refused(401, "Incorrect API key provided.", code="invalid_api_key")

    def unknown_model(self, model: str) -> Refused:
        """404."""
        message = f"The model `{model[:200]}` does not exist or you do not have access to it."
        return Refused(404, message, code="model_not_found")

    def too_large(self, limit_bytes: int) -> Refused:
        """413."""
        return Refused(413, f"The body of the request is longer than {limit_bytes} bytes.", code="request_too_large")


def error(refused: Refused) -> bytes:
    """The body of an error."""
    fields = {"message": refused.message, "type": refused.kind, "param": refused.param, "code": refused.code}
    return dump({"error": fields})


def failure(status: int) -> Refused:
    """500, or the endpoint is overloaded."""
    if status == 500:
        return Refused(500, "The server had an error while processing your request.", kind="server_error")
    message = "The server is currently overloaded. Please try again later."
    return Refused(status, message, kind="service_unavailable_error", code="server_is_overloaded")


def models(model: str, created: int) -> bytes:
    """The list of models."""
    entry = {"id": model, "object": "model", "created": created, "owned_by": "latbench"}
    return dump({"object": "list", "data": [entry]})


def unknown_path(method: str, path: str) -> Refused:
    """What a request to a route that is not there gets."""
    return Refused(404, f"Invalid URL ({method} {path[:200]})")


def retry_after(wait_s: float) -> dict[str, str]:
    """The headers that say how long to wait, rounded up: after it there is room."""
    wait_ms = ceil_ms(wait_s)
    return {"retry-after": str(-(-wait_ms // 1000)), "retry-after-ms": str(wait_ms)}


def ceil_ms(wait_s: float) -> int:
    """Whole milliseconds, rounded up, at least 1."""
    return max(1, math.ceil(wait_s * 1000))


def duration(seconds: float) -> str:
    """As Go writes it: `120ms`, `1.146s`, `6m0s`, `1h0m0s`."""
    total_ms = math.ceil(seconds * 1000)
    if total_ms < 1000:
        return f"{total_ms}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    text = re.sub(r"\.?0+$", "", f"{rest_ms / 1000:.3f}") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
