"""Requests, encoded before they are due: only the nonce is put in when one leaves.

A body is built once for each endpoint, prompt and output mode with a stand-in where the nonce goes, and cut there. The
nonce is hexadecimal, so that it needs no escaping in any encoding a dialect may use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latbench.engine.transport import Post
from latbench.model.book import Book
from latbench.model.frames import Job
from latbench.model.request import PROMPTED, TEXT, Ask, Fill, Message, Tool
from latbench.plan.draw import NONCE_CHARS, open_with
from latbench.plan.modes import prompted
from latbench.providers.registry import DIALECTS

MEMORY_BYTES = 256 << 20
_STAND_IN = "f0" * (NONCE_CHARS // 2)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A request without its nonce."""

    path: str
    before: bytes
    after: bytes

    def post(self, nonce: str) -> Post:
        return Post(self.path, self.before + nonce.encode("ascii") + self.after)


class Bodies:
    """The encoded requests of a job. What does not fit into `MEMORY_BYTES` is encoded when it is asked for.

    So is what stands in a book: each of its pages goes out once, shortly after it was read.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._cut: dict[tuple[int, int, str], _Cut] = {}
        self._book = Book(Path(job.book)) if job.book else None
        if self._book is not None:
            return
        size = 0
        for endpoint in range(len(job.endpoints)):
            for prompt in range(len(job.prompts)):
                for mode in job.modes:
                    cut = self._of_prompt(endpoint, prompt, self.max_tokens(prompt), mode)
                    size += len(cut.before) + len(cut.after)
                    if size > MEMORY_BYTES:
                        return
                    self._cut[endpoint, prompt, mode] = cut

    def max_tokens(self, prompt: int, wanted: int = 0) -> int:
        """The longest answer to ask for: `wanted`, else the scenario's or the prompt's own, whichever is smaller."""
        everywhere = self._job.max_tokens
        return wanted or min(everywhere, self._job.prompts[prompt].max_tokens or everywhere)

    def get(self, endpoint: int, prompt: int, nonce: str, max_tokens: int = 0, mode: str = TEXT) -> Post:
        """The request that asks `endpoint` for `prompt`; `nonce` is empty where the prompt goes out as it is.

        `max_tokens`, if not 0, is asked for instead of what scenario and prompt say.
        """
        cut = None if max_tokens else self._cut.get((endpoint, prompt, mode))
        if cut is None:
            cut = self._of_prompt(endpoint, prompt, self.max_tokens(prompt, max_tokens), mode)
        return cut.post(nonce)

    def conversation(
        self,
        endpoint: int,
        messages: Sequence[Message],
        nonce: str,
        max_tokens: int,
        mode: str = TEXT,
        tools: tuple[Tool, ...] = (),
    ) -> Post:
        """The request of a turn that carries the earlier ones and offers `tools`; the nonce opens the conversation."""
        return self._encode(endpoint, messages, max_tokens, mode, tools=tools).post(nonce)

    def _of_prompt(self, endpoint: int, prompt: int, max_tokens: int, mode: str) -> _Cut:
        found = self._job.prompts[prompt]
        messages = found.messages if self._book is None else self._book.messages(prompt)
        return self._encode(endpoint, messages, max_tokens, mode, found.fill)

    def _encode(
        self,
        endpoint: int,
        messages: Sequence[Message],
        max_tokens: int,
        mode: str,
        fill: Fill | None = None,
        tools: tuple[Tool, ...] = (),
    ) -> _Cut:
        to, job = self._job.endpoints[endpoint], self._job
        dialect = DIALECTS[to.api]
        if mode == PROMPTED:
            messages, mode, fill = prompted(messages, job.schema), TEXT, None
        fill = fill if dialect.fills and mode == TEXT else None
        if job.cold:
            messages = open_with(_STAND_IN, messages)
            fill = fill and Fill(f"# {_STAND_IN}\n{fill.prefix}", fill.suffix)
        ask = Ask(tuple(messages), max_tokens, mode, None if mode == TEXT else job.schema, fill, tools)
        request = dialect.build(to, ask)
        if not job.cold:
            return _Cut(request.path, request.body, b"")
        before, found, after = request.body.partition(_STAND_IN.encode("ascii"))
        if not found:
            raise ValueError(f"{to.api} does not send the prompt as it stands: no place for the nonce")
        return _Cut(request.path, before, after)
