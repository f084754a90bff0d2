"""One file per API that the simulated endpoint speaks: sans-IO, bytes in and bytes out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for, whatever the API.

    `max_tokens` is null where the request sets no limit; `to_the_limit` is true where the answer must not end before
    it. `prompt_tokens` is estimated at 4 bytes a token.
    """

    model: str
    stream: bool
    max_tokens: int | None
    to_the_limit: bool
    prompt_tokens: int
    include_usage: bool


class Refused(Exception):
    """A request that gets an error instead of an answer. `kind`, `param` and `code` are the API's own words."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
